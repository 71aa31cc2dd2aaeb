//! Constant delay: a FIFO queue that keeps the order of packets when the delay changes.
//!
//! The delay queue is bounded by the rate in front of it, or without one by the link's limit (see [`super::limit`]).

use std::collections::VecDeque;

use super::impairment::{Impairment, Outlet};
use super::limit::{Backlog, Limit};
use super::piece::Piece;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Delay {
    nanos: u64,
    line: VecDeque<(Instant, Piece)>,
    /// The earliest departure of the next packet: a shorter delay must not reorder packets.
    last: Instant,
    limit: Limit,
    held: Backlog,
}

impl Delay {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            nanos: spec.delay_us.saturating_mul(1_000),
            line: VecDeque::new(),
            last: Instant::ZERO,
            limit: Limit::of_flight(spec),
            held: Backlog::default(),
        }
    }
}

impl Impairment for Delay {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        if self.nanos == 0 && self.line.is_empty() {
            out.pass(at, piece);
            return;
        }
        let Some(piece) = out.admit(self.limit.admits(self.held, &piece), piece, DropCause::QueueFull) else {
            return;
        };
        let due = at.plus_nanos(self.nanos).max(self.last);
        self.last = due;
        self.held.add(&piece);
        self.line.push_back((due, piece));
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while let Some((due, piece)) = self.line.pop_front() {
            if due > now {
                self.line.push_front((due, piece));
                return;
            }
            self.held.remove(&piece);
            out.pass(due, piece);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.line.front().map(|(due, _)| *due)
    }

    fn change(&mut self, _now: Instant, spec: &LinkSpec) {
        self.nanos = spec.delay_us.saturating_mul(1_000);
        self.limit = Limit::of_flight(spec);
    }

    fn backlog(&self) -> Backlog {
        self.held
    }
}
