//! Congestion control: a model of the path to each receiver, after BBR (draft-ietf-ccwg-bbr).
//!
//! The reports of a receiver give its delivery rate, the round-trip time and the share of lost segments. The sender
//! keeps about one bandwidth-delay product in flight and paces at the delivery rate, with periodic probes for more
//! bandwidth (Cardwell et al., "BBR", ACM Queue 14(5), 2016: start-up gain 2 / ln 2, a cycle of eight phases). Loss
//! alone does not reduce the rate, since a link may be lossy without congestion: loss that persists while the queue
//! is empty is added to the delivery rate, so that goodput does not collapse over several lossy links. The rate is
//! reduced when the delivery rate stops growing. The slowest receiver determines the rate for all.
//!
//! Positions are counted in segments sent since the start, retransmissions included.

use std::collections::VecDeque;

use super::report_interval::ReportInterval;
use super::wire::Progress;
use crate::Instant;

/// Start-up gain of BBR while the rate still doubles: 2 / ln 2.
const STARTUP_GAIN: f64 = 2.885;
/// Gains of BBR's probing cycle: probe at 1.25, drain the queue at 0.75, then cruise.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const DRAIN: usize = 1;
/// A probe that increased the delivery rate by this factor is followed immediately by the next one.
const PROBE_GROWTH: f64 = 1.08;
/// Start-up ends when the rate grew by less than a quarter for this many samples (BBR's full-pipe test).
const FULL_PIPE_SAMPLES: u32 = 3;
/// Initial window in segments, slightly more than TCP's ten (RFC 6928).
const INITIAL_WINDOW: u64 = 16;
/// Shortest rate sample in nanoseconds; samples are kept for this many nanoseconds or this number of samples.
const SAMPLE_NS: u64 = 2_000_000;
const RATE_EXPIRY_NS: u64 = 300_000_000;
const RATE_SAMPLES: usize = 10;
/// Segments per loss sample; the minimum of this many samples is taken as the loss of the path.
const LOSS_SEGMENTS: u64 = 64;
const LOSS_SAMPLES: usize = 16;
/// Loss above the path loss that shortens bursts: it indicates a queue too short for them.
const EXCESS_LOSS: f64 = 0.05;
/// Burst in segments during the drain phase: short, so that loss in this phase is loss of the path and not of bursts.
const DRAIN_BURST: f64 = 4.0;
/// The longest burst, in segments: one super-packet.
const MAX_BURST: f64 = 44.0;
/// A path with more loss than this is paced even if its round-trip time is short.
const PACED_LOSS: f64 = 0.02;
/// Upper bound of the estimated path loss.
const MAX_PATH_LOSS: f64 = 0.6;
/// Shorter round-trip times occur on memory links: these are limited by the window alone, without pacing timers.
const PACED_RTT_NS: f64 = 500_000.0;
/// Longest packet and longest burst, as time at the pacing rate.
const BURST_NS: u64 = 2_000_000;
/// Smallest packet in segments at a slow rate: every packet costs a fixed time at every node.
const MIN_QUANTUM: f64 = 4.0;
/// Minimum in flight for tiny round-trip times: this much time of the rate, at most this many bytes. 1 MB was the
/// best of 256 KB, 1 MB and 8 MB in measurements of memory and TCP links on one machine.
const FLOOR_NS: f64 = 10_000_000.0;
const FLOOR_BYTES: f64 = 1_048_576.0;
/// Shortest time between two computations of the rate: reports of many receivers arrive together.
const ADAPT_NS: u64 = 100_000;
/// The window follows the round-trip time up to this much above the minimum: scheduling delays look like a queue, but
/// a smaller window does not reduce them.
const MAX_DELAY_NS: f64 = 50_000_000.0;
/// The minimum round-trip time expires after one to two of these periods, or of this many round trips: longer than a
/// probing cycle, which drains the session's own queue, and short enough to follow changes of the CPU load. With an
/// outdated minimum the window would be too small on a busy machine, and the delivery rate would decrease with it.
const MIN_RTT_EXPIRY_NS: u64 = 500_000_000;
const MIN_RTT_EXPIRY_TRIPS: u64 = 16;

/// The model of the path to one receiver.
#[derive(Debug)]
pub(super) struct PathModel {
    /// Every segment before this position has arrived or is lost.
    pub acked: u64,
    received: u64,
    srtt: Option<f64>,
    min_rtt: [f64; 2],
    min_rtt_since: Instant,
    /// Minimum round-trip times of the current and of the previous rate sample: the delay of the first packet of a
    /// burst.
    sample_rtt: [f64; 2],
    /// Clock of the receiver and its segment count at the start of the current rate sample.
    rate_start: Option<(u64, u64)>,
    rates: VecDeque<(Instant, f64)>,
    best_rate: f64,
    /// Position and count at the start of the current loss sample.
    loss_start: (u64, u64),
    losses: VecDeque<f64>,
    /// Estimated loss of the path: the loss while the queue is empty.
    path_loss: f64,
    /// Estimated burst in segments that does not overflow a queue.
    burst: f64,
    /// The window during start-up: it grows by every segment that arrives, so it doubles per round trip.
    startup_window: u64,
}

impl PathModel {
    pub(super) fn new(position: u64) -> Self {
        Self {
            acked: position,
            received: 0,
            srtt: None,
            min_rtt: [f64::INFINITY; 2],
            min_rtt_since: Instant::ZERO,
            sample_rtt: [f64::INFINITY, 0.0],
            rate_start: None,
            rates: VecDeque::with_capacity(RATE_SAMPLES + 1),
            best_rate: 0.0,
            loss_start: (position, 0),
            losses: VecDeque::with_capacity(LOSS_SAMPLES + 1),
            path_loss: 0.0,
            burst: MAX_BURST,
            startup_window: INITIAL_WINDOW,
        }
    }

    /// Processes a report. `position` is the acknowledged position, `sent` the time when it was sent.
    pub(super) fn report(&mut self, now: Instant, position: u64, sent: Option<Instant>, report: &Progress) {
        let new = report.received.saturating_sub(self.received);
        self.received = self.received.max(report.received);
        if position > self.acked {
            self.acked = position;
            // A reply to a poll gives no round-trip time of data: the poll may have been queued after the data had
            // left.
            if let Some(sent) = sent.filter(|_| !report.polled) {
                self.add_rtt_sample(now, now.nanos_since(sent).saturating_sub(report.ack_delay) as f64);
            }
        }
        self.startup_window = self.startup_window.saturating_add(new);
        self.sample_loss();
        self.sample_rate(now, report.clock.saturating_sub(report.ack_delay));
    }

    /// Smoothed round-trip time in nanoseconds, if any was measured.
    pub(super) fn rtt(&self) -> Option<f64> {
        self.srtt
    }

    fn min_rtt(&self) -> f64 {
        self.min_rtt[0].min(self.min_rtt[1])
    }

    fn add_rtt_sample(&mut self, now: Instant, rtt: f64) {
        self.srtt = Some(self.srtt.map_or(rtt, |old| old + (rtt - old) / 8.0));
        let expiry = MIN_RTT_EXPIRY_NS.max(MIN_RTT_EXPIRY_TRIPS * self.srtt.unwrap_or(rtt) as u64);
        if now.nanos_since(self.min_rtt_since) > expiry {
            self.min_rtt = [rtt, self.min_rtt[0]];
            self.min_rtt_since = now;
        }
        self.min_rtt[0] = self.min_rtt[0].min(rtt);
        self.sample_rtt[0] = self.sample_rtt[0].min(rtt);
    }

    fn queue_builds(&self) -> bool {
        self.srtt.is_some_and(|rtt| rtt > self.min_rtt() * 1.25 + 2_000_000.0)
    }

    fn sample_loss(&mut self) {
        let (position, received) = self.loss_start;
        let passed = self.acked.saturating_sub(position);
        if passed < LOSS_SEGMENTS {
            return;
        }
        let arrived = self.received.saturating_sub(received);
        let mut loss = 1.0 - (arrived as f64 / passed as f64).min(1.0);
        // The minimum of many samples is about two deviations below the mean; this sample may be two above it.
        let deviation = (loss * (1.0 - loss) / passed as f64).sqrt();
        let excess = loss > self.path_loss + EXCESS_LOSS + 4.0 * deviation;
        self.burst = if excess { (self.burst / 2.0).max(1.0) } else { (self.burst + 1.0).min(MAX_BURST) };
        if self.queue_builds() {
            loss = loss.min(self.path_loss);
        }
        self.loss_start = (self.acked, self.received);
        self.losses.push_back(loss);
        if self.losses.len() > LOSS_SAMPLES {
            self.losses.pop_front();
        }
        self.path_loss = self.losses.iter().copied().fold(MAX_PATH_LOSS, f64::min);
    }

    fn sample_rate(&mut self, now: Instant, clock: u64) {
        let Some((start, received)) = self.rate_start else {
            self.rate_start = Some((clock, self.received));
            return;
        };
        let time = clock.saturating_sub(start);
        if time < SAMPLE_NS.max(self.srtt.unwrap_or(0.0) as u64) {
            return;
        }
        let rate = (self.received - received) as f64 * 1e9 / time as f64;
        self.rate_start = Some((clock, self.received));
        self.sample_rtt = [f64::INFINITY, self.sample_rtt[0]];
        self.rates.push_back((now, rate));
        while self.rates.len() > RATE_SAMPLES
            && self.rates.front().is_some_and(|(at, _)| now.nanos_since(*at) > RATE_EXPIRY_NS)
        {
            self.rates.pop_front();
        }
        self.best_rate = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    }

    /// Whether the queue is so long that the path must be full.
    fn is_bloated(&self) -> bool {
        let queued = self.sample_rtt[1];
        queued.is_finite() && queued > 1.5 * self.min_rtt() + 5_000_000.0
    }

    /// Delivery rate in segments per second.
    fn delivery_rate(&self) -> Option<f64> {
        (self.best_rate > 0.0).then_some(self.best_rate)
    }

    /// The rate in segments per second at which to send so that the delivery rate arrives despite the path loss.
    fn sending_rate(&self) -> Option<f64> {
        self.delivery_rate().map(|rate| rate / (1.0 - self.path_loss))
    }

    /// Upper bound of the segments in flight to this receiver.
    fn window(&self, startup: bool, interval: ReportInterval, segment_bytes: f64, max_window: u64) -> u64 {
        if startup {
            return self.startup_window.min(max_window);
        }
        let Some(rate) = self.sending_rate() else {
            return INITIAL_WINDOW.min(max_window);
        };
        let min_rtt = self.min_rtt();
        let unqueued = if min_rtt.is_finite() { 2.0 * min_rtt } else { 0.0 };
        let current = (1.25 * self.srtt.unwrap_or(0.0)).min(min_rtt + MAX_DELAY_NS);
        let in_flight = rate * unqueued.max(current) / 1e9;
        let quantum = (rate * BURST_NS as f64 / 1e9).clamp(1.0, MAX_BURST);
        // Segments whose report is delayed count as in flight: allow several reports at the longest interval.
        let waiting = FLOOR_NS + 3.0 * interval.nanos() as f64;
        let most_waiting = (FLOOR_BYTES / segment_bytes).max(4.0 * interval.segments(u64::MAX) as f64);
        let floor = (rate * waiting / 1e9).min(most_waiting);
        (in_flight + 4.0 * quantum).max(floor).max(4.0).min(max_window as f64) as u64
    }

    fn needs_pacing(&self) -> bool {
        let loses = self.losses.back().is_some_and(|loss| *loss > PACED_LOSS);
        loses || self.srtt.is_none_or(|rtt| rtt > PACED_RTT_NS)
    }

    fn pace(&self, startup: bool, phase: usize) -> Option<f64> {
        if !self.needs_pacing() {
            return None;
        }
        if startup {
            // When a queue builds, use the smaller gain, although scheduling delays may be the cause.
            let gain = if self.is_bloated() { CYCLE[0] } else { STARTUP_GAIN };
            return self.sending_rate().map(|rate| rate * gain);
        }
        if phase == DRAIN {
            return self.delivery_rate().map(|rate| rate * CYCLE[DRAIN]);
        }
        self.sending_rate().map(|rate| rate * CYCLE[phase])
    }
}

/// The pacing rate and window of a session.
#[derive(Debug)]
pub(super) struct Pace {
    interval: ReportInterval,
    /// Bytes of a full segment on the wire, with headers.
    segment_bytes: f64,
    /// Upper bound of the segments in flight.
    max_window: u64,
    startup: Option<Startup>,
    /// Phase of the probing cycle, and its start.
    phase: usize,
    phase_since: Instant,
    /// Delivery rate of the slowest receiver at the start of the cycle.
    cycle_rate: f64,
    /// Pacing rate in segments per second; `None` without pacing.
    rate: Option<f64>,
    /// Burst in segments.
    burst: f64,
    adapted: Option<Instant>,
    next_send: Instant,
    /// Send times: the position behind the last segment of each packet, and the time.
    sent: VecDeque<(u64, Instant)>,
}

/// Start-up: lasts until the delivery rate of the slowest receiver stops growing.
#[derive(Debug, Default)]
struct Startup {
    best: f64,
    flat: u32,
    checked: Instant,
}

impl Pace {
    pub(super) fn new(segment_bytes: u64, window_bytes: u64, interval: ReportInterval) -> Self {
        Self {
            interval,
            segment_bytes: segment_bytes as f64,
            max_window: (window_bytes / segment_bytes).max(4),
            startup: Some(Startup::default()),
            phase: 2,
            phase_since: Instant::ZERO,
            cycle_rate: 0.0,
            rate: None,
            burst: MAX_BURST,
            adapted: None,
            next_send: Instant::ZERO,
            sent: VecDeque::new(),
        }
    }

    /// Whether the rate is to be computed again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.adapted.is_none_or(|last| now.nanos_since(last) >= ADAPT_NS)
    }

    /// Adapts rate and window to the responsive receivers; the slowest one determines them.
    pub(super) fn adapt<'a>(&mut self, now: Instant, paths: impl Iterator<Item = &'a PathModel>) {
        self.adapted = Some(now);
        let startup = self.startup.is_some();
        let (mut pace, mut slowest) = (None, f64::INFINITY);
        let (mut longest, mut burst, mut bloated) = (0.0_f64, MAX_BURST, false);
        for path in paths {
            longest = longest.max(path.rtt().unwrap_or(0.0));
            burst = burst.min(path.burst);
            bloated |= path.is_bloated();
            slowest = slowest.min(path.delivery_rate().unwrap_or(0.0));
            if let Some(rate) = path.pace(startup, self.phase) {
                pace = Some(pace.map_or(rate, |other: f64| other.min(rate)));
            }
        }
        self.rate = pace;
        let round = longest.max((SAMPLE_NS + self.interval.nanos()) as f64) as u64;
        if startup {
            self.burst = burst;
            self.check_full_pipe(now, round, slowest, bloated);
        } else {
            self.burst = if self.phase == DRAIN { burst.min(DRAIN_BURST) } else { burst };
            self.advance_phase(now, round, slowest);
        }
    }

    fn check_full_pipe(&mut self, now: Instant, round: u64, slowest: f64, bloated: bool) {
        let Some(startup) = &mut self.startup else { return };
        if slowest > 0.0 && now.nanos_since(startup.checked) >= round {
            startup.checked = now;
            let grown = slowest > startup.best * 1.25;
            startup.flat = if grown { 0 } else { startup.flat + 1 };
            startup.best = startup.best.max(slowest);
            // A queue alone may result from scheduling delays; a queue and no growth indicate a full pipe.
            if startup.flat >= if bloated { 1 } else { FULL_PIPE_SAMPLES } {
                self.startup = None;
            }
        }
    }

    fn advance_phase(&mut self, now: Instant, round: u64, slowest: f64) {
        // Probe and drain phases last as long as a rate sample needs to show their effect.
        let length = if self.phase <= DRAIN { 2 * round } else { round };
        if now.nanos_since(self.phase_since) < length {
            return;
        }
        // While probes increase the rate, the cruise phases are skipped.
        let found_more = self.phase == DRAIN && slowest > self.cycle_rate * PROBE_GROWTH;
        self.phase = if found_more { 0 } else { (self.phase + 1) % CYCLE.len() };
        self.phase_since = now;
        if self.phase == 0 {
            self.cycle_rate = slowest;
        }
    }

    /// Whether the window of a receiver has room.
    pub(super) fn has_room(&self, path: &PathModel, position: u64) -> bool {
        position.saturating_sub(path.acked)
            < path.window(self.startup.is_some(), self.interval, self.segment_bytes, self.max_window)
    }

    /// The earliest time of the next packet.
    pub(super) fn next_send(&self) -> Instant {
        if self.rate.is_some() {
            self.next_send
        } else {
            Instant::ZERO
        }
    }

    /// Number of segments of the next packet, at most `limit`.
    pub(super) fn quantum(&self, limit: u32) -> u32 {
        self.rate
            .map_or(limit, |rate| (rate * BURST_NS as f64 / 1e9).max(MIN_QUANTUM).min(self.burst) as u32)
            .clamp(1, limit)
    }

    /// Records that `segments` segments were sent and `position` is reached.
    pub(super) fn sent(&mut self, now: Instant, segments: u32, position: u64) {
        if let Some(rate) = self.rate {
            // Time lost to a late timer is compensated for by at most one burst.
            let burst = (self.burst * 1e9 / rate).min(BURST_NS as f64) as u64;
            let from = self.next_send.max(Instant(now.nanos().saturating_sub(burst)));
            self.next_send = from.plus_nanos((f64::from(segments) * 1e9 / rate) as u64);
        }
        self.sent.push_back((position, now));
    }

    /// When the segment that ends at or after `position` was sent.
    pub(super) fn sent_at(&self, position: u64) -> Option<Instant> {
        let index = self.sent.partition_point(|(end, _)| *end < position);
        self.sent.get(index).map(|(_, at)| *at)
    }

    /// Discards send times of positions that no receiver will report any more.
    pub(super) fn discard_before(&mut self, position: u64) {
        while self.sent.front().is_some_and(|(end, _)| *end < position) {
            self.sent.pop_front();
        }
    }
}
