//! Constant delay: a line in which everybody keeps their place, whatever happens to the delay meanwhile.

use std::collections::VecDeque;

use super::lens::{Lens, Outlet, Piece};
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Delay {
    nanos: u64,
    line: VecDeque<(Instant, Piece)>,
    /// Nobody may leave before this, or a shorter delay would reorder.
    last: Instant,
    packets: u64,
    bytes: u64,
}

impl Delay {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            nanos: spec.delay_us.saturating_mul(1_000),
            line: VecDeque::new(),
            last: Instant::ZERO,
            packets: 0,
            bytes: 0,
        }
    }
}

impl Lens for Delay {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        if self.nanos == 0 && self.line.is_empty() {
            out.pass(at, piece);
            return;
        }
        let due = at.plus_nanos(self.nanos).max(self.last);
        self.last = due;
        self.packets += u64::from(piece.count);
        self.bytes += piece.wire_bytes();
        self.line.push_back((due, piece));
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while let Some((due, piece)) = self.line.pop_front() {
            if due > now {
                self.line.push_front((due, piece));
                return;
            }
            self.packets -= u64::from(piece.count);
            self.bytes -= piece.wire_bytes();
            out.pass(due, piece);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.line.front().map(|(due, _)| *due)
    }

    fn change(&mut self, _now: Instant, spec: &LinkSpec) {
        self.nanos = spec.delay_us.saturating_mul(1_000);
    }

    fn backlog(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }
}
