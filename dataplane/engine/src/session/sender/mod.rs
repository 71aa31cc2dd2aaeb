//! The sending side of a session.
//!
//! ```text
//!  Offering ──all ready, or timeout──▶ Sending ──round sent──▶ Requesting ──▶ Done
//!     │ Manifest ⟲   ◀ Ready                │ Data, Poll              │ SourceDone ⟲   ◀ Need
//!     │                                     └──────◀── segments missing ──┘
//! ```
//!
//! Every request is retransmitted with increasing intervals, and has a time limit: a receiver that does not answer is
//! reported with a reason, and the session continues with the others. This file contains the state and its
//! transitions; `data` builds packets, `time` retransmits requests and checks time limits, `report` contains the report.

mod data;
mod report;
mod time;

use super::bitmap::Bitmap;
use super::pace::Pace;
use super::peer::Peer;
use super::plan::Plan;
use super::report::SessionState;
use super::report_interval::ReportInterval;
use super::send_queue::{Envelope, SendQueue};
use super::wire::{self, Message, Progress, IP_UDP};
use crate::digest::{Digest, Digester};
use crate::{Event, Instant, Io, NodeId, Pool, SessionConfig, SessionId, SharedBytes};

fn abort(reason: &str) -> Message {
    Message::Abort { known: true, reason: format!("the sender gave up: {reason}") }
}

const MS: u64 = 1_000_000;
/// Shortest time to wait for the answers of all receivers before repair starts, in nanoseconds.
const STALL_NS: u64 = 30 * MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Offering,
    Sending,
    /// Since this time.
    Requesting(Instant),
    Done,
}

/// The parameters of a session, fixed at its start.
#[derive(Debug)]
pub(super) struct Offer {
    pub id: SessionId,
    pub number: u64,
    pub dest: u32,
    pub data: SharedBytes,
    pub limits: SessionConfig,
    /// Receivers in ascending order, each with whether it may be sent the offer immediately.
    pub receivers: Vec<(NodeId, bool)>,
}

#[derive(Debug)]
pub(super) struct Sender {
    id: SessionId,
    pub number: u64,
    pub dest: u32,
    data: Option<SharedBytes>,
    /// The digest of the segments sent in the first round, and that of all when the round is complete.
    digester: Option<Digester>,
    digest: Option<Digest>,
    total: u64,
    /// Payload bytes of one segment, number of segments, and segments per super-packet.
    segment_size: usize,
    segments: u32,
    per_packet: u32,
    interval: ReportInterval,
    limits: SessionConfig,
    phase: Phase,
    started: Instant,
    data_started: Option<Instant>,
    finished: Option<Instant>,
    peers: Vec<Peer>,
    /// Receivers that have accepted this transfer or ended, so that the next one may be offered to them.
    released: Vec<NodeId>,
    round: u32,
    plan: Plan,
    /// Segments sent before this round, and so far.
    round_base: u64,
    position: u64,
    /// Segments that at least one receiver misses after the current round.
    missing: Bitmap,
    pace: Pace,
    /// Time of the next retransmission of the current request, and the interval before it.
    next_request: Instant,
    request_interval: u64,
    reason: String,
    bytes_sent: u64,
    repair_bytes: u64,
}

impl Sender {
    pub(super) fn new(now: Instant, offer: Offer, queue: &SendQueue) -> Self {
        let segment_size = queue.segment_size();
        let interval = ReportInterval::for_receivers(offer.receivers.len());
        let total = offer.data.as_slice().len() as u64;
        let segments = total.div_ceil(segment_size as u64) as u32;
        let per_packet = ((65_535 - IP_UDP) / (segment_size + wire::HEADER)) as u32;
        let peers =
            offer.receivers.iter().map(|&(node, may_offer)| Peer::new(node, may_offer, now)).collect();
        Self {
            id: offer.id,
            number: offer.number,
            dest: offer.dest,
            digester: Some(Digester::default()),
            digest: None,
            data: Some(offer.data),
            total,
            segment_size,
            segments,
            per_packet,
            phase: Phase::Offering,
            started: now,
            data_started: None,
            finished: None,
            peers,
            released: Vec::new(),
            round: 0,
            plan: Plan::new(std::iter::once((0, segments))),
            round_base: 0,
            position: 0,
            missing: Bitmap::new(segments),
            pace: Pace::new(
                (segment_size + wire::HEADER + IP_UDP) as u64,
                offer.limits.window_bytes,
                interval,
            ),
            interval,
            limits: offer.limits,
            next_request: now,
            request_interval: time::OFFER_NS.0,
            reason: String::new(),
            bytes_sent: 0,
            repair_bytes: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    pub(super) fn take_released(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.released)
    }

    /// The addressing of a message of this session.
    fn envelope(&self, to: u32) -> Envelope {
        Envelope { to, number: self.number, session: Some(self.id), ..Envelope::default() }
    }

    /// Counts the bytes of a packet of this session that was sent.
    pub(super) fn account(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }

    // ---------------------------------------------------------------------------------------------------------
    // messages

    /// Processes a message of a receiver.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        from: NodeId,
        round: u8,
        message: Message,
        queue: &mut SendQueue,
        io: &mut Io,
    ) {
        let Ok(index) = self.peers.binary_search_by_key(&from, |peer| peer.node) else {
            return;
        };
        if self.peers[index].state.is_final() {
            if let Some(answer) = self.late_answer(from, &message) {
                queue.send(self.envelope(queue.addr(from)), &answer, &mut io.pool);
            }
            return;
        }
        self.peers[index].mark_received(now);
        match message {
            Message::Ready { capacity } => {
                self.ready(now, index, capacity, io);
                // During the transfer, it may come from a receiver that has every byte but missed the digest.
                if let Some(digest) = self.digest.filter(|_| self.peers[index].active()) {
                    let envelope = Envelope { round: self.round as u8, ..self.envelope(queue.addr(from)) };
                    queue.send(envelope, &Message::SourceDone { digest }, &mut io.pool);
                }
            }
            Message::Progress(progress) => {
                self.progress(now, index, round, &progress);
                return;
            }
            Message::Complete { digest, .. } if self.digest == Some(digest) => {
                queue.send(self.envelope(queue.addr(from)), &Message::Ack, &mut io.pool);
                self.end_peer(now, index, SessionState::Complete, String::new(), io);
            }
            Message::Complete { .. } => {
                let reason = "digest differs: the receiver has other bytes than were sent".to_owned();
                self.end_peer(now, index, SessionState::Failed, reason, io);
            }
            Message::Need { last, bytes, runs } => {
                self.peers[index].has_bytes(now, bytes);
                if round == self.round as u8 && matches!(self.phase, Phase::Requesting(_)) {
                    self.need(index, last, &runs);
                }
            }
            Message::Leave { failed, reason } => {
                let state = if failed { SessionState::Failed } else { SessionState::Left };
                self.end_peer(now, index, state, reason, io);
            }
            _ => return,
        }
        self.advance(now, queue, io);
    }

    /// The reply to a receiver that has ended for this sender and may not know it.
    pub(super) fn late_answer(&self, from: NodeId, message: &Message) -> Option<Message> {
        let index = self.peers.binary_search_by_key(&from, |peer| peer.node).ok()?;
        let peer = &self.peers[index];
        match message {
            &Message::Complete { digest, .. } if self.digest == Some(digest) => Some(Message::Ack),
            Message::Leave { .. } | Message::Unclaimed => None,
            // The message was sent before its `Complete` and is outdated.
            _ if peer.state == SessionState::Complete => None,
            _ => Some(abort(&peer.reason)),
        }
    }

    /// Records that no receive call of that node waits.
    pub(super) fn unclaimed(&mut self, node: NodeId) {
        if let Ok(index) = self.peers.binary_search_by_key(&node, |peer| peer.node) {
            self.peers[index].unclaimed = true;
        }
    }

    /// Sends the offer to a receiver that has accepted all earlier transfers.
    pub(super) fn start_offering(&mut self, node: NodeId, queue: &mut SendQueue, pool: &mut Pool) {
        if let Ok(index) = self.peers.binary_search_by_key(&node, |peer| peer.node) {
            self.peers[index].may_offer = true;
            self.solicited(node, queue, pool);
        }
    }

    fn ready(&mut self, now: Instant, index: usize, capacity: u64, io: &mut Io) {
        if self.peers[index].state != SessionState::Waiting {
            return;
        }
        if capacity < self.total {
            let reason = format!("it has room for {capacity} bytes, the transfer has {}", self.total);
            self.end_peer(now, index, SessionState::Failed, reason, io);
            return;
        }
        self.peers[index].state = SessionState::Active;
        let node = self.peers[index].node;
        self.released.push(node);
        io.events.push(Event::SessionPeer { session: self.id, node, state: SessionState::Active });
    }

    fn progress(&mut self, now: Instant, index: usize, round: u8, progress: &Progress) {
        let peer = &mut self.peers[index];
        peer.has_bytes(now, progress.bytes);
        // Reports of an earlier round count segments in the order of that round, and newer reports contain their
        // information.
        if round != self.round as u8 || !peer.active() {
            return;
        }
        let position = (self.round_base + u64::from(self.plan.below(progress.highest))).min(self.position);
        peer.path.report(now, position, self.pace.sent_at(position), progress);
        if !self.pace.is_due(now) {
            return;
        }
        // Data arrives: shorten the interval of requests, to detect quickly when it stops.
        self.request_interval = self.shortest_request_interval();
        self.next_request = self.next_request.min(now.plus_nanos(self.request_interval));
        self.pace.adapt(now, self.peers.iter().filter(|peer| peer.is_responsive()).map(|peer| &peer.path));
        let oldest = self.peers.iter().filter(|peer| peer.is_responsive()).map(|peer| peer.path.acked).min();
        self.pace.discard_before(oldest.unwrap_or(self.position));
    }

    fn need(&mut self, index: usize, last: bool, runs: &[(u32, u32)]) {
        for &(first, count) in runs {
            self.missing.set_range(first, count);
        }
        let peer = &mut self.peers[index];
        if last && !peer.answered {
            peer.answered = true;
            peer.repair_rounds += 1;
        }
    }

    // ---------------------------------------------------------------------------------------------------------
    // progress

    /// Makes the next state transition, if its condition holds.
    fn advance(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        let waiting = self.peers.iter().any(|peer| peer.state == SessionState::Waiting);
        if self.peers.iter().all(|peer| peer.state.is_final()) {
            self.finish(now, queue, io);
        } else if self.phase == Phase::Offering && !waiting {
            self.start_data(now);
        } else if let Phase::Requesting(since) = self.phase {
            self.repair(now, since);
        }
    }

    fn start_data(&mut self, now: Instant) {
        self.phase = Phase::Sending;
        self.data_started = Some(now);
        for peer in self.peers.iter_mut().filter(|peer| peer.active()) {
            peer.mark_received(now);
            peer.advanced = now;
        }
        self.schedule_request(now, self.shortest_request_interval());
    }

    /// Starts the next round when the missing segments are known.
    fn repair(&mut self, now: Instant, since: Instant) {
        let stall_limit = STALL_NS.max(4 * self.longest_rtt().unwrap_or(0));
        let all = self.peers.iter().filter(|peer| peer.is_responsive()).all(|peer| peer.answered);
        if self.missing.ones() == 0 || !(all || now.nanos_since(since) >= stall_limit) {
            return;
        }
        self.plan = Plan::new(self.missing.runs(true));
        self.missing = Bitmap::new(self.segments);
        self.round += 1;
        self.round_base = self.position;
        self.repair_bytes += u64::from(self.plan.total()) * self.segment_size as u64;
        for peer in &mut self.peers {
            peer.answered = false;
            peer.path.acked = self.position;
        }
        self.phase = Phase::Sending;
        self.schedule_request(now, self.shortest_request_interval());
    }

    // -------------------------------------------------------------------------------------------------------------
    // ends

    fn end_peer(&mut self, now: Instant, index: usize, state: SessionState, reason: String, io: &mut Io) {
        let peer = &mut self.peers[index];
        if state == SessionState::Complete {
            peer.bytes = self.total;
        }
        if peer.state == SessionState::Waiting {
            self.released.push(peer.node);
        }
        peer.end(now, state, reason);
        io.events.push(Event::SessionPeer { session: self.id, node: peer.node, state });
    }

    /// Processes the report of the controller that a node is gone.
    ///
    /// The report may arrive before the last messages of the node, whose program may have confirmed every byte and
    /// then ended. The others stop waiting for it, but its messages are accepted for a short time.
    pub(super) fn node_gone(
        &mut self,
        now: Instant,
        node: NodeId,
        reason: &str,
        queue: &mut SendQueue,
        io: &mut Io,
    ) {
        let Ok(index) = self.peers.binary_search_by_key(&node, |peer| peer.node) else {
            return;
        };
        if self.is_done() || self.peers[index].state.is_final() {
            return;
        }
        let reason = format!("the node is gone: {reason}");
        if self.peers[index].active() {
            let peer = &mut self.peers[index];
            peer.unresponsive = true;
            peer.gone.get_or_insert((now, reason));
            self.next_request = self.next_request.min(now.plus_nanos(time::LATE_MESSAGE_NS));
        } else {
            self.end_peer(now, index, SessionState::Failed, reason, io);
        }
        self.advance(now, queue, io);
    }

    /// Ends the session for all receivers that have not ended.
    pub(super) fn cancel(&mut self, now: Instant, reason: &str, queue: &mut SendQueue, io: &mut Io) {
        for index in 0..self.peers.len() {
            if !self.peers[index].state.is_final() {
                self.end_peer(now, index, SessionState::Failed, reason.to_owned(), io);
            }
        }
        self.finish(now, queue, io);
    }

    fn finish(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        if self.is_done() {
            return;
        }
        self.phase = Phase::Done;
        self.finished = Some(now);
        self.data = None;
        let failed: Vec<&Peer> =
            self.peers.iter().filter(|peer| peer.state != SessionState::Complete).collect();
        for peer in &failed {
            queue.send(self.envelope(queue.addr(peer.node)), &abort(&peer.reason), &mut io.pool);
        }
        if let Some(first) = failed.first() {
            let (count, of) = (failed.len(), self.peers.len());
            let (node, state) = (first.node, first.state.as_str());
            self.reason =
                format!("{count} of {of} receivers are incomplete: node {node} {state}: {}", first.reason);
        }
        // Free the state that only an active transfer needs.
        (self.plan, self.missing, self.digester) = (Plan::default(), Bitmap::default(), None);
        self.pace.discard_before(u64::MAX);
    }
}
