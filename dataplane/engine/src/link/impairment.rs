//! What every impairment of a link has in common.

use super::limit::Backlog;
use super::piece::Piece;
use crate::stats::{DropCause, DropCounters};
use crate::{Instant, LinkSpec, Packet};

/// Where an impairment puts what it lets through and what it does not.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// Pieces with the instant at which they left the impairment: the emulated one, which a late timer does not shift.
    pub passed: Vec<(Instant, Piece)>,
    pub drops: DropCounters,
    pub waste: Vec<Packet>,
}

impl Outlet {
    pub(crate) fn pass(&mut self, at: Instant, piece: Piece) {
        self.passed.push((at, piece));
    }

    /// The first `count` segments of a piece, if any; the rest is discarded.
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
        self.waste.push(piece.packet);
    }
}

/// One impairment. Impairments form a chain; what one passes the next one takes, in order.
pub(crate) trait Impairment: std::fmt::Debug + Send {
    /// Takes a piece that reaches the impairment at `at`.
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet);

    /// Lets go of what is due.
    fn release(&mut self, _now: Instant, _out: &mut Outlet) {}

    /// When [`Impairment::release`] has something to do, if it holds anything.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Takes over a new specification. What it holds keeps its order.
    fn change(&mut self, now: Instant, spec: &LinkSpec);

    /// What it holds.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}
