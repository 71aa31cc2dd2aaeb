//! Corruption, drawn per MTU segment: one bit of the payload is flipped when the segment leaves the link.

use super::impairment::{Impairment, Outlet};
use super::piece::Piece;
use super::selection::Selection;
use crate::rng::Rng;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Corrupt {
    selection: Selection,
}

impl Corrupt {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng) -> Self {
        Self { selection: Selection::new(spec.corrupt, rng) }
    }
}

impl Impairment for Corrupt {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        let mut rest = Some(piece);
        while let Some((mut run, selected)) = self.selection.next(&mut rest) {
            if selected {
                run.flip = Some(self.selection.bits(run.number));
                out.impaired.corrupt += u64::from(run.count);
            }
            out.pass(at, run);
        }
    }

    fn change(&mut self, _now: Instant, spec: &LinkSpec) {
        self.selection.set(spec.corrupt);
    }
}
