//! Back-off between attempts to connect.

use std::time::Duration;

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

const FIRST: Duration = Duration::from_millis(50);
/// All parts of a lab start together, and the lab is ready only when the last of them is.
const LONGEST_AT_FIRST: Duration = Duration::from_millis(200);
/// Nodes should reconnect within about a second after the controller has restarted.
const LONGEST: Duration = Duration::from_millis(1_000);

/// Delays that double up to a limit, each drawn from its upper half, so that the processes of a lab do not reconnect
/// at the same time.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    random: SplitMix64,
}

impl Backoff {
    /// Starts with the short limit, for a controller that was never reached; `seed` seeds the random draws.
    pub fn new(seed: u64) -> Self {
        Backoff {
            next: FIRST,
            longest: LONGEST_AT_FIRST,
            random: SplitMix64::seed_from_u64(seed),
        }
    }

    /// The controller was reached: after a later loss the longer limit applies.
    pub fn controller_reached(&mut self) {
        self.longest = LONGEST;
    }

    /// Resets the delay to the shortest.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The delay before the next attempt.
    pub fn draw(&mut self) -> Duration {
        let half = self.next / 2;
        let drawn = half + half.mul_f64(f64::from(self.random.next_u32()) / f64::from(u32::MAX));
        self.next = (self.next * 2).min(self.longest);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_differ() {
        let mut backoff = Backoff::new(4);
        let waits: Vec<_> = (0..12).map(|_| backoff.draw()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[11] >= LONGEST_AT_FIRST / 2 && waits[11] <= LONGEST_AT_FIRST);
        backoff.controller_reached();
        let waits: Vec<_> = (0..12).map(|_| backoff.draw()).collect();
        assert!(waits[11] >= LONGEST / 2 && waits[11] <= LONGEST);
        assert_ne!(waits[10], waits[11]);
        backoff.reset();
        assert!(backoff.draw() <= FIRST);
    }
}
