//! Independent loss, drawn per MTU segment.
//!
//! Loss drawn per super-packet would make TCP 1.8 times too fast at 1 % loss. Instead of a draw per segment, the
//! distance to the next lost segment is drawn (the geometric distribution), so that rare loss costs no time.

use super::impairment::{Impairment, Outlet};
use super::piece::Piece;
use crate::rng::Rng;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Loss {
    probability: f64,
    /// Number of segments that pass before the next one is lost.
    survivors: u64,
    rng: Rng,
}

impl Loss {
    pub(crate) fn new(rng: Rng, probability: f64) -> Self {
        let mut loss = Self { probability, survivors: 0, rng };
        loss.draw();
        loss
    }

    fn draw(&mut self) {
        self.survivors = if self.probability <= 0.0 {
            u64::MAX
        } else if self.probability >= 1.0 {
            0
        } else {
            // Inversion: P(survivors >= k) = (1 - p)^k.
            (self.rng.unit().ln() / (1.0 - self.probability).ln()) as u64
        };
    }

    /// How many of the next `count` segments pass before one is lost; `None` when all pass.
    fn next_loss(&mut self, count: u32) -> Option<u32> {
        if self.survivors >= u64::from(count) {
            self.survivors -= if self.probability <= 0.0 { 0 } else { u64::from(count) };
            return None;
        }
        let at = self.survivors as u32;
        self.draw();
        Some(at)
    }
}

impl Impairment for Loss {
    fn push(&mut self, at: Instant, mut piece: Piece, out: &mut Outlet) {
        if !piece.divisible() {
            let mut left = piece.count;
            let mut lost = false;
            while let Some(survived) = self.next_loss(left) {
                lost = true;
                left -= survived + 1;
            }
            if lost {
                out.discard(piece, DropCause::Loss);
            } else {
                out.pass(at, piece);
            }
            return;
        }
        while let Some(survived) = self.next_loss(piece.count) {
            if survived > 0 {
                out.pass(at, piece.split_front(survived));
            }
            if piece.count == 1 {
                out.discard(piece, DropCause::Loss);
                return;
            }
            out.discard(piece.split_front(1), DropCause::Loss);
        }
        out.pass(at, piece);
    }

    fn change(&mut self, _now: Instant, spec: &LinkSpec) {
        // The geometric distribution is memoryless: a new draw from here on is exact. An unchanged probability keeps
        // its draw, so that a change of the delay does not change which segments are lost.
        #[allow(clippy::float_cmp, reason = "the comparison is for exactly the same value")]
        if self.probability != spec.loss {
            self.probability = spec.loss;
            self.draw();
        }
    }
}
