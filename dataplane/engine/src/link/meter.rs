//! Measurement of what the impairments of a link did to packets, for comparison with what was requested.
//!
//! A segment's delay is measured from the end of its serialisation to its release, and its lateness from the time at
//! which it was due: a release is late when this machine was busy. The time of the release is that of the engine's
//! call, so the delay of the transport behind it is not included.

use super::piece::Piece;
use crate::{Instant, LinkSpec};

/// Shortest busy period of a serializer from which its rate is measured, in nanoseconds. The ends of a period are
/// known to a wake-up of a thread, which must be short compared with it.
const LEAST_BUSY_NS: u64 = 100_000_000;

/// Significant bits of a delay: buckets are 0.4 % wide.
const DELAY_BITS: u32 = 8;
/// Significant bits of a lateness: buckets are 6 % wide.
const LATE_BITS: u32 = 4;

/// Counts of values in buckets whose width is proportional to the value. An octave is allocated at its first value.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bits: u32,
    octaves: Vec<Vec<u64>>,
}

impl Histogram {
    pub(crate) fn new(bits: u32) -> Self {
        Self { bits, octaves: Vec::new() }
    }

    fn add(&mut self, value: u64, count: u64) {
        // Values below 2^bits have buckets of their own in octave 0; octave n has those with n bits more.
        let octave = (u64::BITS - value.leading_zeros()).saturating_sub(self.bits);
        let half = 1_usize << (self.bits - 1);
        let (index, slots) = match octave {
            0 => (value as usize, 2 * half),
            _ => ((value >> octave) as usize - half, half),
        };
        if self.octaves.len() <= octave as usize {
            self.octaves.resize(octave as usize + 1, Vec::new());
        }
        let octave = &mut self.octaves[octave as usize];
        if octave.is_empty() {
            octave.resize(slots, 0);
        }
        octave[index] += count;
    }

    /// The smallest value and the count of every bucket that is not empty, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let half = 1_u64 << (self.bits - 1);
        self.octaves.iter().enumerate().flat_map(move |(octave, slots)| {
            let first = if octave == 0 { 0 } else { half };
            let value = move |index: usize| (first + index as u64) << octave;
            slots
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .map(move |(index, count)| (value(index), *count))
        })
    }
}

/// What the impairments of one direction of a link did since the link was made.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkMeasurement {
    /// MTU segments that reached the impairments.
    pub offered: u64,
    /// How often the specification changed.
    pub changes: u64,
    /// Delays that were drawn from the distribution of the jitter.
    pub draws: u64,
    /// Time in nanoseconds during which the serializer was busy, in periods of at least 100 ms.
    pub busy_ns: u64,
    /// Bytes that it transmitted in those periods.
    pub busy_bytes: u64,
    /// Delays in nanoseconds of released segments.
    pub delay: Histogram,
    /// Sum of the delays in microseconds.
    pub delay_sum_us: f64,
    /// Sum of their squares.
    pub delay_squares_us: f64,
    /// Nanoseconds by which segments were released late.
    pub late: Histogram,
    /// Their sum in microseconds.
    pub late_sum_us: f64,
}

impl Default for LinkMeasurement {
    fn default() -> Self {
        Self {
            offered: 0,
            changes: 0,
            draws: 0,
            busy_ns: 0,
            busy_bytes: 0,
            delay: Histogram::new(DELAY_BITS),
            delay_sum_us: 0.0,
            delay_squares_us: 0.0,
            late: Histogram::new(LATE_BITS),
            late_sum_us: 0.0,
        }
    }
}

/// Measures one direction of a link.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    measured: LinkMeasurement,
    /// The current busy period of the serializer.
    period: Option<Period>,
    /// When the node was last resumed after a pause. Packets that were due before are not measured.
    resumed: Instant,
}

#[derive(Debug)]
struct Period {
    start: Instant,
    /// The time of the last transmission.
    last: Instant,
    bytes: u64,
}

impl Period {
    /// Nanoseconds and bytes, where the period is long enough.
    fn counted(&self) -> Option<(u64, u64)> {
        let nanos = self.last.nanos_since(self.start);
        (nanos >= LEAST_BUSY_NS).then_some((nanos, self.bytes))
    }
}

impl Meter {
    pub(crate) fn is_unused(&self) -> bool {
        self.measured.offered == 0
    }

    pub(crate) fn offered(&mut self, segments: u32) {
        self.measured.offered += u64::from(segments);
    }

    /// The serializer finished the transmission of a piece; it was busy since the last call of [`Meter::busy`].
    pub(crate) fn transmitted(&mut self, now: Instant, piece: &Piece) {
        if let Some(period) = &mut self.period {
            period.last = now;
            period.bytes += piece.wire_bytes();
        }
    }

    /// Whether the serializer is busy from now on.
    pub(crate) fn busy(&mut self, now: Instant, busy: bool) {
        match (busy, &self.period) {
            (true, None) => self.period = Some(Period { start: now, last: now, bytes: 0 }),
            (false, Some(_)) => self.end_period(),
            _ => {}
        }
    }

    /// A piece passed all impairments at `now`; it was due at `due`.
    pub(crate) fn released(&mut self, now: Instant, due: Instant, piece: &Piece) {
        if due < self.resumed {
            return;
        }
        let (delay, late) = (now.nanos_since(piece.transmitted), now.nanos_since(due));
        let (count, measured) = (u64::from(piece.count), &mut self.measured);
        measured.delay.add(delay, count);
        measured.late.add(late, count);
        let (weight, delay_us) = (count as f64, delay as f64 / 1e3);
        measured.delay_sum_us += weight * delay_us;
        measured.delay_squares_us += weight * delay_us * delay_us;
        measured.late_sum_us += weight * late as f64 / 1e3;
    }

    /// The specification changes.
    pub(crate) fn change(&mut self, old: &LinkSpec, new: &LinkSpec) {
        if old != new {
            self.measured.changes += 1;
            self.end_period();
        }
    }

    pub(crate) fn set_paused(&mut self, now: Instant, paused: bool) {
        self.end_period();
        if !paused {
            self.resumed = now;
        }
    }

    pub(crate) fn drawn(&mut self, delays: u64) {
        self.measured.draws += delays;
    }

    pub(crate) fn end_period(&mut self) {
        if let Some((nanos, bytes)) = self.period.take().and_then(|period| period.counted()) {
            self.measured.busy_ns += nanos;
            self.measured.busy_bytes += bytes;
        }
    }

    /// The measurement up to now, with the busy period that has not ended.
    pub(crate) fn snapshot(&self) -> LinkMeasurement {
        let mut measured = self.measured.clone();
        if let Some((nanos, bytes)) = self.period.as_ref().and_then(Period::counted) {
            measured.busy_ns += nanos;
            measured.busy_bytes += bytes;
        }
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_a_bucket_that_is_at_most_one_step_below_it() {
        let values = [0, 1, 255, 256, 257, 511, 512, 1_000_000, 20_000_000, u64::MAX];
        for value in values {
            let mut histogram = Histogram::new(DELAY_BITS);
            histogram.add(value, 3);
            let buckets: Vec<(u64, u64)> = histogram.buckets().collect();
            let [(bucket, 3)] = buckets[..] else { panic!("{value}: {buckets:?}") };
            assert!(bucket <= value && (value - bucket) as f64 <= value as f64 / 128.0, "{value}: {bucket}");
        }
    }

    #[test]
    fn buckets_are_ascending() {
        let mut histogram = Histogram::new(LATE_BITS);
        (0..2_000).rev().for_each(|value| histogram.add(value * 7, 1));
        let buckets: Vec<(u64, u64)> = histogram.buckets().collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 2_000);
    }
}
