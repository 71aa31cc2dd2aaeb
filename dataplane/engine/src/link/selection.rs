//! The segments that an impairment affects: each one with the same probability, independently of the others.

use super::piece::Piece;
use crate::rng::{Numbered, Rng};

/// Selects segments by their number on the link. Whether a segment is selected depends on the stream, the probability
/// and that number only: not on other impairments, nor on which segments they dropped or copied.
#[derive(Debug)]
pub(crate) struct Selection {
    probability: f64,
    draws: Numbered,
}

impl Selection {
    pub(crate) fn new(probability: f64, rng: Rng) -> Self {
        Self { probability, draws: Numbered::new(rng) }
    }

    pub(crate) fn set(&mut self, probability: f64) {
        self.probability = probability;
    }

    /// Removes and returns the next run of segments of `rest` of which all or none are selected, and whether they
    /// are. A selected run is one segment, or a packet that cannot be divided.
    pub(crate) fn next(&self, rest: &mut Option<Piece>) -> Option<(Piece, bool)> {
        let mut piece = rest.take()?;
        let Some(first) = (0..piece.count).find(|&offset| self.selects(piece.number + u64::from(offset)))
        else {
            return Some((piece, false));
        };
        if piece.count == 1 || !piece.divisible() {
            return Some((piece, true));
        }
        let run = piece.split_front(first.max(1));
        *rest = Some(piece);
        Some((run, first == 0))
    }

    /// Random bits that belong to a segment, independent of its selection.
    pub(crate) fn bits(&self, number: u64) -> u32 {
        crate::rng::mix(self.draws.at(number)) as u32
    }

    fn selects(&self, number: u64) -> bool {
        self.draws.unit_at(number) <= self.probability
    }
}
