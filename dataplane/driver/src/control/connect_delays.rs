//! Delays between attempts to connect to the controller.

use std::time::Duration;

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use crate::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(50);
/// For a controller that was never reached: all parts of a lab start together, and the lab is ready when the last one
/// is.
const AT_START: Backoff = Backoff {
    first: FIRST,
    longest: Duration::from_millis(200),
};
/// Nodes should reconnect within about a second after the controller has restarted.
const RECONNECT: Backoff = Backoff {
    first: FIRST,
    longest: Duration::from_millis(1_000),
};

/// The delays of one connection.
#[derive(Debug)]
pub struct ConnectDelays {
    backoff: Backoff,
    failures: u32,
    random: SplitMix64,
}

impl ConnectDelays {
    /// Starts with the short limit; `seed` seeds the random draws.
    pub fn new(seed: u64) -> Self {
        Self {
            backoff: AT_START,
            failures: 0,
            random: SplitMix64::seed_from_u64(seed),
        }
    }

    /// The controller was reached: after a later loss the longer limit applies.
    pub fn controller_reached(&mut self) {
        self.backoff = RECONNECT;
    }

    /// Resets the delay to the shortest.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff
            .random_delay(self.failures, self.random.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_longer_once_the_controller_was_reached() {
        let mut delays = ConnectDelays::new(4);
        let (first, last) = (delays.next_delay(), twelfth(&mut delays));
        assert!(first >= FIRST / 2 && first <= FIRST);
        assert!(last >= AT_START.longest / 2 && last <= AT_START.longest);
        delays.controller_reached();
        let last = twelfth(&mut delays);
        assert!(last >= RECONNECT.longest / 2 && last <= RECONNECT.longest);
        assert_ne!(last, delays.next_delay());
        delays.reset();
        assert!(delays.next_delay() <= FIRST);
    }

    fn twelfth(delays: &mut ConnectDelays) -> Duration {
        for _ in 0..11 {
            delays.next_delay();
        }
        delays.next_delay()
    }
}
