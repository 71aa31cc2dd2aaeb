//! Lossless sessions: every listed receiver gets every byte, or is reported by name with the reason.
//!
//! The sender invites ([`wire::Message::Manifest`]), the receivers get ready, data goes out in super-packets by
//! unicast or multicast, and after each round the union of what receivers miss goes out again. This file finds
//! the session that a packet or a command is for; the rest is [`sender`], [`receiver`] and [`pace`].

mod bitmap;
mod cadence;
mod outbox;
mod pace;
mod peer;
mod plan;
mod receiver;
pub(crate) mod report;
mod sender;
mod transfer;
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::{
    AddressPlan, CommandError, Instant, Io, NodeConfig, NodeId, Packet, SessionConfig, SessionId,
    SessionReport, SharedBytes,
};
pub(crate) use outbox::Outgoing;
use outbox::{Envelope, Outbox};
use receiver::Receiver;
use report::SessionState;
use sender::{Offer, Sender};
use wire::{Header, Message, Terms};

/// Offsets have 48 bits on the wire (and segments are numbered with 32).
const MAX_TRANSFER: u64 = 1 << 48;
/// Finished sessions whose reports are kept.
const RECORDS: usize = 256;
/// Invitations for another count than ours after which the oldest waiting session takes it: one side was restarted.
const STUBBORN_INVITATIONS: u32 = 3;

/// The id of the `n`-th transfer from `source` to `dest`, equal on both sides.
///
/// 32 bits of address (a group's stands for the group), 16 of source, 15 of count: always a positive `i64`.
#[must_use]
pub fn session_id(dest: Ipv4Addr, source: NodeId, n: u32) -> SessionId {
    u64::from(u32::from(dest)) << 31 | u64::from(source & 0xffff) << 15 | u64::from(n & 0x7fff)
}

/// Makes an empty vector with room for so many bytes, or says that there is none.
pub type SinkAllocator = fn(usize) -> Option<Vec<u8>>;

fn plain_sink(len: usize) -> Option<Vec<u8>> {
    let mut sink = Vec::new();
    sink.try_reserve_exact(len).ok().map(|()| sink)
}

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct Sessions {
    outbox: Outbox,
    limits: SessionConfig,
    allocate: SinkAllocator,
    senders: BTreeMap<SessionId, Sender>,
    receivers: BTreeMap<SessionId, Receiver>,
    /// Our sessions by the tags that we chose, and others' by theirs.
    sent_tags: BTreeMap<u32, SessionId>,
    received_tags: BTreeMap<(NodeId, u32), SessionId>,
    /// Transfers so far: ours per destination, ours per destination and receiver, others' per destination and source.
    sent: BTreeMap<u32, u32>,
    sent_to: BTreeMap<(u32, NodeId), u32>,
    received: BTreeMap<(u32, NodeId), u32>,
    /// Invitations that matched nothing, by source and tag.
    unmatched: BTreeMap<(NodeId, u32), u32>,
    next_tag: u32,
    /// The session that sent last, so that all get their turn.
    turn: SessionId,
}

impl Sessions {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            outbox: Outbox::new(config.node_id, config.addresses.clone(), config.mtu),
            limits: config.sessions.clone(),
            allocate: plain_sink,
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            sent_tags: BTreeMap::new(),
            received_tags: BTreeMap::new(),
            sent: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            received: BTreeMap::new(),
            unmatched: BTreeMap::new(),
            next_tag: crate::rng::mix(config.incarnation ^ u64::from(config.node_id) << 32) as u32,
            turn: 0,
        }
    }

    pub(crate) fn set_allocator(&mut self, allocate: SinkAllocator) {
        self.allocate = allocate;
    }

    pub(crate) fn set_addresses(&mut self, addresses: AddressPlan) {
        self.outbox.addresses = addresses;
    }

    /// Whether there is nothing to send.
    pub(crate) fn idle(&self) -> bool {
        self.senders.is_empty()
    }

    /// Packets that wait to be sent.
    pub(crate) fn outgoing(&mut self) -> &mut Vec<Outgoing> {
        &mut self.outbox.queue
    }

    /// Notes that copies of a packet left the node.
    pub(crate) fn account(&mut self, session: SessionId, bytes: u64) {
        if let Some(sender) = self.senders.get_mut(&session) {
            sender.account(bytes);
        }
    }

    // -------------------------------------------------------------------------------------------- commands

    pub(crate) fn send(
        &mut self,
        now: Instant,
        dest: Ipv4Addr,
        mut receivers: Vec<NodeId>,
        data: SharedBytes,
        limits: Option<SessionConfig>,
    ) -> Result<SessionId, CommandError> {
        let len = data.as_slice().len() as u64;
        receivers.sort_unstable();
        self.check_offer(&receivers, len)?;
        let key = u32::from(dest);
        let id = session_id(dest, self.outbox.node_id, count(&mut self.sent, key));
        let receivers =
            receivers.iter().map(|&node| (node, count(&mut self.sent_to, (key, node)) as u16)).collect();
        self.next_tag = self.next_tag.wrapping_add(1);
        let limits = limits.unwrap_or_else(|| self.limits.clone());
        let offer = Offer { id, tag: self.next_tag, dest: key, data, limits, receivers };
        self.prune();
        self.sent_tags.insert(offer.tag, id);
        self.senders.insert(id, Sender::new(now, offer, &self.outbox));
        Ok(id)
    }

    fn check_offer(&self, receivers: &[NodeId], len: u64) -> Result<(), CommandError> {
        if len == 0 {
            return Err(CommandError::EmptyBuffer);
        }
        if receivers.is_empty() {
            return Err(CommandError::NoReceivers);
        }
        if let Some(pair) = receivers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CommandError::BadReceiver(pair[0], "it is listed twice"));
        }
        if receivers.contains(&self.outbox.node_id) {
            return Err(CommandError::BadReceiver(self.outbox.node_id, "it is the sender"));
        }
        let max = MAX_TRANSFER.min(self.outbox.unit() as u64 * u64::from(u32::MAX));
        if len > max {
            return Err(CommandError::TooLarge { len, max });
        }
        Ok(())
    }

    pub(crate) fn receive(
        &mut self,
        now: Instant,
        dest: Ipv4Addr,
        source: NodeId,
        capacity: u64,
        limits: Option<SessionConfig>,
        io: &mut Io,
    ) -> Result<SessionId, CommandError> {
        if source == self.outbox.node_id {
            return Err(CommandError::BadReceiver(source, "it is the sender"));
        }
        let key = (u32::from(dest), source);
        let n = self.received.get(&key).copied().unwrap_or(0);
        let id = session_id(dest, source, n);
        let limits = limits.unwrap_or_else(|| self.limits.clone());
        let sink = usize::try_from(capacity).ok().and_then(self.allocate).filter(|sink| sink.is_empty());
        let sink = sink.ok_or(CommandError::OutOfMemory(capacity))?;
        let receiver = Receiver::new(now, id, key.0, source, capacity, limits, sink);
        receiver.solicit(&mut self.outbox, &mut io.pool);
        count(&mut self.received, key);
        self.prune();
        if let Some(tag) = self.receivers.insert(id, receiver).and_then(|old| old.tag()) {
            self.received_tags.remove(&(source, tag));
        }
        Ok(id)
    }

    pub(crate) fn report(&self, now: Instant, id: SessionId) -> Result<SessionReport, CommandError> {
        let node = self.outbox.node_id;
        let sent = self.senders.get(&id).map(|sender| sender.report(now, node));
        let received = || self.receivers.get(&id).map(|receiver| receiver.report(now, node));
        sent.or_else(received).ok_or(CommandError::UnknownSession(id))
    }

    pub(crate) fn reports(&self, now: Instant) -> Vec<SessionReport> {
        let node = self.outbox.node_id;
        let sent = self.senders.values().map(|sender| sender.report(now, node));
        sent.chain(self.receivers.values().map(|receiver| receiver.report(now, node))).collect()
    }

    pub(crate) fn data(&mut self, id: SessionId, consume: bool) -> Result<Arc<Vec<u8>>, CommandError> {
        self.receivers.get_mut(&id).ok_or(CommandError::UnknownSession(id))?.take_data(consume)
    }

    pub(crate) fn cancel(&mut self, now: Instant, id: SessionId, io: &mut Io) -> Result<(), CommandError> {
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.cancel(now, "cancelled by the sender", &mut self.outbox, io);
        } else {
            let receiver = self.receivers.get_mut(&id).ok_or(CommandError::UnknownSession(id))?;
            receiver.leave(now, SessionState::Failed, "cancelled by the receiver", &mut self.outbox, io);
        }
        Ok(())
    }

    /// We left a group: its running sessions end for us.
    pub(crate) fn leave_group(&mut self, now: Instant, addr: Ipv4Addr, io: &mut Io) {
        for receiver in self.receivers.values_mut().filter(|receiver| receiver.dest == u32::from(addr)) {
            receiver.leave(now, SessionState::Left, "it left the group", &mut self.outbox, io);
        }
    }

    pub(crate) fn node_gone(&mut self, now: Instant, node: NodeId, reason: &str, io: &mut Io) {
        for sender in self.senders.values_mut() {
            sender.node_gone(now, node, reason, &mut self.outbox, io);
        }
        for receiver in self.receivers.values_mut().filter(|receiver| receiver.source == node) {
            receiver.source_gone(now, reason, io);
        }
    }

    // --------------------------------------------------------------------------------------------- packets

    pub(crate) fn handle_packet(&mut self, now: Instant, from: NodeId, packet: &Packet, io: &mut Io) {
        let Some((header, body)) = Header::read(packet.payload()) else {
            return;
        };
        if header.kind == wire::DATA {
            if let Some(receiver) = receiver_of(&mut self.receivers, &self.received_tags, from, header.tag) {
                receiver.data(now, packet, &mut self.outbox, io);
            }
            return;
        }
        let Some(message) = Message::read(header.kind, body) else {
            return;
        };
        match message {
            Message::Manifest { dest, terms, listed } => {
                let ours = listed.iter().find(|(node, _)| *node == self.outbox.node_id);
                if let Some(&(_, n)) = ours {
                    self.invited(now, from, dest, n, (header.tag, terms), io);
                } else if let Some(receiver) =
                    receiver_of(&mut self.receivers, &self.received_tags, from, header.tag)
                {
                    receiver.hear(now);
                }
            }
            Message::Solicit { dest } => {
                for sender in self.senders.values().filter(|sender| sender.dest == dest) {
                    sender.solicited(from, &mut self.outbox, &mut io.pool);
                }
            }
            Message::Ready { .. } | Message::Progress(_) | Message::Need { .. } | Message::Leave { .. } => {
                let sender = self.sent_tags.get(&header.tag).and_then(|id| self.senders.get_mut(id));
                if let Some(sender) = sender {
                    sender.handle(now, from, header.round, message, &mut self.outbox, io);
                }
            }
            message => self.hear_sender(now, from, header, &message, io),
        }
    }

    fn hear_sender(&mut self, now: Instant, from: NodeId, header: Header, message: &Message, io: &mut Io) {
        if let Some(receiver) = receiver_of(&mut self.receivers, &self.received_tags, from, header.tag) {
            receiver.handle(now, header, message, &mut self.outbox, io);
        } else if matches!(message, Message::Poll | Message::SourceDone) {
            // Either it is not for us, then nobody minds, or we were restarted and must not be waited for.
            let reason = "it does not know the session; was it restarted?".to_owned();
            let leave = Message::Leave { failed: true, reason };
            let (to, tag, round) = (self.outbox.addr(from), header.tag, header.round);
            self.outbox.send(Envelope { to, tag, round, ..Envelope::default() }, &leave, &mut io.pool);
        }
    }

    fn invited(&mut self, now: Instant, from: NodeId, dest: u32, n: u16, what: (u32, Terms), io: &mut Io) {
        let (tag, terms) = what;
        if let Some(receiver) = self.received_tags.get(&(from, tag)).and_then(|id| self.receivers.get_mut(id))
        {
            receiver.invited_again(now, &mut self.outbox, &mut io.pool);
            return;
        }
        let exact = session_id(Ipv4Addr::from(dest), from, u32::from(n));
        let id = match self.receivers.get(&exact) {
            Some(receiver) if receiver.tag().is_none() => exact,
            _ => match self.stubborn_match(from, dest, n, tag) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return;
        };
        if receiver.waits() {
            self.received_tags.insert((from, tag), id);
            receiver.accept(now, tag, terms, &mut self.outbox, io);
        } else {
            receiver.decline(tag, &mut self.outbox, &mut io.pool);
        }
    }

    /// The session that takes an invitation whose count differs from ours, once it was repeated often enough.
    fn stubborn_match(&mut self, from: NodeId, dest: u32, n: u16, tag: u32) -> Option<SessionId> {
        let mut waiting = self.receivers.values().filter(|r| r.dest == dest && r.source == from && r.waits());
        let id = waiting.next()?.id;
        let seen = self.unmatched.entry((from, tag)).or_default();
        *seen += 1;
        if *seen < STUBBORN_INVITATIONS {
            return None;
        }
        self.unmatched.clear();
        self.received.insert((dest, from), u32::from(n) + 1);
        Some(id)
    }

    // ------------------------------------------------------------------------------------------------ time

    /// Lets the next session in turn produce a packet of data. True when one of them could go on at once.
    pub(crate) fn poll(&mut self, now: Instant, blocked: impl Fn(u32) -> bool, io: &mut Io) -> bool {
        let ready = |sender: &Sender| sender.next_data().is_some_and(|at| at <= now) && !blocked(sender.dest);
        let (after, upto) = (self.turn + 1, self.turn);
        let mut order = self.senders.range(after..).chain(self.senders.range(..=upto));
        let Some((&id, _)) = order.find(|(_, sender)| ready(sender)) else {
            return false;
        };
        self.turn = id;
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.data(now, &mut self.outbox, io);
        }
        true
    }

    pub(crate) fn deadline(&self, blocked: impl Fn(u32) -> bool) -> Option<Instant> {
        let senders = self.senders.values().filter_map(|sender| sender.deadline(blocked(sender.dest)));
        senders.chain(self.receivers.values().filter_map(Receiver::deadline)).min()
    }

    pub(crate) fn tick(&mut self, now: Instant, io: &mut Io) {
        for sender in self.senders.values_mut() {
            sender.tick(now, &mut self.outbox, io);
        }
        for receiver in self.receivers.values_mut() {
            receiver.tick(now, &mut self.outbox, io);
        }
    }

    /// Forgets the oldest finished sessions beyond the records that are kept; never data that nobody has taken.
    fn prune(&mut self) {
        while self.senders.len() >= RECORDS {
            let oldest = self.senders.values().filter_map(|s| Some((s.finished()?, s.id(), s.tag()))).min();
            let Some((_, id, tag)) = oldest else { break };
            self.senders.remove(&id);
            self.sent_tags.remove(&tag);
        }
        while self.receivers.len() >= RECORDS {
            let idle = self.receivers.values().filter(|receiver| !receiver.holds_data());
            let Some((_, id)) = idle.filter_map(|r| Some((r.finished()?, r.id))).min() else {
                break;
            };
            self.receivers.remove(&id);
            self.received_tags.retain(|_, session| *session != id);
        }
    }
}

fn receiver_of<'a>(
    receivers: &'a mut BTreeMap<SessionId, Receiver>,
    tags: &BTreeMap<(NodeId, u32), SessionId>,
    source: NodeId,
    tag: u32,
) -> Option<&'a mut Receiver> {
    receivers.get_mut(tags.get(&(source, tag))?)
}

/// The next number of a count.
fn count<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> u32 {
    let next = counts.entry(key).or_default();
    *next += 1;
    *next - 1
}
