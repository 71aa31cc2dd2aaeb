//! Random early detection (Floyd and Jacobson, "Random Early Detection Gateways for Congestion Avoidance", IEEE/ACM
//! Transactions on Networking 1(4), 1993).
//!
//! Every segment counts alike, whatever its length (RFC 7141, section 2.2).

use crate::rng::Rng;

/// Weight of a new length of the queue in the average (section 5 of the paper).
const WEIGHT: f64 = 0.002;
/// Bytes of a typical packet, by which the average falls while the queue is empty. Section 11 of the paper uses the
/// transmission time of a small packet, and tc-red(8) recommends this length.
pub(super) const TYPICAL_BYTES: f64 = 1_000.0;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    /// Thresholds of the average, in bytes.
    pub min: f64,
    pub max: f64,
    /// Probability of a drop when the average is just below `max`.
    pub probability: f64,
    /// Time in nanoseconds in which a typical packet is transmitted.
    pub packet_ns: f64,
}

/// What happens to an arriving segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// It is dropped, or marked where its transport understands marks.
    Notify,
    /// It is dropped in any case: the average exceeds its upper threshold (RFC 3168, section 7).
    Drop,
}

/// The state of one queue.
#[derive(Debug)]
pub(super) struct Red {
    pub settings: Settings,
    average: f64,
    /// Segments that passed since the last drop, while the average exceeds `min`.
    count: u32,
    rng: Rng,
}

impl Red {
    pub(super) fn new(settings: Settings, rng: Rng) -> Self {
        Self { settings, average: 0.0, count: 0, rng }
    }

    /// Processes the arrival of a segment at a queue of some bytes, or at one that has been empty for some
    /// nanoseconds.
    pub(super) fn arrival(&mut self, queued: u64, idle_ns: u64) -> Verdict {
        let Settings { min, max, probability, packet_ns } = self.settings;
        if queued > 0 {
            self.average += WEIGHT * (queued as f64 - self.average);
        } else {
            self.average *= (1.0 - WEIGHT).powf(idle_ns as f64 / packet_ns);
        }
        if self.average < min {
            self.count = 0;
            return Verdict::Pass;
        }
        if self.average >= max {
            self.count = 0;
            return Verdict::Drop;
        }
        // With the count, the distance between two drops is uniform instead of geometric (section 7 of the paper).
        let base = probability * (self.average - min) / (max - min);
        let rest = 1.0 - f64::from(self.count) * base;
        if base > 0.0 && (rest <= base || self.rng.unit() <= base / rest) {
            self.count = 0;
            return Verdict::Notify;
        }
        self.count = self.count.saturating_add(1);
        Verdict::Pass
    }

    #[cfg(test)]
    pub(super) fn average(&self) -> f64 {
        self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn red(min: f64, max: f64, probability: f64) -> Red {
        Red::new(Settings { min, max, probability, packet_ns: 1_000.0 }, Rng::new(1, &["red"]))
    }

    #[test]
    fn the_average_is_the_weighted_one_and_falls_while_the_queue_is_empty() {
        let mut red = red(1e9, 2e9, 0.1);
        let mut average = 0.0;
        for queued in [1_500, 3_000, 60_000, 60_000, 1_500] {
            red.arrival(queued, 0);
            average = 0.998 * average + 0.002 * queued as f64;
            assert!((red.average() - average).abs() < 1e-9);
        }
        // As if 3 packets had arrived at an empty queue in 3 µs.
        red.arrival(0, 3_000);
        assert!((red.average() - average * 0.998f64.powi(3)).abs() < 1e-9);
        red.arrival(0, 1 << 60);
        assert!(red.average() < 1e-9);
    }

    #[test]
    fn drops_between_the_thresholds_are_uniformly_spread() {
        // With an average half way the basic probability is 0.05. The distance is then uniform on 1 … 20.
        let mut red = red(10_000.0, 30_000.0, 0.1);
        red.average = 20_000.0;
        let mut distances = vec![0u32; 21];
        let mut last = 0;
        let first = (1..).find(|_| red.arrival(20_000, 0) == Verdict::Notify).expect("a drop");
        assert!(first <= 20);
        for _ in 0..20_000 {
            last += 1;
            if red.arrival(20_000, 0) == Verdict::Notify {
                distances[last] += 1;
                last = 0;
            }
        }
        let total: u32 = distances.iter().sum();
        let mean = distances.iter().zip(0..).map(|(n, distance)| n * distance).sum::<u32>() as f64
            / f64::from(total);
        assert!((mean - 10.5).abs() < 0.5, "{mean}");
        let share = f64::from(total) / 20.0;
        let sigma = (share * 0.95).sqrt();
        let near = |count: &u32| (f64::from(*count) - share).abs() < 4.0 * sigma;
        assert!(distances[1..].iter().all(near), "{distances:?}");
    }

    #[test]
    fn below_the_lower_threshold_nothing_is_dropped_and_above_the_upper_one_everything() {
        let mut red = red(10_000.0, 30_000.0, 1.0);
        red.average = 9_000.0;
        assert!((0..1_000).all(|_| red.arrival(9_999, 0) == Verdict::Pass));
        red.average = 30_001.0;
        assert!((0..1_000).all(|_| red.arrival(30_001, 0) == Verdict::Drop));
    }
}
