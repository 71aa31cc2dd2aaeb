//! The serializer, with the queue in front of it and the limit of that queue.
//!
//! A segment counts with its headers. Super-packets are transmitted in pieces of at most 1 ms at the rate, so that
//! other packets do not wait for 64 KB on a slow link, and bursts are as short as on a real interface.

use std::collections::VecDeque;

use super::impairment::{Impairment, Outlet};
use super::limit::{Backlog, Limit};
use super::piece::Piece;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

/// Longest time that one piece may occupy the serializer, in nanoseconds.
const PIECE_NS: u64 = 1_000_000;
#[derive(Debug)]
pub(crate) struct Rate {
    bps: Option<u64>,
    limit: Limit,
    queue: VecDeque<Piece>,
    held: Backlog,
    /// The number of segments at the head that are being transmitted, and the end of their transmission.
    service: Option<(u32, Instant)>,
    /// How much earlier than at the rate packets may leave: the time in which the token bucket fills, in nanoseconds.
    credit: u64,
    /// The end of the last transmission at the rate, which is up to `credit` later than the actual one, and the
    /// remaining fraction of a nanosecond (in bits × 10⁹ modulo the rate).
    idle_from: Instant,
    remainder: u64,
}

impl Rate {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            bps: spec.rate_bps,
            credit: credit(spec),
            limit: Limit::of_queue(spec),
            queue: VecDeque::new(),
            held: Backlog::default(),
            service: None,
            idle_from: Instant::ZERO,
            remainder: 0,
        }
    }

    fn nanos_for(&mut self, bytes: u64) -> u64 {
        let Some(bps) = self.bps else { return 0 };
        let work = u128::from(bytes) * 8_000_000_000 + u128::from(self.remainder);
        self.remainder = (work % u128::from(bps)) as u64;
        u64::try_from(work / u128::from(bps)).unwrap_or(u64::MAX)
    }

    /// Starts the transmission of the head of the queue.
    fn serve(&mut self, from: Instant) {
        let Some(head) = self.queue.front() else {
            self.service = None;
            return;
        };
        let count = self.bps.map_or(head.count, |bps| piece_segments(head, bps));
        let bytes = front_bytes(head, count);
        let start = from.max(self.idle_from);
        self.idle_from = start.plus_nanos(self.nanos_for(bytes));
        self.service = Some((count, self.departure(from)));
    }

    /// When the current transmission ends, at `now` at the earliest.
    fn departure(&self, now: Instant) -> Instant {
        Instant(self.idle_from.nanos().saturating_sub(self.credit)).max(now)
    }

    fn take_served(&mut self, count: u32) -> Option<Piece> {
        let head = self.queue.front_mut()?;
        if count >= head.count {
            let piece = self.queue.pop_front()?;
            self.held.remove(&piece);
            return Some(piece);
        }
        self.held.remove(head);
        let piece = head.split_front(count);
        self.held.add(head);
        Some(piece)
    }
}

impl Impairment for Rate {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        if self.bps.is_none() && self.queue.is_empty() {
            out.pass(at, piece);
            return;
        }
        let Some(piece) = out.admit(self.limit.admits(self.held, &piece), piece, DropCause::QueueFull) else {
            return;
        };
        self.held.add(&piece);
        self.queue.push_back(piece);
        if self.service.is_none() {
            self.serve(at);
        }
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while let Some((count, done)) = self.service.filter(|(_, done)| *done <= now) {
            if let Some(piece) = self.take_served(count) {
                out.pass(done, piece);
            }
            self.serve(done);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.service.map(|(_, done)| done)
    }

    fn change(&mut self, now: Instant, spec: &LinkSpec) {
        self.limit = Limit::of_queue(spec);
        self.credit = credit(spec);
        if self.bps != spec.rate_bps {
            // The rest of the piece in transmission continues at the new rate.
            let left = u128::from(self.idle_from.nanos_since(now)) * u128::from(self.bps.unwrap_or(0));
            let left = spec.rate_bps.map_or(0, |new| left / u128::from(new));
            self.idle_from = now.plus_nanos(u64::try_from(left).unwrap_or(u64::MAX));
            self.bps = spec.rate_bps;
            self.remainder = 0;
        }
        if let Some((count, _)) = self.service {
            self.service = Some((count, self.departure(now)));
        }
    }

    fn backlog(&self) -> Backlog {
        self.held
    }
}

/// See [`Rate::credit`]. A bucket of one full packet gives none: a packet leaves when its transmission ends, and the
/// next one no earlier than the rate allows.
fn credit(spec: &LinkSpec) -> u64 {
    let (Some(bps), Some(burst)) = (spec.rate_bps, spec.rate_burst_bytes) else { return 0 };
    let early = u128::from(burst.saturating_sub(spec.full_packet())) * 8_000_000_000;
    u64::try_from(early / u128::from(bps)).unwrap_or(u64::MAX)
}

/// Segments of a piece that are transmitted together: at most [`PIECE_NS`] at the rate, at least one.
fn piece_segments(piece: &Piece, bps: u64) -> u32 {
    if !piece.divisible() {
        return piece.count;
    }
    let per_segment = u128::from(piece.wire_bytes().div_ceil(u64::from(piece.count)));
    let budget = u128::from(bps) * u128::from(PIECE_NS) / 8_000_000_000;
    (budget / per_segment).clamp(1, u128::from(piece.count)) as u32
}

fn front_bytes(piece: &Piece, count: u32) -> u64 {
    if count >= piece.count {
        return piece.wire_bytes();
    }
    // The last segment of the packet is not included, so all are full.
    u64::from(count) * piece.full_segment()
}
