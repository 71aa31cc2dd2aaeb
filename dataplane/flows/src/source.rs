//! The sending side of a flow, on top of its TCP socket.

use std::time::Duration;

use nm_engine::{Instant, RouteId};
use smoltcp::socket::tcp::{Socket, State};

use crate::flow::{Amount, EndReason, FlowEnd, FlowEvent, FlowKey, FlowSpec};
use crate::frame::{self, Segment, FRAME};
use crate::pace::Pace;
use crate::window::Window;

/// How long a stopped flow waits for the destination's count: several round trips of slow profiles.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection is kept after its flow has ended, to acknowledge the destination's FIN.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Sending,
    /// Everything was sent; the destination's count is missing.
    Answering,
    /// The flow has ended; the connection may take a little longer.
    Done,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct Source {
    spec: FlowSpec,
    key: FlowKey,
    /// The explicit route of its packets that was reported; 0 for none.
    routed: RouteId,
    since: Instant,
    phase: Phase,
    mss: usize,
    window: Window,
    pace: Option<Pace>,
    /// The low 32 bits of the sequence number of the stream's first byte.
    origin: Option<u32>,
    fin_sent: bool,
    /// Bytes given to the socket, with the header.
    enqueued: u64,
    began: Option<Instant>,
    announced: bool,
    /// When a flow by time stops sending.
    sends_until: Option<Instant>,
    stopped: bool,
    /// When the connection is given up.
    gives_up_at: Option<Instant>,
    unreachable: bool,
    answer: Vec<u8>,
    end: Option<FlowEnd>,
}

impl Source {
    pub(crate) fn new(spec: FlowSpec, key: FlowKey, since: Instant, mss: usize, buffer: usize) -> Self {
        Self {
            spec,
            key,
            routed: 0,
            since,
            phase: Phase::Connecting,
            mss,
            window: Window::new(since, mss, buffer),
            pace: None,
            origin: None,
            fin_sent: false,
            enqueued: 0,
            began: None,
            announced: false,
            sends_until: None,
            stopped: false,
            gives_up_at: None,
            unreachable: false,
            answer: Vec::with_capacity(FRAME),
            end: None,
        }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.spec.weight.max(1)
    }

    /// The event of the beginning, once.
    pub(crate) fn take_began(&mut self) -> Option<FlowEvent> {
        let at = self.began.filter(|_| !std::mem::replace(&mut self.announced, self.began.is_some()))?;
        Some(self.began_event(at))
    }

    /// The event of the beginning again, if it was reported.
    pub(crate) fn began_again(&self) -> Option<FlowEvent> {
        let at = self.began.filter(|_| self.announced)?;
        Some(self.began_event(at))
    }

    fn began_event(&self, at: Instant) -> FlowEvent {
        FlowEvent::Began { id: self.spec.id, key: self.key, at }
    }

    /// The event of another route than the reported one, once the flow has begun; with `again`, of the same one as
    /// well. `route_of` returns the route of a flow that prefers one, 0 for none.
    pub(crate) fn routed(
        &mut self,
        now: Instant,
        again: bool,
        route_of: impl FnOnce(&FlowKey, RouteId) -> RouteId,
    ) -> Option<FlowEvent> {
        if !self.announced || self.phase == Phase::Done {
            return None;
        }
        let before = std::mem::replace(&mut self.routed, route_of(&self.key, self.spec.route));
        let new = self.routed != before || (again && self.routed != 0);
        new.then_some(FlowEvent::Routed { key: self.key, at: now, route: self.routed })
    }

    /// The route that its packets prefer, 0 for none.
    pub(crate) fn route(&self) -> RouteId {
        self.spec.route
    }

    /// Changes the rate, the weight and the preferred route.
    pub(crate) fn change(&mut self, now: Instant, wanted: &FlowSpec) {
        self.spec.weight = wanted.weight;
        self.spec.route = wanted.route;
        if self.spec.rate_bps != wanted.rate_bps {
            self.spec.rate_bps = wanted.rate_bps;
            if self.began.is_some() {
                self.pace = wanted.rate_bps.map(|rate| Pace::new(now, rate, self.mss));
            }
        }
    }

    /// Acknowledged bytes of payload.
    pub(crate) fn acked(&self) -> u64 {
        self.window.acked().saturating_sub(FRAME as u64)
    }

    /// The result, once.
    pub(crate) fn take_end(&mut self) -> Option<FlowEnd> {
        self.end.take()
    }

    /// A router reported that the destination is unreachable. It may be reachable again later, so this only explains
    /// a timeout (RFC 1122, section 4.2.3.9).
    pub(crate) fn set_unreachable(&mut self) {
        self.unreachable = true;
    }

    /// The path carries segments of at most this many bytes of payload.
    pub(crate) fn set_mss(&mut self, mss: usize) {
        self.mss = mss;
        self.window.set_mss(mss);
    }

    /// Ends the flow early: what was sent is still counted by the destination.
    pub(crate) fn stop(&mut self, now: Instant) {
        if !self.stopped {
            self.stopped = true;
            self.gives_up_at = Some(now + STOP_LIMIT);
        }
    }

    /// Does what the application of the socket would do.
    pub(crate) fn act(&mut self, now: Instant, socket: &mut Socket<'_>) {
        let in_buffer = socket.send_queue() as u64;
        if self.phase != Phase::Connecting {
            let before = self.window.acked();
            self.window.on_acked(now, self.enqueued.saturating_sub(in_buffer));
            if self.window.acked() > before {
                self.unreachable = false;
            }
        }
        if self.phase == Phase::Connecting {
            self.connecting(now, socket);
        }
        if self.phase == Phase::Sending {
            self.send(now, socket);
        }
        if matches!(self.phase, Phase::Sending | Phase::Answering) {
            self.read_answer(now, socket);
        }
        if self.gives_up_at.is_some_and(|at| at <= now) {
            socket.abort();
            if self.phase != Phase::Done {
                self.finish(now, EndReason::Stopped, None);
            }
        }
    }

    fn connecting(&mut self, now: Instant, socket: &mut Socket<'_>) {
        if socket.may_send() {
            self.phase = Phase::Sending;
            self.began = Some(now);
            self.pace = self.spec.rate_bps.map(|rate| Pace::new(now, rate, self.mss));
            self.sends_until = match self.spec.amount {
                Amount::Time(time) => Some(now + time),
                Amount::Bytes(_) => None,
            };
        } else if self.stopped {
            socket.abort();
            self.finish(now, EndReason::Stopped, None);
        }
    }

    /// Payload that is left to send.
    fn remaining(&self, now: Instant) -> u64 {
        let sent = self.enqueued.saturating_sub(FRAME as u64);
        match (self.spec.amount, self.sends_until) {
            _ if self.stopped => 0,
            (Amount::Bytes(size), _) => size.saturating_sub(sent),
            (Amount::Time(_), Some(until)) if now < until => u64::MAX,
            (Amount::Time(_), _) => 0,
        }
    }

    fn send(&mut self, now: Instant, socket: &mut Socket<'_>) {
        if self.enqueued == 0 {
            // The buffer of a new connection holds more than the header.
            self.enqueued = socket.send_slice(&frame::frame(self.spec.id)).unwrap_or(0) as u64;
        }
        let remaining = self.remaining(now);
        if remaining == 0 {
            socket.close();
            self.phase = Phase::Answering;
            return;
        }
        let in_buffer = socket.send_queue();
        let free = (socket.send_capacity() - in_buffer) as u64;
        let paced = self.pace.as_mut().map_or(u64::MAX, |pace| pace.available(now));
        let mut bytes = remaining.min(self.window.available(now, in_buffer as u64)).min(free).min(paced);
        if bytes < remaining {
            // Full segments, except for the last one.
            bytes -= bytes % self.mss as u64;
        }
        if let Some(pace) = &mut self.pace {
            pace.take(bytes);
        }
        while bytes > 0 {
            let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
            // The payload is whatever the buffer holds: nothing is copied, and unused memory stays untouched.
            let taken = socket.send(|free| {
                let len = free.len().min(wanted);
                (len, len)
            });
            match taken {
                Ok(len) if len > 0 => {
                    self.enqueued += len as u64;
                    bytes -= len as u64;
                }
                _ => break,
            }
        }
        if self.remaining(now) == 0 {
            socket.close();
            self.phase = Phase::Answering;
        }
    }

    fn read_answer(&mut self, now: Instant, socket: &mut Socket<'_>) {
        while socket.can_recv() && self.answer.len() < FRAME {
            let answer = &mut self.answer;
            let read = socket.recv(|bytes| {
                let len = bytes.len().min(FRAME - answer.len());
                answer.extend_from_slice(&bytes[..len]);
                (len, len)
            });
            if !matches!(read, Ok(len) if len > 0) {
                break;
            }
        }
        if let Ok(answer) = <[u8; FRAME]>::try_from(&self.answer[..]) {
            let reason = if self.stopped { EndReason::Stopped } else { EndReason::Complete };
            match frame::number(&answer).filter(|_| self.phase == Phase::Answering) {
                Some(count) => self.finish(now, reason, Some(count)),
                None => {
                    socket.abort();
                    self.finish(now, EndReason::Reset, None);
                }
            }
            self.gives_up_at = Some(now + LINGER);
        }
    }

    /// The socket is closed although the flow has not ended; `timed_out` when it gave up itself.
    pub(crate) fn closed(&mut self, now: Instant, timed_out: bool) {
        let reason = match (self.stopped, timed_out, self.phase) {
            (true, ..) => EndReason::Stopped,
            (_, true, _) if self.unreachable => EndReason::RouteGone,
            (_, true, _) => EndReason::TimedOut,
            (_, false, Phase::Connecting) => EndReason::Refused,
            _ => EndReason::Reset,
        };
        self.finish(now, reason, None);
    }

    fn finish(&mut self, now: Instant, reason: EndReason, count: Option<u64>) {
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Done;
        self.end = Some(FlowEnd {
            id: self.spec.id,
            key: Some(self.key),
            began: self.began.unwrap_or(self.since),
            ended: now,
            bytes: count.unwrap_or(self.acked()),
            reason,
        });
    }

    /// A segment was sent.
    pub(crate) fn on_sent(&mut self, now: Instant, sent: Segment) {
        self.fin_sent |= sent.fin;
        if sent.syn {
            self.origin = Some(sent.seq.wrapping_add(1));
        } else if let Some(origin) = self.origin {
            self.window.on_sent(now, sent.seq.wrapping_sub(origin), sent.payload);
        }
    }

    /// Whether the socket may send now.
    pub(crate) fn may_send(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Done => true,
            Phase::Sending | Phase::Answering => self.window.may_send(now, self.has_unsent()),
        }
    }

    /// Whether the socket has bytes or a FIN that were never sent.
    fn has_unsent(&self) -> bool {
        self.enqueued > self.window.highest() || (self.phase == Phase::Answering && !self.fin_sent)
    }

    /// A segment of the destination arrived.
    pub(crate) fn on_arrived(&mut self, arrived: Segment) {
        if let Some(origin) = self.origin.filter(|_| arrived.payload == 0) {
            self.window.on_acknowledgement(arrived.ack.wrapping_sub(origin));
        }
    }

    /// When [`Source::act`] has something to do without a packet.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let paced = self
            .pace
            .as_ref()
            .filter(|_| self.phase == Phase::Sending)
            .map(|pace| pace.next(self.remaining(now).min(self.mss as u64)));
        // What is available already is not sent because the window is full: then an acknowledgement is next.
        let paced = paced.filter(|at| *at > now);
        let until = self.sends_until.filter(|_| self.phase == Phase::Sending);
        let waiting = matches!(self.phase, Phase::Sending | Phase::Answering);
        let rescue = self.window.blocked_until(self.has_unsent()).filter(|_| waiting);
        [paced, until, rescue, self.gives_up_at].into_iter().flatten().min()
    }

    /// Whether the connection can be removed.
    pub(crate) fn is_gone(&self, state: State) -> bool {
        self.phase == Phase::Done && matches!(state, State::Closed | State::TimeWait)
    }
}
