//! Lossless sessions: every listed receiver gets every byte, or is reported with a reason.
//!
//! The sender sends an offer ([`wire::Message::Manifest`]) and the receivers acknowledge it; data is sent in
//! super-packets by unicast or multicast, and after each round the union of the segments that receivers miss is
//! retransmitted. This file maps packets and commands to sessions; [`sender`], [`receiver`] and [`pace`] contain the
//! rest.
//!
//! A transfer is identified by its sending node and a random 64-bit number, so that it differs from every other
//! transfer of that node, including those of earlier incarnations. A receive call has no number of its own: it
//! accepts the next offer of its source and address. The sender orders the offers: it offers a receiver one transfer
//! per address at a time. Receive calls are ordered by session id.

mod bitmap;
mod history;
mod memory;
mod pace;
mod packets;
mod peer;
mod plan;
mod receiver;
pub(crate) mod report;
mod report_interval;
mod send_queue;
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
pub use memory::{Prefetch, SinkAllocator};
use receiver::Receiver;
use report::SessionState;
pub(crate) use send_queue::Outgoing;
use send_queue::SendQueue;
use sender::{Offer, Sender};
use wire::{tag_of, MAX_TRANSFER};

/// Ended sessions of each side that are kept to answer peers that retransmit. A peer of an older session gets an
/// abort for an unknown transfer, which ends its side too, with a less exact reason.
const HISTORY_SIZE: usize = 256;
/// Withdrawn offers that are kept, so that a delayed duplicate of one is not accepted again.
const WITHDRAWN_OFFERS: usize = 256;

/// The reason of a receiver that is no longer a member of the group.
const LEFT: &str = "it left the group";

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct Sessions {
    queue: SendQueue,
    limits: SessionConfig,
    allocate: SinkAllocator,
    /// The highest session id so far.
    last: SessionId,
    numbers: Rng,
    /// Active senders, and the history of ended ones, which may still receive requests.
    senders: BTreeMap<SessionId, Sender>,
    receivers: BTreeMap<SessionId, Receiver>,
    /// Senders that ended during this call; their last packets are not counted yet.
    ended: Vec<Sender>,
    sender_history: History<Sender>,
    receiver_history: History<Receiver>,
    /// Sending sessions by transfer number, including those in the history.
    sent: BTreeMap<u64, SessionId>,
    /// By address and receiver: transfers that the receiver has not accepted. The first one is offered to it.
    offered: BTreeMap<(u32, NodeId), BTreeSet<SessionId>>,
    /// By address and source: receive calls without an offer. The first one accepts the next offer.
    waiting: BTreeMap<(u32, NodeId), BTreeSet<SessionId>>,
    /// By source and transfer number: the receive call that accepted it, including those in the history.
    accepted: BTreeMap<(NodeId, u64), SessionId>,
    /// By source and tag: the receive call that data segments belong to.
    tags: BTreeMap<(NodeId, u32), SessionId>,
    /// Withdrawn offers, as source and transfer number.
    withdrawn: VecDeque<(NodeId, u64)>,
    /// Groups that this node has left and not joined again: an offer to one of them is answered immediately with a
    /// leave.
    left: BTreeSet<u32>,
    /// The session that sent last, for round-robin scheduling.
    last_sent: SessionId,
}

impl Sessions {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            queue: SendQueue::new(config.node_id, config.addresses.clone(), config.mtu),
            limits: config.sessions.clone(),
            allocate: memory::plain_sink,
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
            accepted: BTreeMap::new(),
            tags: BTreeMap::new(),
            withdrawn: VecDeque::new(),
            left: BTreeSet::new(),
            last_sent: 0,
        }
    }

    pub(crate) fn set_allocator(&mut self, allocate: SinkAllocator) {
        self.allocate = allocate;
    }

    pub(crate) fn set_prefetch(&mut self, prefetch: Prefetch) {
        self.queue.prefetch = prefetch;
    }

    pub(crate) fn set_addresses(&mut self, addresses: AddressPlan) {
        self.queue.addresses = addresses;
    }

    /// Whether no packet is queued.
    pub(crate) fn idle(&self) -> bool {
        self.senders.is_empty()
    }

    /// The queued packets.
    pub(crate) fn outgoing(&mut self) -> &mut Vec<Outgoing> {
        &mut self.queue.packets
    }

    /// Counts the bytes of a packet that was sent, once per copy.
    pub(crate) fn account(&mut self, session: SessionId, bytes: u64) {
        let ended = self.ended.iter_mut().find(|sender| sender.id() == session);
        let running = self.senders.get_mut(&session).or(ended);
        if let Some(sender) = running.or_else(|| self.sender_history.get_mut(session)) {
            sender.account(bytes);
        }
    }

    /// Emits the events of senders that ended, after their last packets were counted.
    pub(crate) fn announce(&mut self, now: Instant, io: &mut Io) {
        for sender in self.ended.drain(..) {
            let report = Box::new(sender.report(now, self.queue.node_id));
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
        self.senders.insert(id, Sender::new(now, offer, &self.queue));
        Ok(id)
    }

    fn next_id(&mut self, io: &mut Io) -> SessionId {
        self.last += 1;
        io.events.push(Event::SessionOpened { session: self.last });
        self.last
    }

    /// A random number whose tag differs from those of all transfers in the tables.
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
        if receivers.contains(&self.queue.node_id) {
            return Err(CommandError::BadReceiver(self.queue.node_id, "it is the sender"));
        }
        let max = MAX_TRANSFER.min(self.queue.segment_size() as u64 * u64::from(u32::MAX));
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
        if source == self.queue.node_id {
            return Err(CommandError::BadReceiver(source, "it is the sender"));
        }
        let sink = usize::try_from(capacity).ok().and_then(self.allocate).filter(|sink| sink.is_empty());
        let sink = sink.ok_or(CommandError::OutOfMemory(capacity))?;
        let (id, dest) = (self.next_id(io), u32::from(dest));
        let receiver = Receiver::new(now, id, dest, source, capacity, self.limits.clone(), sink);
        receiver.solicit(&mut self.queue, &mut io.pool);
        self.left.remove(&dest);
        self.receivers.insert(id, receiver);
        self.waiting.entry((dest, source)).or_default().insert(id);
        Ok(id)
    }

    pub(crate) fn report(&self, now: Instant, id: SessionId) -> Result<SessionReport, CommandError> {
        let node = self.queue.node_id;
        let sender = self.senders.get(&id).or_else(|| self.sender_history.get(id));
        let receiver = || self.receivers.get(&id).or_else(|| self.receiver_history.get(id));
        let sent = sender.map(|sender| sender.report(now, node));
        let received = || receiver().map(|receiver| receiver.report(now, node));
        sent.or_else(received).ok_or(CommandError::UnknownSession(id))
    }

    /// The last session that was begun.
    pub(crate) fn last_id(&self) -> SessionId {
        self.last
    }

    pub(crate) fn reports(&self, now: Instant) -> Vec<SessionReport> {
        let node = self.queue.node_id;
        let senders = self.senders.values().chain(self.sender_history.values());
        let receivers = self.receivers.values().chain(self.receiver_history.values());
        let sent = senders.map(|sender| sender.report(now, node));
        sent.chain(receivers.map(|receiver| receiver.report(now, node))).collect()
    }

    pub(crate) fn cancel(&mut self, now: Instant, id: SessionId, io: &mut Io) -> Result<(), CommandError> {
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.cancel(now, "cancelled by the sender", &mut self.queue, io);
            self.after_sender(id, io);
        } else if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.leave(now, SessionState::Failed, "cancelled by the receiver", &mut self.queue, io);
            self.after_receiver(id);
        } else if id == 0 || id > self.last {
            return Err(CommandError::UnknownSession(id));
        }
        Ok(())
    }

    /// Ends the receiving sessions of a group that this node left.
    pub(crate) fn leave_group(&mut self, now: Instant, addr: Ipv4Addr, io: &mut Io) {
        self.left.insert(u32::from(addr));
        self.each_receiver(|receiver, queue| {
            if receiver.dest == u32::from(addr) {
                receiver.leave(now, SessionState::Left, LEFT, queue, io);
            }
        });
    }

    /// Accepts offers to a group again after this node joined it.
    pub(crate) fn join_group(&mut self, addr: Ipv4Addr) {
        self.left.remove(&u32::from(addr));
    }

    pub(crate) fn node_gone(&mut self, now: Instant, node: NodeId, reason: &str, io: &mut Io) {
        self.each_sender(io, |sender, queue, io| sender.node_gone(now, node, reason, queue, io));
        self.each_receiver(|receiver, queue| {
            if receiver.source == node {
                receiver.source_gone(now, reason, queue.node_id, io);
            }
        });
    }

    // ------------------------------------------------------------------------------------------------ time

    /// Lets the next session of the round-robin order build one data packet. True when a session can send another one
    /// immediately.
    pub(crate) fn poll(&mut self, now: Instant, blocked: impl Fn(u32) -> bool, io: &mut Io) -> bool {
        let ready = |sender: &Sender| sender.next_data().is_some_and(|at| at <= now) && !blocked(sender.dest);
        let (after, upto) = (self.last_sent + 1, self.last_sent);
        let mut order = self.senders.range(after..).chain(self.senders.range(..=upto));
        let Some((&id, _)) = order.find(|(_, sender)| ready(sender)) else {
            return false;
        };
        self.last_sent = id;
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.data(now, &mut self.queue, io);
        }
        true
    }

    pub(crate) fn deadline(&self, blocked: impl Fn(u32) -> bool) -> Option<Instant> {
        let senders = self.senders.values().filter_map(|sender| sender.deadline(blocked(sender.dest)));
        senders.chain(self.receivers.values().filter_map(Receiver::deadline)).min()
    }

    pub(crate) fn tick(&mut self, now: Instant, io: &mut Io) {
        self.each_sender(io, |sender, queue, io| sender.tick(now, queue, io));
        self.each_receiver(|receiver, queue| receiver.tick(now, queue, io));
    }
}
