//! When the serializer has transmitted a piece: at a constant rate, or at the opportunities of a trace.
//!
//! Work is counted in 10⁻⁹ bits, so that no rounding adds up.

use super::piece::Piece;
use super::trace::Opportunities;
use crate::{Instant, LinkSpec};

/// Longest time that one piece may occupy the serializer at a constant rate, in nanoseconds.
const PIECE_NS: u64 = 1_000_000;
/// Units of work in a byte.
const BYTE: u128 = 8_000_000_000;
/// The end of a transmission that the trace never allows.
pub(crate) const NEVER: Instant = Instant(u64::MAX);

/// The clock of the serializer. It times one transmission at a time.
#[derive(Debug)]
pub(crate) struct Clock {
    pace: Pace,
    /// The transmission: its work, and when it began.
    work: u128,
    since: Instant,
}

#[derive(Debug)]
enum Pace {
    /// Everything is transmitted at once.
    Unlimited,
    /// Bits per second, and the work of earlier transmissions that took no whole nanosecond. A trace may have times
    /// at which the rate is zero.
    Constant { bps: u64, remainder: u128 },
    /// The opportunities now, and as they were when the transmission began.
    Opportunities(Box<(Opportunities, Opportunities)>),
}

impl Clock {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        let opportunities = spec.trace.as_ref().and_then(Opportunities::of);
        let pace = match (opportunities, spec.rate_bps) {
            (Some(list), _) => Pace::Opportunities(Box::new((list.clone(), list))),
            (None, Some(bps)) => Pace::Constant { bps, remainder: 0 },
            (None, None) => Pace::Unlimited,
        };
        Self { pace, work: 0, since: Instant::ZERO }
    }

    /// Whether this is the clock of a specification.
    pub(crate) fn serves(&self, spec: &LinkSpec) -> bool {
        let opportunities = spec.trace.as_ref().filter(|trace| trace.has_opportunities());
        match &self.pace {
            Pace::Unlimited => spec.rate_bps.is_none() && opportunities.is_none(),
            Pace::Constant { bps, .. } => spec.rate_bps == Some(*bps) && opportunities.is_none(),
            Pace::Opportunities(list) => list.0.plays(opportunities),
        }
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        matches!(self.pace, Pace::Unlimited)
    }

    /// Segments of a piece that are transmitted together from a time on, at least one: at a constant rate those of
    /// [`PIECE_NS`], else those that this time of the trace can carry. One that has to wait is alone, so that the
    /// queue decides about the others when they can leave.
    pub(crate) fn together(&self, piece: &Piece, from: Instant) -> u32 {
        if !piece.divisible() {
            return piece.count;
        }
        let most = match &self.pace {
            Pace::Unlimited => return piece.count,
            Pace::Constant { bps, .. } => {
                let per_segment = u128::from(piece.wire_bytes().div_ceil(u64::from(piece.count)));
                u128::from(*bps) * u128::from(PIECE_NS) / BYTE / per_segment
            }
            Pace::Opportunities(list) => {
                let mut list = list.0.clone();
                list.skip_to(from);
                list.left() / (u128::from(piece.full_segment()) * BYTE)
            }
        };
        most.clamp(1, u128::from(piece.count)) as u32
    }

    /// When a number of bytes would have been transmitted.
    pub(crate) fn end(&self, bytes: u64, from: Instant) -> Instant {
        let work = u128::from(bytes) * BYTE;
        match &self.pace {
            Pace::Unlimited => from,
            Pace::Constant { bps, .. } => at_rate(work, *bps, from),
            Pace::Opportunities(list) => list.0.clone().serve(work, from).unwrap_or(NEVER),
        }
    }

    /// Begins to transmit a number of bytes; returns the end.
    pub(crate) fn begin(&mut self, bytes: u64, from: Instant) -> Instant {
        self.begin_work(u128::from(bytes) * BYTE, from)
    }

    /// Begins to transmit an amount of work; returns the end.
    pub(crate) fn begin_work(&mut self, work: u128, from: Instant) -> Instant {
        (self.work, self.since) = (work, from);
        match &mut self.pace {
            Pace::Unlimited => from,
            Pace::Constant { bps, remainder } => {
                self.work += *remainder;
                *remainder = self.work.checked_rem(u128::from(*bps)).unwrap_or(0);
                at_rate(self.work, *bps, from)
            }
            Pace::Opportunities(list) => {
                list.1 = list.0.clone();
                list.0.serve(work, from).unwrap_or(NEVER)
            }
        }
    }

    /// The work of the transmission that is left at `now`.
    pub(crate) fn left(&self, now: Instant) -> u128 {
        let done = match &self.pace {
            Pace::Unlimited => self.work,
            Pace::Constant { bps, .. } => {
                // With a token bucket, a transmission may begin before its time by the clock.
                let early = u128::from(self.since.nanos_since(now)) * u128::from(*bps);
                let done = u128::from(now.nanos_since(self.since)) * u128::from(*bps);
                return (self.work + early).saturating_sub(done);
            }
            Pace::Opportunities(list) => list.1.clone().amount(self.since, now, self.work),
        };
        self.work.saturating_sub(done)
    }
}

/// The end of a transmission at a constant rate.
fn at_rate(work: u128, bps: u64, from: Instant) -> Instant {
    match work.checked_div(u128::from(bps)) {
        Some(nanos) => from.plus_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        None if work == 0 => from,
        None => NEVER,
    }
}
