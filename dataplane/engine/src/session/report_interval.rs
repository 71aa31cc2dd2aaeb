//! The interval of receivers' progress reports, which grows with the number of receivers.
//!
//! Every report of every receiver is sent through the network to the sender. With 35 receivers in a line, reports at
//! the interval for two receivers would be ten times as many packets as the data, and on one machine they would use
//! CPU time that the data needs. The sender therefore states the interval in its manifest, and allows more data in
//! flight for longer intervals.

/// The factor by which the interval is longer than that of a session with few receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReportInterval(u8);

/// Number of receivers up to which the factor is 1.
const FULL_RATE_RECEIVERS: usize = 4;
/// Largest factor: reports also show the sender that a receiver is alive.
const MAX_FACTOR: usize = 32;
/// Segments between two reports during start-up, while the sender estimates the delivery rate.
const EARLY_SEGMENTS: u64 = 8;
/// Start-up ends after `STARTUP_SEGMENTS` segments; from then on a report is due after `SEGMENTS` segments (128 KB)
/// times the factor.
const STARTUP_SEGMENTS: u64 = 1024;
const SEGMENTS: u64 = 88;
/// The factor for segments is at most this, since the window has to hold several report intervals.
const MAX_SEGMENTS_FACTOR: u64 = 8;
/// Longest time between two reports in nanoseconds, times the factor.
const NANOS: u64 = 2_000_000;

impl ReportInterval {
    /// The report interval of a session with `count` receivers.
    pub(super) fn for_receivers(count: usize) -> Self {
        Self(count.div_ceil(FULL_RATE_RECEIVERS).clamp(1, MAX_FACTOR) as u8)
    }

    /// The report interval stated in a manifest.
    pub(super) fn from_byte(byte: u8) -> Self {
        Self(byte.clamp(1, MAX_FACTOR as u8))
    }

    pub(super) const fn to_byte(self) -> u8 {
        self.0
    }

    /// Segments between two reports of a receiver that has `received` segments.
    pub(super) fn segments(self, received: u64) -> u64 {
        if received < STARTUP_SEGMENTS {
            EARLY_SEGMENTS
        } else {
            SEGMENTS * u64::from(self.0).min(MAX_SEGMENTS_FACTOR)
        }
    }

    /// Largest time between two reports, in nanoseconds.
    pub(super) fn nanos(self) -> u64 {
        NANOS * u64::from(self.0)
    }
}
