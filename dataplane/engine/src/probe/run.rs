//! The asking side of a probe: trains of packets for the capacity, then echo requests for round trip and loss.
//!
//! ```text
//! Greeting ─▶ Train ⇄ Arriving ─▶ Echoes ─▶ Last echoes ─▶ Counting ─▶ ended
//! ```
//!
//! Each train is longer than the one before, until it occupies the link for [`LONG_ENOUGH_NS`], or half of the time or
//! nine tenths of the bytes are used.

use super::answer::mark;
use super::wire::{self, Header, Kind, Received, MOST_ECHOES};
use crate::link::LinkTerms;
use crate::{Instant, Packet, Pool, ProbeOrder, ProbeReport};

/// Segments of the first train: 20 kB, which a link of 1 Mbit carries in 0.2 s.
const FIRST_TRAIN: u32 = 16;
/// How much longer than the last train the next one is at most, and at least.
const GROWTH: (u64, u64) = (2, 16);
/// Nanoseconds of the measured half of a train after which it is long enough: timers that are 0.1 ms late change the
/// result by less than 0.5 %.
const LONG_ENOUGH_NS: u64 = 25_000_000;
/// The length that the next train aims at, both halves together.
const AIM_NS: u64 = 70_000_000;
/// Interval of requests for a report.
const ASK_NS: u64 = 20_000_000;
/// How long a neighbour may leave requests for a report without an answer.
const ANSWER_LIMIT_NS: u64 = 2_000_000_000;
/// How long nothing of a train arrives until the rest of it counts as lost; on slow links this many times as long as
/// a segment takes.
const QUIET_NS: u64 = 200_000_000;
const QUIET_SEGMENTS: u64 = 4;
/// Shortest interval between echo requests, and the share of the link that they may use: one fifth.
const ECHO_NS: u64 = 1_000_000;
const ECHO_SHARE: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The neighbour has not answered yet.
    Greeting,
    /// A train is sent: segments sent so far.
    Train(u32),
    /// All of the train was sent, and has not arrived yet.
    Arriving,
    /// Echo requests are sent; the next one is due then.
    Echoes(Instant),
    /// Answers to the last echo requests may still arrive.
    LastEchoes,
    /// The neighbour is asked how many echo requests arrived.
    Counting,
}

/// What the owner of a run has to do next.
#[derive(Debug)]
pub(super) enum Action {
    /// Send a packet below the impairments.
    Below(Packet),
    /// Send a packet of the measurement.
    Measured(Packet),
    Nothing,
}

/// One probe of one link by this node.
#[derive(Debug)]
pub(super) struct Run {
    order: ProbeOrder,
    ends: (u32, u32),
    mtu: u16,
    terms: LinkTerms,
    phase: Phase,
    started: Instant,
    /// When the last request for a report was sent, and when one was answered.
    asked: Instant,
    answered: Instant,
    train: u16,
    segments: u32,
    /// What was last known of the train, and since when.
    arrived: (Received, Instant),
    echo_interval: u64,
    echoes: u32,
    seen: Vec<u64>,
    /// Nanoseconds.
    round_trips: Vec<u64>,
    bytes: u64,
    capacity: Option<(u64, u64)>,
}

impl Run {
    /// A run that begins; `mtu` is that of the node.
    pub(super) fn new(now: Instant, order: ProbeOrder, ends: (u32, u32), mtu: u16, terms: LinkTerms) -> Self {
        let mtu = terms.mtu.map_or(mtu, |own| own.min(mtu)).max((wire::IP_UDP + wire::HEADER) as u16);
        Self {
            order,
            ends,
            mtu,
            terms,
            phase: Phase::Greeting,
            started: now,
            asked: Instant::ZERO,
            answered: now,
            train: 0,
            segments: 0,
            arrived: (Received::default(), now),
            echo_interval: ECHO_NS,
            echoes: 0,
            seen: Vec::new(),
            round_trips: Vec::new(),
            bytes: 0,
            capacity: None,
        }
    }

    pub(super) fn order(&self) -> &ProbeOrder {
        &self.order
    }

    pub(super) fn remote(&self) -> crate::NodeId {
        self.terms.remote
    }

    fn end(&self) -> Instant {
        self.started.plus_nanos(self.order.nanos)
    }

    /// When trains end at the latest: half of the time is for echoes.
    fn trains_end(&self) -> Instant {
        self.started.plus_nanos(self.order.nanos / 2)
    }

    /// When the last echo request is sent: answers get a quarter of the time.
    fn echoes_end(&self) -> Instant {
        self.started.plus_nanos(self.order.nanos / 4 * 3)
    }

    fn asks(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Arriving | Phase::Counting)
    }

    /// Whether [`Run::poll`] has a segment to send.
    pub(super) fn sends_train(&self) -> bool {
        matches!(self.phase, Phase::Train(_))
    }

    /// The next instant at which [`Run::handle_timeout`] must be called.
    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Greeting | Phase::Arriving | Phase::Counting => self.asked.plus_nanos(ASK_NS),
            Phase::Train(_) => self.trains_end(),
            Phase::Echoes(next) => next,
            Phase::LastEchoes => self.end(),
        }
    }

    /// Acts on what is due.
    ///
    /// # Errors
    ///
    /// Why the probe has failed.
    pub(super) fn handle_timeout(&mut self, now: Instant, pool: &mut Pool) -> Result<Action, String> {
        match self.phase {
            Phase::Train(_) if now >= self.trains_end() => {
                self.phase = Phase::Arriving;
                self.answered = now;
            }
            Phase::Echoes(next) if next <= now => return Ok(self.echo(now, next, pool)),
            Phase::LastEchoes if now >= self.end() => self.count(now),
            _ => {}
        }
        if !self.asks() || now < self.asked.plus_nanos(ASK_NS) {
            return Ok(Action::Nothing);
        }
        if now.nanos_since(self.answered) > ANSWER_LIMIT_NS {
            let remote = self.terms.remote;
            let limit = ANSWER_LIMIT_NS / 1_000_000_000;
            return Err(format!("node {remote} did not answer on the link within {limit} s"));
        }
        self.asked = now;
        Ok(Action::Below(wire::build(self.ends, self.header(Kind::ReportRequest, 0), None, pool)))
    }

    /// The next packet of a train.
    pub(super) fn poll(&mut self, now: Instant, pool: &mut Pool) -> Action {
        let Phase::Train(sent) = self.phase else {
            return Action::Nothing;
        };
        let count = wire::segments_per_packet(self.mtu).min(self.segments - sent);
        let header = Header { total: self.segments, ..self.header(Kind::Train, sent) };
        let packet = wire::build_train(self.ends, header, count, self.mtu, pool);
        self.bytes += u64::from(count) * u64::from(self.mtu);
        self.phase = match sent + count {
            sent if sent < self.segments => Phase::Train(sent),
            _ => {
                self.asked = now;
                self.answered = now;
                Phase::Arriving
            }
        };
        Action::Measured(packet)
    }

    /// Handles a report of the neighbour. Returns the result when that was the last one.
    pub(super) fn report(&mut self, now: Instant, header: &Header, report: Received) -> Option<ProbeReport> {
        if header.train != self.train || !self.asks() {
            return None;
        }
        self.answered = now;
        match self.phase {
            Phase::Greeting => {
                let own = self.terms.rate_bps.map_or(0, |rate| wire::ECHO * 8 * 1_000_000_000 / rate.max(1));
                let slowest = if self.order.below { 0 } else { own.max(report.echo_ns) };
                self.echo_interval = ECHO_NS.max(slowest.saturating_mul(ECHO_SHARE));
                self.next_train(now);
            }
            Phase::Arriving => {
                if report.segments != self.arrived.0.segments {
                    self.arrived = (report, now);
                }
                if self.has_arrived(now, &report) {
                    let measured = report.nanos > 0 && report.bytes > 0;
                    if measured && !(report.whole && self.capacity.is_some()) {
                        self.capacity = Some((report.bytes, report.nanos));
                    }
                    if measured && report.whole {
                        self.phase = Phase::Echoes(now); // a longer train would lose its end, too
                    } else {
                        self.next_train(now);
                    }
                }
            }
            Phase::Counting => return Some(self.result(report.echoes)),
            _ => {}
        }
        None
    }

    /// Whether nothing more of the train is to be waited for.
    fn has_arrived(&self, now: Instant, report: &Received) -> bool {
        if report.ended || now >= self.trains_end() {
            return true;
        }
        let (segments, nanos) = (u64::from(report.segments), now.nanos_since(self.arrived.1));
        let each = report.nanos / segments.max(2) * 2;
        segments > 0 && nanos > QUIET_NS.max(each * QUIET_SEGMENTS)
    }

    /// Begins the next train, or the echo requests.
    fn next_train(&mut self, now: Instant) {
        let (last, size) = (u64::from(self.segments), u64::from(self.mtu));
        let long = self.capacity.is_some_and(|(_, nanos)| nanos >= LONG_ENOUGH_NS);
        let aim = self.capacity.map_or(u64::MAX, |(bytes, nanos)| {
            (u128::from(bytes) * u128::from(AIM_NS) / u128::from(nanos.max(1)) / u128::from(size)) as u64
        });
        let left = (self.order.bytes / 10 * 9).saturating_sub(self.bytes) / size;
        let next = match last {
            0 => u64::from(FIRST_TRAIN).min(left),
            _ => aim.clamp(last * GROWTH.0, last * GROWTH.1).min(left),
        };
        if long || next <= last || now >= self.trains_end() || self.train == u16::MAX {
            self.phase = Phase::Echoes(now);
            return;
        }
        self.train += 1;
        self.segments = u32::try_from(next).unwrap_or(u32::MAX);
        self.arrived = (Received::default(), now);
        self.phase = Phase::Train(0);
    }

    fn echo(&mut self, now: Instant, due: Instant, pool: &mut Pool) -> Action {
        let spent = self.bytes + wire::ECHO > self.order.bytes;
        if spent || self.echoes == MOST_ECHOES || (now >= self.echoes_end() && self.echoes > 0) {
            self.phase = Phase::LastEchoes;
            return Action::Nothing;
        }
        let header = Header { time: now.nanos(), ..self.header(Kind::EchoRequest, self.echoes) };
        self.echoes += 1;
        self.bytes += wire::ECHO;
        // A late timer does not lead to a burst.
        let next = due.plus_nanos(self.echo_interval).max(now.plus_nanos(self.echo_interval / 2));
        self.phase = Phase::Echoes(next);
        Action::Measured(wire::build(self.ends, header, None, pool))
    }

    /// Handles the answer to an echo request.
    pub(super) fn echoed(&mut self, now: Instant, header: &Header) {
        if header.number >= self.echoes || !mark(&mut self.seen, header.number) {
            return;
        }
        self.round_trips.push(now.nanos_since(Instant(header.time)));
        if self.phase == Phase::LastEchoes && self.round_trips.len() == self.echoes as usize {
            self.count(now);
        }
    }

    fn count(&mut self, now: Instant) {
        self.phase = Phase::Counting;
        self.answered = now;
        self.asked = Instant::ZERO;
    }

    fn result(&mut self, arrived: u32) -> ProbeReport {
        self.round_trips.sort_unstable();
        ProbeReport {
            probe: self.order.probe,
            remote: self.terms.remote,
            capacity_bps: self
                .capacity
                .map(|(bytes, nanos)| (u128::from(bytes) * 8_000_000_000 / u128::from(nanos.max(1))) as u64),
            round_trip_p50_ns: quantile(&self.round_trips, 50),
            round_trip_p99_ns: quantile(&self.round_trips, 99),
            packets_sent: self.echoes,
            packets_received: arrived.min(self.echoes),
            packets_answered: self.round_trips.len() as u32,
            bytes: self.bytes,
            error: None,
        }
    }

    /// The result of a probe that has failed.
    pub(super) fn failed(&mut self, error: String) -> ProbeReport {
        ProbeReport { error: Some(error), ..self.result(0) }
    }

    fn header(&self, kind: Kind, number: u32) -> Header {
        Header {
            kind,
            below: self.order.below,
            train: self.train,
            number,
            probe: self.order.probe,
            time: 0,
            total: 0,
        }
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!((quantile(&values, 50), quantile(&values, 99)), (Some(100), Some(198)));
        assert_eq!((quantile(&[7], 50), quantile(&[7], 99), quantile(&[], 50)), (Some(7), Some(7), None));
    }
}
