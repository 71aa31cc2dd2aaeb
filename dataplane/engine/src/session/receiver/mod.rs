//! The receiving side of a session.
//!
//! ```text
//!  Waiting ──offer taken──▶ Active ──every byte, digest as the sender's──▶ Complete
//!     ▲                       │ └──digest differs, silence, Abort──▶ Failed, TimedOut
//!     └──there is none────────┘
//! ```
//!
//! Bytes go straight from the packet into the sink, which is as large as the caller said and is handed out
//! without a copy. What arrives twice is counted and thrown away; what arrives early waits at its place.

mod verify;

use std::sync::Arc;

use crate::digest::Digest;
use crate::session::outbox::{Envelope, Outbox, IP_UDP};
use crate::session::report::{PeerReport, Role, SessionReport, SessionState};
use crate::session::transfer::Transfer;
use crate::session::wire::{self, Header, Message, Progress, Terms};
use crate::{Event, Instant, Io, NodeId, Packet, Pool, ReceivedBytes, SessionConfig, SessionId};

const MS: u64 = 1_000_000;
/// The first and the longest pause before something is said again that the sender may have missed.
const NUDGE_NS: (u64, u64) = (50 * MS, 1_000 * MS);
/// After so much silence in the middle of a transfer we say that we are here: a sender that was restarted then says
/// that it knows nothing of us, which is better than to wait for it.
const SILENCE_NS: u64 = 1_000 * MS;
/// Messages that one answer about missing segments may take; the rest is told after the next round.
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
    /// The digest of what arrived, once that is everything.
    digest: Digest,
    /// The number of an offer that was taken and turned out to be none.
    dropped: Option<u64>,
    created: Instant,
    heard: Instant,
    finished: Option<Instant>,
    /// When we say again what the sender may have missed, and the pause before that.
    nudge: Option<(Instant, u64)>,
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
            heard: now,
            finished: None,
            nudge: Some((now.plus_nanos(NUDGE_NS.0), NUDGE_NS.0)),
        }
    }

    pub(in crate::session) fn waits(&self) -> bool {
        self.state == SessionState::Waiting
    }

    pub(in crate::session) fn is_final(&self) -> bool {
        self.state.is_final()
    }

    /// Whether it has ended and has nothing to repeat.
    pub(in crate::session) fn is_over(&self) -> bool {
        self.is_final() && self.nudge.is_none()
    }

    /// The number of the transfer that it has taken.
    pub(in crate::session) fn number(&self) -> Option<u64> {
        self.transfer.as_ref().map(|transfer| transfer.number)
    }

    /// The number of an offer that it no longer has, once.
    pub(in crate::session) fn take_dropped(&mut self) -> Option<u64> {
        self.dropped.take()
    }

    // ------------------------------------------------------------------------------------------- invitation

    /// The sender has something for us: takes it, or says why not.
    pub(in crate::session) fn accept(
        &mut self,
        now: Instant,
        number: u64,
        terms: Terms,
        outbox: &mut Outbox,
        io: &mut Io,
    ) {
        self.heard = now;
        let total = terms.total;
        self.transfer = Some(Transfer::new(now, number, terms, total <= self.capacity));
        self.answer(Message::Ready { capacity: self.capacity }, outbox, &mut io.pool);
        if total > self.capacity {
            let reason = format!("the transfer has {total} bytes, there is room for {}", self.capacity);
            self.end(now, SessionState::Failed, reason, outbox.node_id, io);
        } else {
            self.state = SessionState::Active;
            self.nudge = Some((now.plus_nanos(NUDGE_NS.0), NUDGE_NS.0));
        }
    }

    /// The sender is alive, though it has nothing to say to us.
    pub(in crate::session) fn mark_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The invitation came again: says again what we said.
    pub(in crate::session) fn invited_again(&mut self, now: Instant, outbox: &mut Outbox, pool: &mut Pool) {
        self.heard = now;
        self.say_state(outbox, pool);
    }

    /// Says how we stand.
    pub(in crate::session) fn say_state(&self, outbox: &mut Outbox, pool: &mut Pool) {
        let message = match self.state {
            SessionState::Waiting => return self.solicit(outbox, pool),
            SessionState::Active => Message::Ready { capacity: self.capacity },
            SessionState::Complete => self.complete_message(),
            SessionState::Failed | SessionState::TimedOut => {
                Message::Leave { failed: true, reason: self.reason.clone() }
            }
            SessionState::Left => Message::Leave { failed: false, reason: self.reason.clone() },
        };
        self.answer(message, outbox, pool);
    }

    // ----------------------------------------------------------------------------------------------- data

    /// Takes a packet of data segments. True when that ended the session.
    pub(in crate::session) fn data(
        &mut self,
        now: Instant,
        packet: &Packet,
        outbox: &mut Outbox,
        io: &mut Io,
    ) -> bool {
        self.heard = now;
        let Some(transfer) = self.transfer.as_mut().filter(|_| self.state == SessionState::Active) else {
            return false;
        };
        let payload = packet.payload();
        let step = if packet.vnet().is_super() { usize::from(packet.vnet().gso_size) } else { payload.len() };
        transfer.started.get_or_insert(now);
        transfer.take(payload, step, &mut self.sink, outbox.prefetch);
        transfer.last_arrival = now;
        self.nudge = Some((now.plus_nanos(SILENCE_NS), SILENCE_NS));
        if self.verify(now, outbox, io) {
            return true;
        }
        let Some(transfer) = &mut self.transfer else {
            return false;
        };
        if transfer.unreported >= transfer.cadence.segments(transfer.received) {
            self.report_progress(now, false, outbox, &mut io.pool);
        } else if transfer.report_due.is_none() {
            transfer.report_due = Some(now.plus_nanos(transfer.cadence.nanos()));
        }
        false
    }

    fn report_progress(&mut self, now: Instant, polled: bool, outbox: &mut Outbox, pool: &mut Pool) {
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
            hold: now.nanos_since(transfer.last_arrival),
            polled,
        };
        self.answer(Message::Progress(progress), outbox, pool);
    }

    // ------------------------------------------------------------------------------------------- questions

    /// Takes a message of the sender.
    pub(in crate::session) fn handle(
        &mut self,
        now: Instant,
        header: Header,
        message: &Message,
        outbox: &mut Outbox,
        io: &mut Io,
    ) {
        self.heard = now;
        match message {
            Message::Poll if self.state == SessionState::Active => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.enter_round(header.round);
                    transfer.highest =
                        transfer.highest.max(header.offset.min(u64::from(transfer.segments)) as u32);
                }
                self.report_progress(now, true, outbox, &mut io.pool);
            }
            Message::SourceDone { digest } if self.state == SessionState::Active => {
                self.promise(*digest);
                if !self.judge(now, outbox, io) {
                    self.tell_missing(header.round, outbox, &mut io.pool);
                }
            }
            Message::Poll | Message::SourceDone { .. } => self.invited_again(now, outbox, &mut io.pool),
            Message::Ack if self.is_final() => self.nudge = None,
            Message::Abort { known: false, .. } if self.is_untouched() => self.wait_again(now, outbox, io),
            Message::Abort { reason, .. } => {
                self.nudge = None;
                if !self.is_final() {
                    self.end(now, SessionState::Failed, reason.clone(), outbox.node_id, io);
                }
            }
            _ => {}
        }
    }

    /// Whether an offer was taken of which nothing has come yet.
    fn is_untouched(&self) -> bool {
        let nothing = |transfer: &Transfer| transfer.started.is_none();
        self.state == SessionState::Active && self.transfer.as_ref().is_some_and(nothing)
    }

    /// What was taken is no offer: a copy of an old one that was still on its way, or its sender was restarted.
    fn wait_again(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) {
        self.dropped = self.transfer.take().map(|transfer| transfer.number);
        self.state = SessionState::Waiting;
        self.nudge = Some((now.plus_nanos(NUDGE_NS.0), NUDGE_NS.0));
        self.solicit(outbox, &mut io.pool);
    }

    fn tell_missing(&mut self, round: u8, outbox: &mut Outbox, pool: &mut Pool) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.enter_round(round);
        if !transfer.asked {
            transfer.asked = true;
            transfer.repair_rounds += 1;
        }
        let per_message =
            (usize::from(outbox.mtu) - IP_UDP - wire::HEADER - wire::NUMBER - wire::NEED) / wire::RUN;
        let runs: Vec<(u32, u32)> = transfer.have.runs(false).take(per_message * NEED_MESSAGES).collect();
        let (bytes, count) = (transfer.bytes, runs.len().div_ceil(per_message));
        for (index, part) in runs.chunks(per_message).enumerate() {
            let need = Message::Need { last: index + 1 == count, bytes, runs: part.to_vec() };
            self.answer(need, outbox, pool);
        }
    }

    // ------------------------------------------------------------------------------------------------ time

    pub(in crate::session) fn deadline(&self) -> Option<Instant> {
        let limit = |from: Instant, ms: u64| Some(from.plus_nanos(ms.saturating_mul(MS)));
        let end = match self.state {
            SessionState::Waiting => limit(self.created, self.limits.start_timeout_ms),
            SessionState::Active => limit(self.heard, self.limits.peer_timeout_ms),
            _ => None,
        };
        let running = self.transfer.as_ref().filter(|_| self.state == SessionState::Active);
        let report = running.and_then(|transfer| transfer.report_due);
        let nudge = self.nudge.map(|(at, _)| at);
        end.into_iter().chain(report).chain(nudge).min()
    }

    pub(in crate::session) fn tick(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.give_up(now, outbox, io);
        let report = self.transfer.as_ref().and_then(|transfer| transfer.report_due);
        if self.state == SessionState::Active && report.is_some_and(|due| due <= now) {
            self.report_progress(now, false, outbox, &mut io.pool);
        }
        if let Some((_, pause)) = self.nudge.filter(|(at, _)| *at <= now) {
            self.say_again(now, pause, outbox, &mut io.pool);
        }
    }

    fn give_up(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) {
        let (source, limits) = (self.source, self.limits.clone());
        match self.state {
            SessionState::Waiting
                if now.nanos_since(self.created) >= limits.start_timeout_ms.saturating_mul(MS) =>
            {
                let reason = format!("node {source} did not start within {} ms", limits.start_timeout_ms);
                self.end(now, SessionState::TimedOut, reason, outbox.node_id, io);
            }
            SessionState::Active
                if now.nanos_since(self.heard) >= limits.peer_timeout_ms.saturating_mul(MS) =>
            {
                let reason = format!("node {source} was silent for {} ms", limits.peer_timeout_ms);
                self.end(now, SessionState::TimedOut, reason, outbox.node_id, io);
                let leave = Message::Leave { failed: true, reason: self.reason.clone() };
                self.answer(leave, outbox, &mut io.pool);
            }
            _ => {}
        }
    }

    /// Repeats what the sender may have missed: that we wait, that we are ready, or that we have everything.
    fn say_again(&mut self, now: Instant, pause: u64, outbox: &mut Outbox, pool: &mut Pool) {
        let since = self.finished.unwrap_or(now);
        if now.nanos_since(since) >= self.limits.peer_timeout_ms.saturating_mul(MS) {
            self.nudge = None;
            return;
        }
        let pause = (pause * 2).min(NUDGE_NS.1);
        self.nudge = Some((now.plus_nanos(pause), pause));
        self.say_state(outbox, pool);
    }

    /// Asks the source whether it has something for us.
    pub(in crate::session) fn solicit(&self, outbox: &mut Outbox, pool: &mut Pool) {
        let to = outbox.addr(self.source);
        outbox.send(Envelope { to, ..Envelope::default() }, &Message::Solicit { dest: self.dest }, pool);
    }

    // ------------------------------------------------------------------------------------------------ ends

    /// Ends it from our side and tells the sender.
    pub(in crate::session) fn leave(
        &mut self,
        now: Instant,
        state: SessionState,
        reason: &str,
        outbox: &mut Outbox,
        io: &mut Io,
    ) {
        if self.is_final() {
            return;
        }
        self.end(now, state, reason.to_owned(), outbox.node_id, io);
        let failed = state != SessionState::Left;
        self.answer(Message::Leave { failed, reason: reason.to_owned() }, outbox, &mut io.pool);
    }

    /// The sending node is gone.
    pub(in crate::session) fn source_gone(&mut self, now: Instant, reason: &str, node: NodeId, io: &mut Io) {
        self.nudge = None;
        if self.state == SessionState::Active {
            self.end(now, SessionState::Failed, format!("the sending node is gone: {reason}"), node, io);
        }
    }

    fn end(&mut self, now: Instant, state: SessionState, reason: String, node: NodeId, io: &mut Io) {
        self.state = state;
        self.reason = reason;
        self.finished = Some(now);
        self.nudge = None;
        if let Some(transfer) = &mut self.transfer {
            transfer.end();
        }
        let sink = std::mem::take(&mut self.sink);
        let data = (state == SessionState::Complete).then(|| ReceivedBytes(Arc::new(sink)));
        io.events.push(Event::SessionFinished { report: Box::new(self.report(now, node)), data });
    }

    fn answer(&self, message: Message, outbox: &mut Outbox, pool: &mut Pool) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let (to, number, round) = (outbox.addr(self.source), transfer.number, transfer.round);
        outbox.send(Envelope { to, number, round, ..Envelope::default() }, &message, pool);
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
