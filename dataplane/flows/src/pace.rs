//! A token bucket that limits the rate of a flow's payload at its source.

use nm_engine::Instant;

/// Bits × nanoseconds per second in a byte: credit is counted so, because rate × time then needs no division.
const PER_BYTE: u128 = 8_000_000_000;
/// The bucket holds what the rate allows in this time: a shard that is late by less does not slow the flow down.
const BURST_NS: u128 = 5_000_000;

/// The bucket.
#[derive(Debug)]
pub(crate) struct Pace {
    rate_bps: u128,
    credit: u128,
    depth: u128,
    last: Instant,
}

impl Pace {
    /// A bucket with one segment, `mss` bytes; it holds at least two.
    pub(crate) fn new(now: Instant, rate_bps: u64, mss: usize) -> Self {
        let rate_bps = u128::from(rate_bps.max(1));
        let segment = mss as u128 * PER_BYTE;
        Self { rate_bps, credit: segment, depth: (2 * segment).max(rate_bps * BURST_NS), last: now }
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(&mut self, now: Instant) -> u64 {
        self.credit = (self.credit + self.rate_bps * u128::from(now.nanos_since(self.last))).min(self.depth);
        self.last = now.max(self.last);
        u64::try_from(self.credit / PER_BYTE).unwrap_or(u64::MAX)
    }

    /// Takes bytes out of the bucket, no more than [`Pace::available`] returned.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(u128::from(bytes) * PER_BYTE);
    }

    /// When `bytes`, at most two segments, will be available.
    pub(crate) fn next(&self, bytes: u64) -> Instant {
        let missing = (u128::from(bytes) * PER_BYTE).saturating_sub(self.credit);
        self.last.plus_nanos(u64::try_from(missing.div_ceil(self.rate_bps)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_exactly_the_rate_is_available() {
        let mut pace = Pace::new(Instant::ZERO, 1_000_000, 1_000);
        let (mut now, mut sent) = (Instant::ZERO, 0);
        while now < Instant(1_000_000_000) {
            let bytes = pace.available(now);
            pace.take(bytes);
            sent += bytes;
            now = pace.next(1_000);
        }
        assert!((125_000..=126_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_long_pause_does_not_accumulate_credit() {
        let mut pace = Pace::new(Instant::ZERO, 8_000, 1_000);
        assert_eq!(pace.available(Instant(3_600_000_000_000)), 2_000);
    }
}
