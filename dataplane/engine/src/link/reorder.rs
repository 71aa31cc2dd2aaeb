//! Reordering, drawn per MTU segment: a selected segment is held back until a number of later ones have passed.
//!
//! When too few follow, it leaves after 10 ms or the link's delay, whichever is longer, and the time that the missing
//! segments would take at the link's rate. It was then late but not overtaken.

use std::collections::VecDeque;

use super::impairment::{Impairment, Outlet};
use super::limit::Backlog;
use super::piece::Piece;
use super::selection::Selection;
use crate::rng::Rng;
use crate::{Instant, LinkSpec};

/// The shortest time for which a segment waits for later ones, in nanoseconds.
const LEAST_WAIT: u64 = 10_000_000;
/// The most time that is added for the rate of the link, in nanoseconds: five full packets at 64 kbit/s.
const MOST_FOR_RATE: u64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Reorder {
    selection: Selection,
    gap: u64,
    wait: u64,
    /// Number of segments that have passed without being held back.
    passed: u64,
    queue: VecDeque<Waiting>,
    held: Backlog,
}

/// A segment that is held back.
#[derive(Debug)]
struct Waiting {
    piece: Piece,
    /// The value of [`Reorder::passed`] at which it leaves.
    after: u64,
    /// When it leaves at the latest.
    until: Instant,
}

impl Reorder {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng) -> Self {
        let mut reorder = Self {
            selection: Selection::new(0.0, rng),
            gap: 1,
            wait: 0,
            passed: 0,
            queue: VecDeque::new(),
            held: Backlog::default(),
        };
        reorder.set(spec);
        reorder
    }

    fn set(&mut self, spec: &LinkSpec) {
        self.selection.set(spec.reorder);
        self.gap = u64::from(spec.reorder_gap.unwrap_or(1));
        let bits = u128::from(self.gap) * u128::from(spec.full_packet()) * 8;
        let transmission = spec.nominal_rate_bps().map_or(0, |bps| bits * 1_000_000_000 / u128::from(bps));
        let transmission = u64::try_from(transmission).unwrap_or(u64::MAX).min(MOST_FOR_RATE);
        self.wait = spec.delay_us.saturating_mul(1_000).max(LEAST_WAIT).saturating_add(transmission);
    }

    fn hold(&mut self, at: Instant, piece: Piece) {
        let earlier = self.queue.back().map_or(Instant::ZERO, |last| last.until);
        let until = at.plus_nanos(self.wait).max(earlier);
        self.held.add(&piece);
        self.queue.push_back(Waiting { piece, after: self.passed + self.gap, until });
    }

    /// Passes segments that were not selected, and behind the last one that must overtake them those held back.
    fn pass(&mut self, at: Instant, mut run: Piece, out: &mut Outlet) {
        while let Some(first) = self.queue.front() {
            let missing = first.after.saturating_sub(self.passed).max(1);
            if missing >= u64::from(run.count) || !run.divisible() {
                break;
            }
            let front = run.split_front(missing as u32);
            self.pass_whole(at, front, out);
        }
        self.pass_whole(at, run, out);
    }

    fn pass_whole(&mut self, at: Instant, run: Piece, out: &mut Outlet) {
        self.passed += u64::from(run.count);
        out.pass(at, run);
        while self.queue.front().is_some_and(|first| first.after <= self.passed) {
            if let Some(Waiting { piece, .. }) = self.queue.pop_front() {
                self.held.remove(&piece);
                out.impaired.reorder += u64::from(piece.count);
                out.pass(at, piece);
            }
        }
    }
}

impl Impairment for Reorder {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        // A late timer must not let more segments overtake.
        self.release(at, out);
        let mut rest = Some(piece);
        while let Some((run, selected)) = self.selection.next(&mut rest) {
            if selected {
                self.hold(at, run);
            } else {
                self.pass(at, run, out);
            }
        }
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while self.queue.front().is_some_and(|first| first.until <= now) {
            if let Some(Waiting { piece, until, .. }) = self.queue.pop_front() {
                self.held.remove(&piece);
                out.pass(until, piece);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|first| first.until)
    }

    fn change(&mut self, now: Instant, spec: &LinkSpec) {
        self.set(spec);
        if spec.reorder == 0.0 {
            self.queue.iter_mut().for_each(|waiting| waiting.until = now);
        }
    }

    fn take_queue(&mut self) -> Vec<(Instant, Piece)> {
        self.held = Backlog::default();
        self.queue.drain(..).map(|waiting| (waiting.until, waiting.piece)).collect()
    }

    fn backlog(&self) -> Backlog {
        self.held
    }
}
