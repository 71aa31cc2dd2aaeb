//! The interval of receivers' reports: short with few receivers, long with many.
//!
//! Every report of every receiver crosses the network up to the sender. With 35 receivers in a line, reports at
//! the pace of two would be ten times as many packets as the data itself, and on one machine they would cost
//! the processor time that the data needs. So the sender says with its invitation how rare reports shall be, and
//! keeps more in flight for it.

/// The factor between the reports of one receiver among few and of one among many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cadence(u8);

/// Receivers that share the full rate of reports.
const FEW: usize = 4;
/// At most this many times rarer: reports are also the sender's sign of life.
const RAREST: usize = 32;
/// A report is due after this many segments while the sender feels its way …
const EARLY_SEGMENTS: u64 = 8;
/// … which it does for so many segments; from then on after this many, 128 KB …
const SETTLED: u64 = 1024;
const SEGMENTS: u64 = 88;
/// … times the factor, but not more than this factor, since the window has to hold several of them …
const MOST_SEGMENTS_FACTOR: u64 = 8;
/// … and after this long at the latest, times the factor.
const NANOS: u64 = 2_000_000;

impl Cadence {
    /// The cadence of a session with so many receivers.
    pub(super) fn for_receivers(count: usize) -> Self {
        Self(count.div_ceil(FEW).clamp(1, RAREST) as u8)
    }

    /// The cadence that an invitation names.
    pub(super) fn from_byte(byte: u8) -> Self {
        Self(byte.clamp(1, RAREST as u8))
    }

    pub(super) const fn to_byte(self) -> u8 {
        self.0
    }

    /// Segments between two reports of a receiver that has had `received` of them.
    pub(super) fn segments(self, received: u64) -> u64 {
        if received < SETTLED {
            EARLY_SEGMENTS
        } else {
            SEGMENTS * u64::from(self.0).min(MOST_SEGMENTS_FACTOR)
        }
    }

    /// Nanoseconds between two reports at most.
    pub(super) fn nanos(self) -> u64 {
        NANOS * u64::from(self.0)
    }
}
