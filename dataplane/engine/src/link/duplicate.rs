//! Duplication, drawn per MTU segment. The copy follows its original directly, and takes its own space in queues.

use super::impairment::{Impairment, Outlet};
use super::piece::Piece;
use super::selection::Selection;
use crate::rng::Rng;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Duplicate {
    selection: Selection,
}

impl Duplicate {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng) -> Self {
        Self { selection: Selection::new(spec.duplicate, rng) }
    }
}

impl Impairment for Duplicate {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        let mut rest = Some(piece);
        while let Some((run, selected)) = self.selection.next(&mut rest) {
            let copy = selected.then(|| run.copy());
            out.pass(at, run);
            if let Some(copy) = copy {
                out.impaired.duplicate += u64::from(copy.count);
                out.pass(at, copy);
            }
        }
    }

    fn change(&mut self, _now: Instant, spec: &LinkSpec) {
        self.selection.set(spec.duplicate);
    }
}
