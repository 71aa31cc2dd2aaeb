//! Lossless sessions: every listed receiver gets every byte, or is reported by name with the reason.
//!
//! The sender invites ([`wire::Message::Manifest`]), the receivers get ready, data goes out in super-packets by
//! unicast or multicast, and after each round the union of what receivers miss goes out again. This file finds
//! the session that a packet or a command is for; the rest is [`sender`], [`receiver`] and [`pace`].
//!
//! A transfer is named by its sending node and a number that its sender draws at random, so no other transfer of
//! that node has it, of an earlier life neither. A receive call has no number of its own: it takes the next offer
//! of its source and address. The order of offers is kept by the sender, which offers a receiver one transfer
//! to one address at a time; the order of receive calls is that of their session ids.

mod bitmap;
mod cadence;
mod history;
mod outbox;
mod pace;
mod packets;
mod peer;
mod plan;
mod receiver;
pub(crate) mod report;
mod sender;
#[cfg(test)]
mod tests;
mod transfer;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use crate::rng::Rng;
use crate::{
    AddressPlan, CommandError, Event, Instant, Io, NodeConfig, NodeId, SessionConfig, SessionId,
    SessionReport, SharedBytes,
};
use history::History;
use outbox::Outbox;
pub(crate) use outbox::Outgoing;
use receiver::Receiver;
use report::SessionState;
use sender::{Offer, Sender};

/// Offsets have 48 bits on the wire (and segments are numbered with 32).
const MAX_TRANSFER: u64 = 1 << 48;
/// Payload bytes of the smallest full segment.
const LEAST_UNIT: usize = outbox::LEAST_MTU as usize - outbox::IP_UDP - wire::HEADER;
/// Ended sessions of each side that are kept to answer peers that ask again. A peer whose session is gone from here
/// is told that there is none, which ends its side as well, so only the reason gets less exact.
const PAST: usize = 256;
/// Offers that turned out to be none, remembered so that a copy of one that is still on its way is not taken again.
const VOID: usize = 256;

/// Why a receiver is not among those of a group any more.
const LEFT: &str = "it left the group";

/// What data segments are told apart by: the upper half of the transfer's number.
const fn tag_of(number: u64) -> u32 {
    (number >> 32) as u32
}

/// Makes an empty vector with room for so many bytes, or says that there is none.
pub type SinkAllocator = fn(usize) -> Option<Vec<u8>>;

/// Asks the processor to bring so many bytes from an address into its caches, without waiting for them. A hint: nothing
/// happens where it cannot be done.
pub type Prefetch = fn(*const u8, usize);

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
    /// The session that was opened last.
    last: SessionId,
    numbers: Rng,
    /// Those that have something to do or to wait for, and those that have not but may still be asked.
    senders: BTreeMap<SessionId, Sender>,
    receivers: BTreeMap<SessionId, Receiver>,
    /// Senders that have ended in this call; their last packets are not counted yet.
    ended: Vec<Sender>,
    sender_history: History<Sender>,
    receiver_history: History<Receiver>,
    /// Our transfers by number, past ones too.
    sent: BTreeMap<u64, SessionId>,
    /// By address and receiver: our transfers that it has not taken yet. The first is the one it is offered.
    offered: BTreeMap<(u32, NodeId), BTreeSet<SessionId>>,
    /// By address and source: receive calls that have no offer yet. The first gets the next one.
    waiting: BTreeMap<(u32, NodeId), BTreeSet<SessionId>>,
    /// By source and number: the receive call that has taken it, past ones too.
    taken: BTreeMap<(NodeId, u64), SessionId>,
    /// By source and tag: whose data it is.
    tags: BTreeMap<(NodeId, u32), SessionId>,
    void: VecDeque<(NodeId, u64)>,
    /// Groups that this node has left and not come back to: whoever offers it something there is told so at once.
    left: BTreeSet<u32>,
    /// The session that sent last, so that all get their turn.
    turn: SessionId,
}

impl Sessions {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            outbox: Outbox::new(config.node_id, config.addresses.clone(), config.mtu),
            limits: config.sessions.clone(),
            allocate: plain_sink,
            last: config.last_session,
            numbers: Rng::new(config.incarnation, &["transfers", &config.node_id.to_string()]),
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            ended: Vec::new(),
            sender_history: History::default(),
            receiver_history: History::default(),
            sent: BTreeMap::new(),
            offered: BTreeMap::new(),
            waiting: BTreeMap::new(),
            taken: BTreeMap::new(),
            tags: BTreeMap::new(),
            void: VecDeque::new(),
            left: BTreeSet::new(),
            turn: 0,
        }
    }

    pub(crate) fn set_allocator(&mut self, allocate: SinkAllocator) {
        self.allocate = allocate;
    }

    pub(crate) fn set_prefetch(&mut self, prefetch: Prefetch) {
        self.outbox.prefetch = prefetch;
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
        let ended = self.ended.iter_mut().find(|sender| sender.id() == session);
        let running = self.senders.get_mut(&session).or(ended);
        if let Some(sender) = running.or_else(|| self.sender_history.get_mut(session)) {
            sender.account(bytes);
        }
    }

    /// Says which senders have ended, once everything that they sent is accounted for.
    pub(crate) fn announce(&mut self, now: Instant, io: &mut Io) {
        for sender in self.ended.drain(..) {
            let report = Box::new(sender.report(now, self.outbox.node_id));
            io.events.push(Event::SessionFinished { report, data: None });
            if let Some(gone) = self.sender_history.push(sender.id(), sender) {
                self.sent.remove(&gone.number);
            }
        }
    }

    // -------------------------------------------------------------------------------------------- commands

    pub(crate) fn send(
        &mut self,
        now: Instant,
        dest: Ipv4Addr,
        mut receivers: Vec<NodeId>,
        data: SharedBytes,
        io: &mut Io,
    ) -> Result<SessionId, CommandError> {
        receivers.sort_unstable();
        self.check_offer(&receivers, data.as_slice().len() as u64)?;
        let (id, number, dest) = (self.next_id(io), self.draw_number(), u32::from(dest));
        let mut enqueue = |node| {
            let queue = self.offered.entry((dest, node)).or_default();
            queue.insert(id);
            (node, queue.len() == 1)
        };
        let receivers = receivers.into_iter().map(&mut enqueue).collect();
        self.sent.insert(number, id);
        let limits = self.limits.clone();
        let offer = Offer { id, number, dest, data, limits, receivers };
        self.senders.insert(id, Sender::new(now, offer, &self.outbox));
        Ok(id)
    }

    fn next_id(&mut self, io: &mut Io) -> SessionId {
        self.last += 1;
        io.events.push(Event::SessionOpened { session: self.last });
        self.last
    }

    /// A number whose tag no other transfer of ours has, as far as we remember.
    fn draw_number(&mut self) -> u64 {
        loop {
            let number = self.numbers.next();
            let tag = u64::from(tag_of(number)) << 32;
            if number != 0 && self.sent.range(tag..=tag | 0xffff_ffff).next().is_none() {
                return number;
            }
        }
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
        io: &mut Io,
    ) -> Result<SessionId, CommandError> {
        if source == self.outbox.node_id {
            return Err(CommandError::BadReceiver(source, "it is the sender"));
        }
        let sink = usize::try_from(capacity).ok().and_then(self.allocate).filter(|sink| sink.is_empty());
        let sink = sink.ok_or(CommandError::OutOfMemory(capacity))?;
        let (id, dest) = (self.next_id(io), u32::from(dest));
        let receiver = Receiver::new(now, id, dest, source, capacity, self.limits.clone(), sink);
        receiver.solicit(&mut self.outbox, &mut io.pool);
        self.left.remove(&dest);
        self.receivers.insert(id, receiver);
        self.waiting.entry((dest, source)).or_default().insert(id);
        Ok(id)
    }

    pub(crate) fn report(&self, now: Instant, id: SessionId) -> Result<SessionReport, CommandError> {
        let node = self.outbox.node_id;
        let sender = self.senders.get(&id).or_else(|| self.sender_history.get(id));
        let receiver = || self.receivers.get(&id).or_else(|| self.receiver_history.get(id));
        let sent = sender.map(|sender| sender.report(now, node));
        let received = || receiver().map(|receiver| receiver.report(now, node));
        sent.or_else(received).ok_or(CommandError::UnknownSession(id))
    }

    pub(crate) fn reports(&self, now: Instant) -> Vec<SessionReport> {
        let node = self.outbox.node_id;
        let senders = self.senders.values().chain(self.sender_history.values());
        let receivers = self.receivers.values().chain(self.receiver_history.values());
        let sent = senders.map(|sender| sender.report(now, node));
        sent.chain(receivers.map(|receiver| receiver.report(now, node))).collect()
    }

    pub(crate) fn cancel(&mut self, now: Instant, id: SessionId, io: &mut Io) -> Result<(), CommandError> {
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.cancel(now, "cancelled by the sender", &mut self.outbox, io);
            self.after_sender(id, io);
        } else if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.leave(now, SessionState::Failed, "cancelled by the receiver", &mut self.outbox, io);
            self.after_receiver(id);
        } else if id == 0 || id > self.last {
            return Err(CommandError::UnknownSession(id));
        }
        Ok(())
    }

    /// We left a group: its running sessions end for us.
    pub(crate) fn leave_group(&mut self, now: Instant, addr: Ipv4Addr, io: &mut Io) {
        self.left.insert(u32::from(addr));
        self.each_receiver(|receiver, outbox| {
            if receiver.dest == u32::from(addr) {
                receiver.leave(now, SessionState::Left, LEFT, outbox, io);
            }
        });
    }

    /// We are a member of a group (again).
    pub(crate) fn join_group(&mut self, addr: Ipv4Addr) {
        self.left.remove(&u32::from(addr));
    }

    pub(crate) fn node_gone(&mut self, now: Instant, node: NodeId, reason: &str, io: &mut Io) {
        self.each_sender(io, |sender, outbox, io| sender.node_gone(now, node, reason, outbox, io));
        self.each_receiver(|receiver, outbox| {
            if receiver.source == node {
                receiver.source_gone(now, reason, outbox.node_id, io);
            }
        });
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
        self.each_sender(io, |sender, outbox, io| sender.tick(now, outbox, io));
        self.each_receiver(|receiver, outbox| receiver.tick(now, outbox, io));
    }
}
