//! Loss, drawn per MTU segment: independent, or in bursts.
//!
//! Loss drawn per super-packet would make TCP 1.8 times too fast at 1 % loss. Instead of a draw per segment, the
//! distance to the next lost segment is drawn (the geometric distribution), so that rare loss costs no time.
//!
//! Bursts are those of the Gilbert model, the two-state Markov chain of Gilbert and Elliott with no loss in the good
//! state and loss of every segment in the bad one (Gilbert, "Capacity of a burst-noise channel", 1960; parameters as
//! in Hasslinger and Hohlfeld, "The Gilbert-Elliott model for packet loss in real time services on the Internet",
//! 2008). With p = P(good → bad) and r = P(bad → good), the mean loss is p / (p + r) and the mean burst 1 / r; so
//! r = 1 / burst, p = mean / (burst · (1 - mean)).

use super::impairment::{Impairment, Outlet};
use super::piece::Piece;
use crate::rng::Rng;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Loss {
    probability: f64,
    burst: Option<f64>,
    /// Number of segments that pass before the next one is lost.
    survivors: u64,
    /// Number of segments of the current burst that are lost after that one.
    following: u64,
    rng: Rng,
}

impl Loss {
    pub(crate) fn new(rng: Rng, spec: &LinkSpec) -> Self {
        let mut loss = Self { probability: 0.0, burst: None, survivors: 0, following: 0, rng };
        loss.start(spec);
        loss
    }

    /// Draws from here on with new parameters.
    fn start(&mut self, spec: &LinkSpec) {
        self.probability = spec.loss;
        self.burst = spec.loss_burst;
        self.following = 0;
        match self.burst {
            // The chain starts in its stationary state: a share of `loss` of its time is bad.
            Some(burst) if self.probability > 0.0 && self.rng.unit() <= self.probability => {
                self.survivors = 0;
                self.following = self.failures(1.0 / burst);
            }
            _ => self.draw(),
        }
    }

    fn draw(&mut self) {
        self.survivors = if self.probability <= 0.0 {
            u64::MAX
        } else if let Some(burst) = self.burst {
            return self.draw_of_burst(burst);
        } else if self.probability >= 1.0 {
            0
        } else {
            self.failures(self.probability)
        };
    }

    /// Continues the burst, or draws the segments up to the next burst and its length. Each state lasts for at least
    /// one segment.
    fn draw_of_burst(&mut self, burst: f64) {
        if self.following > 0 {
            self.following -= 1;
            self.survivors = 0;
        } else {
            let onset = (self.probability / (burst * (1.0 - self.probability))).min(1.0);
            self.survivors = self.failures(onset).saturating_add(1);
            self.following = self.failures(1.0 / burst);
        }
    }

    /// The number of failures before the first success of trials that succeed with a probability above 0.
    fn failures(&mut self, success: f64) -> u64 {
        let failure = (1.0 - success).ln();
        if failure == 0.0 {
            return u64::MAX; // too rare for the precision of the number
        }
        // Inversion: P(failures >= k) = (1 - success)^k.
        (self.rng.unit().ln() / failure) as u64
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
        if self.probability != spec.loss || self.burst != spec.loss_burst {
            self.start(spec);
        }
    }

    fn rng(&self) -> Option<&Rng> {
        Some(&self.rng)
    }
}
