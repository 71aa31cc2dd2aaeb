//! The receiving side of a session.
//!
//! ```text
//!  Waiting ──offer accepted──▶ Active ──every byte, digest as the sender's──▶ Complete
//!     ▲                       │ └──digest differs, silence, Abort──▶ Failed, TimedOut
//!     └──unknown transfer─────┘
//! ```
//!
//! Payload is copied from the packet into the receive buffer, which has the capacity that the caller stated and is
//! returned without a copy. Duplicates are counted and discarded; segments out of order are stored at their offsets.

mod verify;

use std::sync::Arc;

use crate::digest::Digest;
use crate::session::report::{PeerReport, Role, SessionReport, SessionState};
use crate::session::send_queue::{Envelope, SendQueue};
use crate::session::transfer::Transfer;
use crate::session::wire::{self, Header, Message, Progress, Terms, IP_UDP};
use crate::{Event, Instant, Io, NodeId, Packet, Pool, ReceivedBytes, SessionConfig, SessionId};

const MS: u64 = 1_000_000;
/// Shortest and longest interval between retransmissions of the state, which the sender may have missed.
const RETRANSMIT_NS: (u64, u64) = (50 * MS, 1_000 * MS);
/// Time without a message during a transfer after which the receiver sends its state: a restarted sender then replies
/// that the transfer is unknown, and the receiver need not wait for its timeout.
const SILENCE_NS: u64 = 1_000 * MS;
/// Most messages of one reply about missing segments; further runs are sent after the next round.
const NEED_MESSAGES: usize = 64;

#[derive(Debug)]
pub(in crate::session) struct Receiver {
    pub id: SessionId,
    pub dest: u32,
    pub source: NodeId,
    capacity: u64,
    limits: SessionConfig,
    state: SessionState,
    reason: String,
    sink: Vec<u8>,
    transfer: Option<Transfer>,
    /// The digest of the received bytes, when all have arrived.
    digest: Digest,
    /// The number of an accepted offer that proved invalid.
    dropped: Option<u64>,
    created: Instant,
    last_received: Instant,
    finished: Option<Instant>,
    /// The time of the next retransmission of the state, and the interval before it.
    retransmit: Option<(Instant, u64)>,
}

impl Receiver {
    pub(in crate::session) fn new(
        now: Instant,
        id: SessionId,
        dest: u32,
        source: NodeId,
        capacity: u64,
        limits: SessionConfig,
        sink: Vec<u8>,
    ) -> Self {
        Self {
            id,
            dest,
            source,
            capacity,
            limits,
            state: SessionState::Waiting,
            reason: String::new(),
            sink,
            transfer: None,
            digest: Digest::default(),
            dropped: None,
            created: now,
            last_received: now,
            finished: None,
            retransmit: Some((now.plus_nanos(RETRANSMIT_NS.0), RETRANSMIT_NS.0)),
        }
    }

    pub(in crate::session) fn waits(&self) -> bool {
        self.state == SessionState::Waiting
    }

    pub(in crate::session) fn is_final(&self) -> bool {
        self.state.is_final()
    }

    /// Whether it has ended and retransmits nothing.
    pub(in crate::session) fn is_over(&self) -> bool {
        self.is_final() && self.retransmit.is_none()
    }

    /// The number of the transfer that it accepted.
    pub(in crate::session) fn number(&self) -> Option<u64> {
        self.transfer.as_ref().map(|transfer| transfer.number)
    }

    /// The number of an offer that proved invalid; returned once.
    pub(in crate::session) fn take_dropped(&mut self) -> Option<u64> {
        self.dropped.take()
    }

    // ------------------------------------------------------------------------------------------- offers

    /// Accepts an offer, or refuses it with a reason.
    pub(in crate::session) fn accept(
        &mut self,
        now: Instant,
        number: u64,
        terms: Terms,
        queue: &mut SendQueue,
        io: &mut Io,
    ) {
        self.last_received = now;
        let total = terms.total;
        self.transfer = Some(Transfer::new(now, number, terms, total <= self.capacity));
        self.answer(Message::Ready { capacity: self.capacity }, queue, &mut io.pool);
        if total > self.capacity {
            let reason = format!("the transfer has {total} bytes, there is room for {}", self.capacity);
            self.end(now, SessionState::Failed, reason, queue.node_id, io);
        } else {
            self.state = SessionState::Active;
            self.retransmit = Some((now.plus_nanos(RETRANSMIT_NS.0), RETRANSMIT_NS.0));
        }
    }

    /// Records a message of the sender that needs no reply.
    pub(in crate::session) fn mark_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Replies with the current state to a message that requests it or repeats the offer.
    pub(in crate::session) fn reply_with_state(
        &mut self,
        now: Instant,
        queue: &mut SendQueue,
        pool: &mut Pool,
    ) {
        self.last_received = now;
        self.send_state(queue, pool);
    }

    /// Sends the message of the current state.
    pub(in crate::session) fn send_state(&self, queue: &mut SendQueue, pool: &mut Pool) {
        let message = match self.state {
            SessionState::Waiting => return self.solicit(queue, pool),
            SessionState::Active => Message::Ready { capacity: self.capacity },
            SessionState::Complete => self.complete_message(),
            SessionState::Failed | SessionState::TimedOut => {
                Message::Leave { failed: true, reason: self.reason.clone() }
            }
            SessionState::Left => Message::Leave { failed: false, reason: self.reason.clone() },
        };
        self.answer(message, queue, pool);
    }

    // ----------------------------------------------------------------------------------------------- data

    /// Processes a packet of data segments. True when it ended the session.
    pub(in crate::session) fn data(
        &mut self,
        now: Instant,
        packet: &Packet,
        queue: &mut SendQueue,
        io: &mut Io,
    ) -> bool {
        self.last_received = now;
        let Some(transfer) = self.transfer.as_mut().filter(|_| self.state == SessionState::Active) else {
            return false;
        };
        let payload = packet.payload();
        let stride =
            if packet.vnet().is_super() { usize::from(packet.vnet().gso_size) } else { payload.len() };
        transfer.started.get_or_insert(now);
        transfer.store(payload, stride, &mut self.sink, queue.prefetch);
        transfer.last_arrival = now;
        self.retransmit = Some((now.plus_nanos(SILENCE_NS), SILENCE_NS));
        if self.verify(now, queue, io) {
            return true;
        }
        let Some(transfer) = &mut self.transfer else {
            return false;
        };
        if transfer.unreported >= transfer.interval.segments(transfer.received) {
            self.report_progress(now, false, queue, &mut io.pool);
        } else if transfer.report_due.is_none() {
            transfer.report_due = Some(now.plus_nanos(transfer.interval.nanos()));
        }
        false
    }

    fn report_progress(&mut self, now: Instant, polled: bool, queue: &mut SendQueue, pool: &mut Pool) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.unreported = 0;
        transfer.report_due = None;
        let progress = Progress {
            highest: transfer.highest,
            received: transfer.received,
            bytes: transfer.bytes,
            clock: now.nanos(),
            ack_delay: now.nanos_since(transfer.last_arrival),
            polled,
        };
        self.answer(Message::Progress(progress), queue, pool);
    }

    // ------------------------------------------------------------------------------------------- messages

    /// Processes a message of the sender.
    pub(in crate::session) fn handle(
        &mut self,
        now: Instant,
        header: Header,
        message: &Message,
        queue: &mut SendQueue,
        io: &mut Io,
    ) {
        self.last_received = now;
        match message {
            Message::Poll if self.state == SessionState::Active => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.enter_round(header.round);
                    transfer.highest = transfer.highest.max(header.index.min(transfer.segments));
                }
                self.report_progress(now, true, queue, &mut io.pool);
            }
            Message::SourceDone { digest } if self.state == SessionState::Active => {
                self.set_expected_digest(*digest);
                if !self.compare_digests(now, queue, io) {
                    self.send_missing(header.round, queue, &mut io.pool);
                }
            }
            Message::Poll | Message::SourceDone { .. } => self.reply_with_state(now, queue, &mut io.pool),
            Message::Ack if self.is_final() => self.retransmit = None,
            Message::Abort { known: false, .. } if self.has_no_data() => {
                self.return_to_waiting(now, queue, io)
            }
            Message::Abort { reason, .. } => {
                self.retransmit = None;
                if !self.is_final() {
                    self.end(now, SessionState::Failed, reason.clone(), queue.node_id, io);
                }
            }
            _ => {}
        }
    }

    /// Whether an offer was accepted and no data of it has arrived.
    fn has_no_data(&self) -> bool {
        let nothing = |transfer: &Transfer| transfer.started.is_none();
        self.state == SessionState::Active && self.transfer.as_ref().is_some_and(nothing)
    }

    /// Waits for an offer again: the accepted one was a delayed duplicate, or its sender was restarted.
    fn return_to_waiting(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        self.dropped = self.transfer.take().map(|transfer| transfer.number);
        self.state = SessionState::Waiting;
        self.retransmit = Some((now.plus_nanos(RETRANSMIT_NS.0), RETRANSMIT_NS.0));
        self.solicit(queue, &mut io.pool);
    }

    fn send_missing(&mut self, round: u8, queue: &mut SendQueue, pool: &mut Pool) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.enter_round(round);
        if !transfer.requested {
            transfer.requested = true;
            transfer.repair_rounds += 1;
        }
        let per_message =
            (usize::from(queue.mtu) - IP_UDP - wire::HEADER - wire::NUMBER - wire::NEED) / wire::RUN;
        let runs: Vec<(u32, u32)> = transfer.have.runs(false).take(per_message * NEED_MESSAGES).collect();
        let (bytes, count) = (transfer.bytes, runs.len().div_ceil(per_message));
        for (index, part) in runs.chunks(per_message).enumerate() {
            let need = Message::Need { last: index + 1 == count, bytes, runs: part.to_vec() };
            self.answer(need, queue, pool);
        }
    }

    // ------------------------------------------------------------------------------------------------ time

    pub(in crate::session) fn deadline(&self) -> Option<Instant> {
        let limit = |from: Instant, ms: u64| Some(from.plus_nanos(ms.saturating_mul(MS)));
        let end = match self.state {
            SessionState::Waiting => limit(self.created, self.limits.start_timeout_ms),
            SessionState::Active => limit(self.last_received, self.limits.peer_timeout_ms),
            _ => None,
        };
        let running = self.transfer.as_ref().filter(|_| self.state == SessionState::Active);
        let report = running.and_then(|transfer| transfer.report_due);
        let retransmit = self.retransmit.map(|(at, _)| at);
        end.into_iter().chain(report).chain(retransmit).min()
    }

    pub(in crate::session) fn tick(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.check_timeouts(now, queue, io);
        let report = self.transfer.as_ref().and_then(|transfer| transfer.report_due);
        if self.state == SessionState::Active && report.is_some_and(|due| due <= now) {
            self.report_progress(now, false, queue, &mut io.pool);
        }
        if let Some((_, pause)) = self.retransmit.filter(|(at, _)| *at <= now) {
            self.retransmit_state(now, pause, queue, &mut io.pool);
        }
    }

    fn check_timeouts(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        let (source, limits) = (self.source, self.limits.clone());
        match self.state {
            SessionState::Waiting
                if now.nanos_since(self.created) >= limits.start_timeout_ms.saturating_mul(MS) =>
            {
                let reason = format!("node {source} did not start within {} ms", limits.start_timeout_ms);
                self.end(now, SessionState::TimedOut, reason, queue.node_id, io);
            }
            SessionState::Active
                if now.nanos_since(self.last_received) >= limits.peer_timeout_ms.saturating_mul(MS) =>
            {
                let reason = format!("node {source} was silent for {} ms", limits.peer_timeout_ms);
                self.end(now, SessionState::TimedOut, reason, queue.node_id, io);
                let leave = Message::Leave { failed: true, reason: self.reason.clone() };
                self.answer(leave, queue, &mut io.pool);
            }
            _ => {}
        }
    }

    /// Retransmits the state, which the sender may have missed: waiting, ready, or complete.
    fn retransmit_state(&mut self, now: Instant, pause: u64, queue: &mut SendQueue, pool: &mut Pool) {
        let since = self.finished.unwrap_or(now);
        if now.nanos_since(since) >= self.limits.peer_timeout_ms.saturating_mul(MS) {
            self.retransmit = None;
            return;
        }
        let pause = (pause * 2).min(RETRANSMIT_NS.1);
        self.retransmit = Some((now.plus_nanos(pause), pause));
        self.send_state(queue, pool);
    }

    /// Requests an offer from the source.
    pub(in crate::session) fn solicit(&self, queue: &mut SendQueue, pool: &mut Pool) {
        let to = queue.addr(self.source);
        queue.send(Envelope { to, ..Envelope::default() }, &Message::Solicit { dest: self.dest }, pool);
    }

    // ------------------------------------------------------------------------------------------------ ends

    /// Ends the session at this side and notifies the sender.
    pub(in crate::session) fn leave(
        &mut self,
        now: Instant,
        state: SessionState,
        reason: &str,
        queue: &mut SendQueue,
        io: &mut Io,
    ) {
        if self.is_final() {
            return;
        }
        self.end(now, state, reason.to_owned(), queue.node_id, io);
        let failed = state != SessionState::Left;
        self.answer(Message::Leave { failed, reason: reason.to_owned() }, queue, &mut io.pool);
    }

    /// Processes the report that the sending node is gone.
    pub(in crate::session) fn source_gone(&mut self, now: Instant, reason: &str, node: NodeId, io: &mut Io) {
        self.retransmit = None;
        if self.state == SessionState::Active {
            self.end(now, SessionState::Failed, format!("the sending node is gone: {reason}"), node, io);
        }
    }

    fn end(&mut self, now: Instant, state: SessionState, reason: String, node: NodeId, io: &mut Io) {
        self.state = state;
        self.reason = reason;
        self.finished = Some(now);
        self.retransmit = None;
        if let Some(transfer) = &mut self.transfer {
            transfer.end();
        }
        let sink = std::mem::take(&mut self.sink);
        let data = (state == SessionState::Complete).then(|| ReceivedBytes(Arc::new(sink)));
        io.events.push(Event::SessionFinished { report: Box::new(self.report(now, node)), data });
    }

    fn answer(&self, message: Message, queue: &mut SendQueue, pool: &mut Pool) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let (to, number, round) = (queue.addr(self.source), transfer.number, transfer.round);
        queue.send(Envelope { to, number, round, ..Envelope::default() }, &message, pool);
    }

    // --------------------------------------------------------------------------------------------- results

    pub(in crate::session) fn report(&self, now: Instant, node: NodeId) -> SessionReport {
        let transfer = self.transfer.as_ref();
        let start = transfer.and_then(|transfer| transfer.started);
        let end = self.finished.unwrap_or(now);
        let seconds = start.map_or(0.0, |start| end.since(start).as_secs_f64());
        let repair_rounds = transfer.map_or(0, |transfer| transfer.repair_rounds);
        let bytes = transfer.map_or(0, |transfer| transfer.bytes);
        SessionReport {
            session: self.id,
            role: Role::Receiver,
            source: self.source,
            state: self.state,
            reason: self.reason.clone(),
            total_bytes: transfer.map_or(0, |transfer| transfer.total),
            seconds,
            repair_rounds,
            bytes_sent: 0,
            repair_bytes: 0,
            rtt_ns: None,
            peers: vec![PeerReport {
                node,
                state: self.state,
                bytes,
                seconds,
                repair_rounds,
                reason: self.reason.clone(),
            }],
        }
    }
}
