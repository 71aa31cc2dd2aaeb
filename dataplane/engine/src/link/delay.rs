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
    /// `queued` are the pieces in flight on the link, with the times at which they are due, in that order.
    pub(crate) fn new(spec: &LinkSpec, queued: Vec<(Instant, Piece)>) -> Self {
        let mut held = Backlog::default();
        queued.iter().for_each(|(_, piece)| held.add(piece));
        Self {
            nanos: spec.delay_us.saturating_mul(1_000),
            last: queued.last().map_or(Instant::ZERO, |(due, _)| *due),
            line: queued.into(),
            limit: Limit::of_flight(spec),
            held,
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

    fn take_queue(&mut self) -> Vec<(Instant, Piece)> {
        self.held = Backlog::default();
        std::mem::take(&mut self.line).into()
    }
}
