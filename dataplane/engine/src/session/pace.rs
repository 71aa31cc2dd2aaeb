//! Congestion control: a model of the path to each receiver, after BBR (draft-ietf-ccwg-bbr).
//!
//! A receiver's reports give its delivery rate, the round-trip time and the share of segments that got lost. The
//! sender keeps about one bandwidth-delay product in flight and paces at the delivery rate, probing upwards
//! from time to time (Cardwell et al., "BBR", ACM Queue 14(5), 2016: start-up gain 2.77, cycle of eight). Loss
//! alone never slows it down, for a link may simply be lossy: loss that stays while the queue is empty is added
//! on top of the delivery rate, so that goodput does not collapse over several lossy links. What slows it down is
//! a delivery rate that no longer grows. The slowest receiver sets the pace for all.
//!
//! Positions are counted in segments sent since the start, repair included.

use std::collections::VecDeque;

use super::cadence::Cadence;
use super::wire::Progress;
use crate::Instant;

/// BBR's gain while the rate still doubles: 2 / ln 2.
const STARTUP_GAIN: f64 = 2.885;
/// BBR's probing cycle: up a quarter, drain what that queued, then cruise.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const DRAIN: usize = 1;
/// A probe that raised the delivery rate by this much is followed by the next one at once.
const FOUND_MORE: f64 = 1.08;
/// Start-up ends when the rate grew by less than a quarter for this many samples (BBR's full-pipe test).
const FULL_PIPE_SAMPLES: u32 = 3;
/// Window at the start, in segments; TCP's ten (RFC 6928) and a little, since nobody else shares an emulated link.
const INITIAL_WINDOW: u64 = 16;
/// Rates are measured over at least this long, and remembered this long or for this many samples.
const SAMPLE_NS: u64 = 2_000_000;
const RATE_MEMORY_NS: u64 = 300_000_000;
const RATE_SAMPLES: usize = 10;
/// Loss is measured over this many segments, and the least of this many samples is taken for the path's own.
const LOSS_SEGMENTS: u64 = 64;
const LOSS_SAMPLES: usize = 16;
/// Loss beyond the path's own that makes bursts shorter: a short queue does not hold them.
const EXCESS_LOSS: f64 = 0.05;
/// Bursts while the cycle drains: short, so that the loss seen then is the path's own and not our bursts'.
const DRAIN_BURST: f64 = 4.0;
/// The longest burst, in segments: one super-packet.
const MAX_BURST: f64 = 44.0;
/// A path that loses more than this is paced however short its round trip is.
const PACED_LOSS: f64 = 0.02;
/// More than this is never taken for a path's own loss.
const MAX_OWN_LOSS: f64 = 0.6;
/// Round trips below this are hand-overs in memory: the window alone governs there, timers would only disturb.
const PACED_RTT_NS: f64 = 500_000.0;
/// Packets and bursts of at most this much time of the rate.
const BURST_NS: u64 = 2_000_000;
/// Packets are not made smaller than this to fit a slow rate: each costs its way through every node.
const LEAST_QUANTUM: f64 = 4.0;
/// In flight even when the round trip is tiny: this much time of the rate, at most this many bytes. 1 MB was the
/// best of 256 KB, 1 MB and 8 MB in measurements of memory and TCP links on one machine.
const FLOOR_NS: f64 = 10_000_000.0;
const FLOOR_BYTES: f64 = 1_048_576.0;
/// Reports of many receivers arrive together; looking at all of them again this often is enough.
const ADAPT_NS: u64 = 100_000;
/// Round trips may be this much longer than the least one before the window stops following them: waiting threads
/// look like a queue, but a smaller window does not make them faster.
const MAX_DELAY_NS: f64 = 50_000_000.0;
/// The least round trip is forgotten after one to two of these, or of so many round trips: more than a probing
/// cycle, which drains our own queue, and short enough to follow a machine whose threads wait for their turn. A
/// window by an old round trip would starve the session on a busy machine, and its rate would follow downwards.
const RTT_MEMORY_NS: u64 = 500_000_000;
const RTT_MEMORY_TRIPS: u64 = 16;

/// The model of the path to one receiver.
#[derive(Debug)]
pub(super) struct Track {
    /// Everything before this position has arrived or is lost.
    pub acked: u64,
    received: u64,
    srtt: Option<f64>,
    least_rtt: [f64; 2],
    least_rtt_since: Instant,
    /// Least round trips of the current and of the last rate sample: what even the first packet of a burst took.
    sample_rtt: [f64; 2],
    /// Receiver's clock and count at the start of the current rate sample.
    rate_start: Option<(u64, u64)>,
    rates: VecDeque<(Instant, f64)>,
    best_rate: f64,
    /// Position and count at the start of the current loss sample.
    loss_start: (u64, u64),
    losses: VecDeque<f64>,
    /// The loss that stays when nothing is queued.
    own_loss: f64,
    /// Segments that may leave at once without overrunning a queue, as far as we know.
    burst: f64,
    /// The window while the session starts up: grows with everything that arrives, so it doubles per round trip.
    startup_window: u64,
}

impl Track {
    pub(super) fn new(position: u64) -> Self {
        Self {
            acked: position,
            received: 0,
            srtt: None,
            least_rtt: [f64::INFINITY; 2],
            least_rtt_since: Instant::ZERO,
            sample_rtt: [f64::INFINITY, 0.0],
            rate_start: None,
            rates: VecDeque::with_capacity(RATE_SAMPLES + 1),
            best_rate: 0.0,
            loss_start: (position, 0),
            losses: VecDeque::with_capacity(LOSS_SAMPLES + 1),
            own_loss: 0.0,
            burst: MAX_BURST,
            startup_window: INITIAL_WINDOW,
        }
    }

    /// Takes in a report. `position` is what it acknowledges, `sent` when that was sent.
    pub(super) fn report(&mut self, now: Instant, position: u64, sent: Option<Instant>, report: &Progress) {
        let new = report.received.saturating_sub(self.received);
        self.received = self.received.max(report.received);
        if position > self.acked {
            self.acked = position;
            // A poll may have been answered from a queue that the data had left long ago.
            if let Some(sent) = sent.filter(|_| !report.polled) {
                self.take_rtt(now, now.nanos_since(sent).saturating_sub(report.hold) as f64);
            }
        }
        self.startup_window = self.startup_window.saturating_add(new);
        self.sample_loss();
        self.sample_rate(now, report.clock.saturating_sub(report.hold));
    }

    /// Smoothed round-trip time in nanoseconds, if any was measured.
    pub(super) fn rtt(&self) -> Option<f64> {
        self.srtt
    }

    fn least_rtt(&self) -> f64 {
        self.least_rtt[0].min(self.least_rtt[1])
    }

    fn take_rtt(&mut self, now: Instant, rtt: f64) {
        self.srtt = Some(self.srtt.map_or(rtt, |old| old + (rtt - old) / 8.0));
        let memory = RTT_MEMORY_NS.max(RTT_MEMORY_TRIPS * self.srtt.unwrap_or(rtt) as u64);
        if now.nanos_since(self.least_rtt_since) > memory {
            self.least_rtt = [rtt, self.least_rtt[0]];
            self.least_rtt_since = now;
        }
        self.least_rtt[0] = self.least_rtt[0].min(rtt);
        self.sample_rtt[0] = self.sample_rtt[0].min(rtt);
    }

    fn queue_builds(&self) -> bool {
        self.srtt.is_some_and(|rtt| rtt > self.least_rtt() * 1.25 + 2_000_000.0)
    }

    fn sample_loss(&mut self) {
        let (position, received) = self.loss_start;
        let passed = self.acked.saturating_sub(position);
        if passed < LOSS_SEGMENTS {
            return;
        }
        let arrived = self.received.saturating_sub(received);
        let mut loss = 1.0 - (arrived as f64 / passed as f64).min(1.0);
        // The least of many samples lies about two deviations below the mean, this one may lie two above it.
        let deviation = (loss * (1.0 - loss) / passed as f64).sqrt();
        let excess = loss > self.own_loss + EXCESS_LOSS + 4.0 * deviation;
        self.burst = if excess { (self.burst / 2.0).max(1.0) } else { (self.burst + 1.0).min(MAX_BURST) };
        if self.queue_builds() {
            loss = loss.min(self.own_loss);
        }
        self.loss_start = (self.acked, self.received);
        self.losses.push_back(loss);
        if self.losses.len() > LOSS_SAMPLES {
            self.losses.pop_front();
        }
        self.own_loss = self.losses.iter().copied().fold(MAX_OWN_LOSS, f64::min);
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
            && self.rates.front().is_some_and(|(at, _)| now.nanos_since(*at) > RATE_MEMORY_NS)
        {
            self.rates.pop_front();
        }
        self.best_rate = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    }

    /// So much is queued that the path must be full.
    fn is_bloated(&self) -> bool {
        let queued = self.sample_rtt[1];
        queued.is_finite() && queued > 1.5 * self.least_rtt() + 5_000_000.0
    }

    /// Delivery rate in segments per second.
    fn delivery_rate(&self) -> Option<f64> {
        (self.best_rate > 0.0).then_some(self.best_rate)
    }

    /// What has to be sent per second for the delivery rate to arrive.
    fn sending_rate(&self) -> Option<f64> {
        self.delivery_rate().map(|rate| rate / (1.0 - self.own_loss))
    }

    /// Segments that may be in flight to this receiver.
    fn window(&self, startup: bool, cadence: Cadence, segment_bytes: f64, most: u64) -> u64 {
        if startup {
            return self.startup_window.min(most);
        }
        let Some(rate) = self.sending_rate() else {
            return INITIAL_WINDOW.min(most);
        };
        let least_rtt = self.least_rtt();
        let calm = if least_rtt.is_finite() { 2.0 * least_rtt } else { 0.0 };
        let real = (1.25 * self.srtt.unwrap_or(0.0)).min(least_rtt + MAX_DELAY_NS);
        let in_flight = rate * calm.max(real) / 1e9;
        let quantum = (rate * BURST_NS as f64 / 1e9).clamp(1.0, MAX_BURST);
        // What is reported late is still in flight to us: room for several reports of the slowest cadence.
        let waiting = FLOOR_NS + 3.0 * cadence.nanos() as f64;
        let most_waiting = (FLOOR_BYTES / segment_bytes).max(4.0 * cadence.segments(u64::MAX) as f64);
        let floor = (rate * waiting / 1e9).min(most_waiting);
        (in_flight + 4.0 * quantum).max(floor).max(4.0).min(most as f64) as u64
    }

    fn paced(&self) -> bool {
        let loses = self.losses.back().is_some_and(|loss| *loss > PACED_LOSS);
        loses || self.srtt.is_none_or(|rtt| rtt > PACED_RTT_NS)
    }

    fn pace(&self, startup: bool, phase: usize) -> Option<f64> {
        if !self.paced() {
            return None;
        }
        if startup {
            // With a queue in sight it is time to go carefully, though it may be one of threads that wait.
            let gain = if self.is_bloated() { CYCLE[0] } else { STARTUP_GAIN };
            return self.sending_rate().map(|rate| rate * gain);
        }
        if phase == DRAIN {
            return self.delivery_rate().map(|rate| rate * CYCLE[DRAIN]);
        }
        self.sending_rate().map(|rate| rate * CYCLE[phase])
    }
}

/// The common pace of a session.
#[derive(Debug)]
pub(super) struct Pace {
    cadence: Cadence,
    /// Bytes of a full segment on the wire.
    segment_bytes: f64,
    /// Upper bound in flight, in segments.
    most: u64,
    startup: Option<Startup>,
    /// Where in the probing cycle we are, and since when.
    phase: usize,
    phase_since: Instant,
    /// The slowest receiver's rate when the cycle began.
    cycle_rate: f64,
    /// Segments per second; none while nothing asks for pacing.
    rate: Option<f64>,
    /// Segments that may leave at once.
    burst: f64,
    adapted: Option<Instant>,
    next_send: Instant,
    /// When each position was sent: the end of a packet, and its instant.
    sent: VecDeque<(u64, Instant)>,
}

/// Looking for the rate: until the slowest receiver gets no faster.
#[derive(Debug, Default)]
struct Startup {
    best: f64,
    flat: u32,
    checked: Instant,
}

impl Pace {
    pub(super) fn new(segment_bytes: u64, window_bytes: u64, cadence: Cadence) -> Self {
        Self {
            cadence,
            segment_bytes: segment_bytes as f64,
            most: (window_bytes / segment_bytes).max(4),
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

    /// Whether it is time to adapt again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.adapted.is_none_or(|last| now.nanos_since(last) >= ADAPT_NS)
    }

    /// Adapts the pace to the receivers that count: the slowest wins.
    pub(super) fn adapt<'a>(&mut self, now: Instant, tracks: impl Iterator<Item = &'a Track>) {
        self.adapted = Some(now);
        let startup = self.startup.is_some();
        let (mut pace, mut slowest) = (None, f64::INFINITY);
        let (mut longest, mut burst, mut bloated) = (0.0_f64, MAX_BURST, false);
        for track in tracks {
            longest = longest.max(track.rtt().unwrap_or(0.0));
            burst = burst.min(track.burst);
            bloated |= track.is_bloated();
            slowest = slowest.min(track.delivery_rate().unwrap_or(0.0));
            if let Some(rate) = track.pace(startup, self.phase) {
                pace = Some(pace.map_or(rate, |other: f64| other.min(rate)));
            }
        }
        self.rate = pace;
        let round = longest.max((SAMPLE_NS + self.cadence.nanos()) as f64) as u64;
        if startup {
            self.burst = burst;
            self.check_full_pipe(now, round, slowest, bloated);
        } else {
            self.burst = if self.phase == DRAIN { burst.min(DRAIN_BURST) } else { burst };
            self.turn_phase(now, round, slowest);
        }
    }

    fn check_full_pipe(&mut self, now: Instant, round: u64, slowest: f64, bloated: bool) {
        let Some(startup) = &mut self.startup else { return };
        if slowest > 0.0 && now.nanos_since(startup.checked) >= round {
            startup.checked = now;
            let grown = slowest > startup.best * 1.25;
            startup.flat = if grown { 0 } else { startup.flat + 1 };
            startup.best = startup.best.max(slowest);
            // A queue alone proves nothing, it may be threads that wait; a queue and no growth is a full pipe.
            if startup.flat >= if bloated { 1 } else { FULL_PIPE_SAMPLES } {
                self.startup = None;
            }
        }
    }

    fn turn_phase(&mut self, now: Instant, round: u64, slowest: f64) {
        // Up and down take as long as a rate sample needs to show it.
        let length = if self.phase <= DRAIN { 2 * round } else { round };
        if now.nanos_since(self.phase_since) < length {
            return;
        }
        // As long as probing finds more there is no point in cruising.
        let found_more = self.phase == DRAIN && slowest > self.cycle_rate * FOUND_MORE;
        self.phase = if found_more { 0 } else { (self.phase + 1) % CYCLE.len() };
        self.phase_since = now;
        if self.phase == 0 {
            self.cycle_rate = slowest;
        }
    }

    /// Whether the window towards a receiver has room.
    pub(super) fn has_room(&self, track: &Track, position: u64) -> bool {
        position.saturating_sub(track.acked)
            < track.window(self.startup.is_some(), self.cadence, self.segment_bytes, self.most)
    }

    /// The instant from which the pace allows the next packet.
    pub(super) fn next_send(&self) -> Instant {
        if self.rate.is_some() {
            self.next_send
        } else {
            Instant::ZERO
        }
    }

    /// How many segments the next packet should have, at most `limit`.
    pub(super) fn quantum(&self, limit: u32) -> u32 {
        self.rate
            .map_or(limit, |rate| (rate * BURST_NS as f64 / 1e9).max(LEAST_QUANTUM).min(self.burst) as u32)
            .clamp(1, limit)
    }

    /// Notes that `segments` went out and that `position` is reached now.
    pub(super) fn sent(&mut self, now: Instant, segments: u32, position: u64) {
        if let Some(rate) = self.rate {
            // A late timer is made up for, but only as far as one burst.
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

    /// Forgets what nobody will report any more.
    pub(super) fn forget_before(&mut self, position: u64) {
        while self.sent.front().is_some_and(|(end, _)| *end < position) {
            self.sent.pop_front();
        }
    }
}
