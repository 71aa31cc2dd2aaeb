//! When to wake for a deadline: earlier by the time that a wake-up takes, which is measured.
//!
//! An idle CPU needs 20 to 150 µs to run a thread whose timer has expired, most of them on a virtual machine. A shard
//! that slept until the deadline of a link would release its packets late by that time. It therefore sleeps less by a
//! lower quartile of the latencies of its latest wake-ups, and polls for what is left: in three of four cases nothing.

/// Below this time to a deadline the shard does not sleep: falling asleep and waking up takes longer.
const TOO_SHORT_TO_SLEEP_NS: u64 = 10_000;
/// Upper bound of the latency for which sleeps are shortened. Beyond it the machine is busy, and its latencies vary so
/// much that polling would take time from the programs that cause them.
const MOST_LATENCY_NS: u64 = 150_000;
/// Steps of the estimate: up after a longer latency, down after a shorter one. Three to one makes it settle where one of
/// four latencies is shorter.
const STEP_UP_NS: u64 = 500;
const STEP_DOWN_NS: u64 = 1_500;
/// Under steady traffic sleeps are shorter than this, and their latency is not that of an idle CPU.
const SHORT_SLEEP_NS: u64 = 400_000;
/// Polling takes at most this fraction of the time, in any [`MOST_POLLING_NS`] × [`POLLING_DIVISOR`].
const POLLING_DIVISOR: u64 = 10;
const MOST_POLLING_NS: u64 = 1_000_000;

/// The wake-ups of one shard.
#[derive(Debug, Default)]
pub struct WakeUps {
    /// The estimated latency.
    latency: u64,
    /// The time for which the shard may still poll, and when that was computed.
    budget: u64,
    computed: u64,
    /// When polling began.
    polling: Option<u64>,
}

impl WakeUps {
    /// How long to sleep at `now` for the deadline of a link, in nanoseconds; 0 to poll.
    pub fn sleep_time(&mut self, now: u64, deadline: u64) -> u64 {
        if let Some(since) = self.polling.take() {
            self.budget = self.budget.saturating_sub(now.saturating_sub(since));
        }
        let earned = now.saturating_sub(self.computed) / POLLING_DIVISOR;
        self.budget = self.budget.saturating_add(earned).min(MOST_POLLING_NS);
        self.computed = now;
        let left = deadline.saturating_sub(now);
        if left < TOO_SHORT_TO_SLEEP_NS {
            return 0;
        }
        if left > self.latency + TOO_SHORT_TO_SLEEP_NS {
            return left - self.latency;
        }
        if self.budget < left {
            return left;
        }
        self.polling = Some(now);
        0
    }

    /// Records that a sleep which should have ended at `wanted` ended at `now`, because its time was over.
    pub fn slept(&mut self, wanted: u64, now: u64) {
        self.latency = if now.saturating_sub(wanted) > self.latency {
            (self.latency + STEP_UP_NS).min(MOST_LATENCY_NS)
        } else {
            self.latency.saturating_sub(STEP_DOWN_NS)
        };
    }

    /// When the event happened that ended a sleep: before the wake-up. After a short sleep the CPU is still awake, and
    /// the wake-up takes no time worth counting.
    pub fn event_time(&self, asleep_since: u64, now: u64) -> u64 {
        if now.saturating_sub(asleep_since) < SHORT_SLEEP_NS {
            return now;
        }
        now.saturating_sub(self.latency).max(asleep_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_shortened_by_a_lower_quartile_of_the_latency() {
        let mut wakeups = WakeUps::default();
        // Latencies of 40, 60, 80 and 100 µs in turn.
        for round in 0..4_000 {
            wakeups.slept(0, 40_000 + round % 4 * 20_000);
        }
        let slept = wakeups.sleep_time(0, 1_000_000);
        assert!((930_000..=962_000).contains(&slept), "{slept}");
        let event = wakeups.event_time(0, 1_000_000);
        assert!((930_000..=962_000).contains(&event), "{event}");
        assert_eq!(wakeups.event_time(700_000, 1_000_000), 1_000_000);
    }

    #[test]
    fn polling_takes_a_tenth_of_the_time_at_most() {
        let mut wakeups = WakeUps::default();
        (0..1_000).for_each(|_| wakeups.slept(0, 200_000));
        assert_eq!(
            wakeups.sleep_time(0, 1_000_000),
            1_000_000 - MOST_LATENCY_NS
        );
        let (mut now, mut polled) = (0, 0);
        while now < 100_000_000 {
            let slept = wakeups.sleep_time(now, now + 100_000);
            // A poll takes 1 µs.
            now += slept.max(1_000);
            polled += if slept == 0 { 1_000 } else { 0 };
        }
        assert!((5_000_000..=11_000_000).contains(&polled), "{polled}");
    }
}
