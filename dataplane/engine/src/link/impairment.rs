//! The interface of the impairments of a link.

use super::limit::Backlog;
use super::piece::Piece;
use crate::rng::Rng;
use crate::stats::{DropCause, DropCounters, ImpairedCounters};
use crate::{Instant, LinkSpec};

/// The outputs of an impairment: passed and discarded packets.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// Pieces with the time at which they left the impairment: the emulated time, which a late timer does not shift.
    pub passed: Vec<(Instant, Piece)>,
    pub drops: DropCounters,
    pub impaired: ImpairedCounters,
    /// Number of delays that were drawn.
    pub draws: u64,
    /// Pieces that were discarded, and why.
    pub waste: Vec<(DropCause, Piece)>,
}

impl Outlet {
    pub(crate) fn pass(&mut self, at: Instant, piece: Piece) {
        self.passed.push((at, piece));
    }

    /// Returns the first `count` segments of a piece, if any, and discards the others.
    pub(crate) fn admit(&mut self, count: u32, mut piece: Piece, cause: DropCause) -> Option<Piece> {
        if count >= piece.count {
            return Some(piece);
        }
        let kept = (count > 0).then(|| piece.split_front(count));
        self.discard(piece, cause);
        kept
    }

    pub(crate) fn discard(&mut self, piece: Piece, cause: DropCause) {
        self.drops.add(cause, u64::from(piece.count));
        self.waste.push((cause, piece));
    }
}

/// One impairment. Impairments form a chain: each one takes the output of the previous one, in order.
pub(crate) trait Impairment: std::fmt::Debug + Send {
    /// Processes a piece that reaches the impairment at `at`.
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet);

    /// Passes the pieces that are due.
    fn release(&mut self, _now: Instant, _out: &mut Outlet) {}

    /// The next time at which [`Impairment::release`] must be called, if any piece is queued.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Applies a new specification. Queued pieces keep their order.
    fn change(&mut self, now: Instant, spec: &LinkSpec);

    /// Removes all queued pieces and returns them with the times at which they are due, or were queued, in that order:
    /// for the impairment that replaces this one, or because the link goes down.
    fn take_queue(&mut self) -> Vec<(Instant, Piece)> {
        Vec::new()
    }

    /// The random stream, if the impairment draws numbers.
    fn rng(&self) -> Option<&Rng> {
        None
    }

    /// The queued pieces.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}
