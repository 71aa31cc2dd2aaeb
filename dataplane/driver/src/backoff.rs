//! Delays between repeated attempts: to reach the controller, to dial a neighbour, to look up a name.

use std::time::Duration;

/// Delays that double from one failed attempt to the next, up to a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The delay after this many failed attempts in a row.
    pub fn delay(self, failures: u32) -> Duration {
        let doubled = self.first * (1 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest)
    }

    /// Between half of that delay and all of it, so that many processes or links do not retry at the same time;
    /// `random` is any random number.
    pub fn random_delay(self, failures: u32, random: u64) -> Duration {
        let half = self.delay(failures) / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(20),
        longest: Duration::from_secs(2),
    };

    #[test]
    fn delays_double_up_to_the_limit() {
        let delays = [0, 1, 2, 3, 7, 8, u32::MAX].map(|failures| BACKOFF.delay(failures));
        assert_eq!(
            delays.map(|delay| delay.as_millis()),
            [20, 20, 40, 80, 1280, 2000, 2000]
        );
    }

    #[test]
    fn random_delays_are_in_the_upper_half() {
        let delays = [0, u64::MAX / 2, u64::MAX].map(|random| BACKOFF.random_delay(8, random));
        assert_eq!(delays.map(|delay| delay.as_millis()), [1000, 1500, 2000]);
    }
}
