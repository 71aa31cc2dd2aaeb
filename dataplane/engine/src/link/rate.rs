//! The serializer, with the queue in front of it and the limit of that queue.
//!
//! A segment counts with its headers. Super-packets are transmitted in pieces of at most 1 ms at the rate, so that
//! other packets do not wait for 64 KB on a slow link, and bursts are as short as on a real interface. How long a
//! piece takes is up to the [`Clock`].

use std::collections::VecDeque;

use super::clock::{Clock, NEVER};
use super::impairment::{Impairment, Outlet};
use super::limit::{Backlog, Limit};
use super::piece::Piece;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Rate {
    clock: Clock,
    limit: Limit,
    queue: VecDeque<Piece>,
    held: Backlog,
    /// The number of segments at the head that are being transmitted, and the end of their transmission.
    service: Option<(u32, Instant)>,
    /// How much earlier than at the rate packets may leave: the time in which the token bucket fills, in nanoseconds.
    credit: u64,
    /// The end of the last transmission by the clock, which is up to `credit` later than the actual one.
    idle_from: Instant,
}

impl Rate {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            credit: credit(spec),
            clock: Clock::new(spec),
            limit: Limit::of_queue(spec),
            queue: VecDeque::new(),
            held: Backlog::default(),
            service: None,
            idle_from: Instant::ZERO,
        }
    }

    /// Starts the transmission of the head of the queue.
    fn serve(&mut self, from: Instant) {
        let start = from.max(self.idle_from);
        self.service = self.queue.front().map(|head| {
            let (count, end) = self.clock.begin(head, start);
            self.idle_from = end;
            (count, Instant(end.nanos().saturating_sub(self.credit)).max(from))
        });
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
        if self.clock.is_unlimited() && self.queue.is_empty() {
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
        self.service.map(|(_, done)| done).filter(|done| *done != NEVER)
    }

    fn change(&mut self, now: Instant, spec: &LinkSpec) {
        self.limit = Limit::of_queue(spec);
        self.credit = credit(spec);
        if !self.clock.serves(spec) {
            // The rest of the piece in transmission continues with the new clock.
            let old = std::mem::replace(&mut self.clock, Clock::new(spec));
            self.idle_from = self.clock.begin_work(old.left(now), now);
        }
        if let Some((count, _)) = self.service {
            let departure = Instant(self.idle_from.nanos().saturating_sub(self.credit)).max(now);
            self.service = Some((count, departure));
        }
    }

    fn backlog(&self) -> Backlog {
        self.held
    }
}

/// See [`Rate::credit`]. A bucket of one full packet gives none: a packet leaves when its transmission ends, and the
/// next one no earlier than the rate allows.
fn credit(spec: &LinkSpec) -> u64 {
    let rate = spec.rate_bps.filter(|bps| *bps > 0);
    let (Some(bps), Some(burst)) = (rate, spec.rate_burst_bytes) else { return 0 };
    let early = u128::from(burst.saturating_sub(spec.full_packet())) * 8_000_000_000;
    u64::try_from(early / u128::from(bps)).unwrap_or(u64::MAX)
}
