//! The serializer, with the queue in front of it.
//!
//! A segment counts with its headers. Super-packets are transmitted in pieces of at most 1 ms at the rate, so that
//! other packets do not wait for 64 KB on a slow link, and bursts are as short as on a real interface. How long a
//! piece takes is up to the [`Clock`].

use super::clock::{Clock, NEVER};
use super::impairment::{Impairment, Outlet};
use super::limit::Backlog;
use super::piece::Piece;
use super::queue::Queue;
use crate::address::AddressMap;
use crate::rng::Rng;
use crate::{Instant, LinkSpec};

#[derive(Debug)]
pub(crate) struct Rate {
    clock: Clock,
    queue: Queue,
    /// The piece that is being transmitted, and the end of its transmission.
    service: Option<(Piece, Instant)>,
    /// How much earlier than at the rate packets may leave: the time in which the token bucket fills, in nanoseconds.
    credit: u64,
    /// The end of the last transmission by the clock, which is up to `credit` later than the actual one.
    idle_from: Instant,
}

impl Rate {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng, map: AddressMap) -> Self {
        Self {
            credit: credit(spec),
            clock: Clock::new(spec),
            queue: Queue::new(spec, rng, map),
            service: None,
            idle_from: Instant::ZERO,
        }
    }

    /// Starts the transmission of the next piece in the queue.
    fn serve(&mut self, from: Instant, out: &mut Outlet) {
        self.service = self.queue.pop(from, &self.clock, out).map(|piece| {
            self.idle_from = self.clock.begin(piece.wire_bytes(), from.max(self.idle_from));
            (piece, self.departure(from))
        });
    }

    /// When the current transmission ends, at `now` at the earliest.
    fn departure(&self, now: Instant) -> Instant {
        Instant(self.idle_from.nanos().saturating_sub(self.credit)).max(now)
    }

    /// The piece that is being transmitted. It counts as queued.
    fn sending(&self) -> Backlog {
        self.service.as_ref().map_or(Backlog::default(), |(piece, _)| Backlog {
            packets: u64::from(piece.count),
            bytes: piece.wire_bytes(),
            memory: piece.buffer_memory(),
        })
    }
}

impl Impairment for Rate {
    fn push(&mut self, at: Instant, piece: Piece, out: &mut Outlet) {
        if self.clock.is_unlimited() && self.service.is_none() {
            out.pass(at, piece);
            return;
        }
        self.queue.push(at, piece, self.sending(), self.idle_from, out);
        if self.service.is_none() {
            self.serve(at, out);
        }
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while let Some((piece, done)) = self.service.take_if(|(_, done)| *done <= now) {
            out.pass(done, piece);
            self.serve(done, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.service.as_ref().map(|(_, done)| *done).filter(|done| *done != NEVER)
    }

    fn change(&mut self, now: Instant, spec: &LinkSpec) {
        self.queue.change(spec);
        self.credit = credit(spec);
        if !self.clock.serves(spec) {
            // The rest of the piece in transmission continues with the new clock.
            let old = std::mem::replace(&mut self.clock, Clock::new(spec));
            self.idle_from = self.clock.begin_work(old.left(now), now);
        }
        let departure = self.departure(now);
        if let Some((_, done)) = &mut self.service {
            *done = departure;
        }
    }

    fn take_queue(&mut self) -> Vec<(Instant, Piece)> {
        let sending = self.service.take().map(|(piece, done)| (done, piece));
        sending.into_iter().chain(self.queue.drain()).collect()
    }

    fn backlog(&self) -> Backlog {
        self.queue.held().plus(self.sending())
    }

    fn rng(&self) -> Option<&Rng> {
        Some(self.queue.rng())
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
