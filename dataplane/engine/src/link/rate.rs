//! The serializer, with the queue in front of it and the limit of that queue.
//!
//! A segment costs its bytes with headers. Super-packets are served in pieces of at most 1 ms of the rate, so
//! that nobody waits behind 64 KB on a slow link and bursts stay as short as a real interface makes them.

use std::collections::VecDeque;

use super::lens::{Lens, Outlet, Piece};
use crate::stats::DropCause;
use crate::{Instant, LinkSpec};

/// Longest time that one piece may occupy the serializer, in nanoseconds.
const PIECE_NS: u64 = 1_000_000;
/// Queue of a rate-limited link that states no limit: this much time of the rate, or two delays if longer …
const DEFAULT_QUEUE_NS: u64 = 50_000_000;
/// … and never less than 32 full packets, or a slow link could not hold one window of TCP.
const DEFAULT_QUEUE_MIN: u64 = 48_000;

/// How much may wait. What does not fit is dropped from the tail, segment by segment.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: u64,
    packets: u64,
}

impl Limit {
    fn new(spec: &LinkSpec) -> Self {
        let default = spec.rate_bps.filter(|_| spec.limit_packets.is_none()).map_or(u64::MAX, |rate| {
            let time = DEFAULT_QUEUE_NS.max(spec.delay_us.saturating_mul(2_000));
            let bytes = u128::from(rate) * u128::from(time) / 8_000_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX).max(DEFAULT_QUEUE_MIN)
        });
        Self { bytes: spec.limit_bytes.unwrap_or(default), packets: spec.limit_packets.unwrap_or(u64::MAX) }
    }

    /// How many segments of a piece fit behind what waits. An empty queue takes at least one.
    fn admits(self, waiting_packets: u64, waiting_bytes: u64, piece: &Piece) -> u32 {
        let room_bytes = self.bytes.saturating_sub(waiting_bytes);
        let room_packets = self.packets.saturating_sub(waiting_packets);
        let (count, bytes) = (u64::from(piece.count), piece.wire_bytes());
        if count <= room_packets && bytes <= room_bytes {
            return piece.count;
        }
        let least = u64::from(waiting_packets == 0);
        if !piece.divisible() {
            return if least == 1 { piece.count } else { 0 };
        }
        let per_segment = bytes.div_ceil(count);
        room_packets.min(room_bytes / per_segment).max(least).min(count) as u32
    }
}

#[derive(Debug)]
pub(crate) struct Rate {
    bps: Option<u64>,
    limit: Limit,
    queue: VecDeque<Piece>,
    packets: u64,
    bytes: u64,
    /// Segments of the head that are being served, and when they are done.
    service: Option<(u32, Instant)>,
    /// When the last piece was done, and the fraction of a nanosecond (in bits × 10⁹ modulo the rate) it owed.
    idle_from: Instant,
    remainder: u64,
}

impl Rate {
    pub(crate) fn new(spec: &LinkSpec) -> Self {
        Self {
            bps: spec.rate_bps,
            limit: Limit::new(spec),
            queue: VecDeque::new(),
            packets: 0,
            bytes: 0,
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

    /// Starts serving the head of the queue.
    fn serve(&mut self, from: Instant) {
        let Some(head) = self.queue.front() else {
            self.service = None;
            return;
        };
        let count = self.bps.map_or(head.count, |bps| piece_segments(head, bps));
        let bytes = front_bytes(head, count);
        self.service = Some((count, from.plus_nanos(self.nanos_for(bytes))));
    }

    fn take_served(&mut self, count: u32) -> Option<Piece> {
        let head = self.queue.front_mut()?;
        let piece = if count < head.count { head.split_front(count) } else { self.queue.pop_front()? };
        self.packets -= u64::from(piece.count);
        self.bytes -= piece.wire_bytes();
        Some(piece)
    }
}

impl Lens for Rate {
    fn push(&mut self, at: Instant, mut piece: Piece, out: &mut Outlet) {
        if self.bps.is_none() && self.queue.is_empty() {
            out.pass(at, piece);
            return;
        }
        let fits = self.limit.admits(self.packets, self.bytes, &piece);
        if fits < piece.count {
            let kept = (fits > 0).then(|| piece.split_front(fits));
            out.discard(piece, DropCause::QueueFull);
            let Some(kept) = kept else { return };
            piece = kept;
        }
        self.packets += u64::from(piece.count);
        self.bytes += piece.wire_bytes();
        self.queue.push_back(piece);
        if self.service.is_none() {
            self.serve(at.max(self.idle_from));
        }
    }

    fn release(&mut self, now: Instant, out: &mut Outlet) {
        while let Some((count, done)) = self.service.filter(|(_, done)| *done <= now) {
            self.idle_from = done;
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
        self.limit = Limit::new(spec);
        if self.bps == spec.rate_bps {
            return;
        }
        if let (Some((_, done)), Some(old)) = (&mut self.service, self.bps) {
            // What is left of the piece in service goes on at the new rate.
            let left = u128::from(done.nanos_since(now)) * u128::from(old);
            let left = spec.rate_bps.map_or(0, |new| left / u128::from(new));
            *done = now.plus_nanos(u64::try_from(left).unwrap_or(u64::MAX));
        }
        self.bps = spec.rate_bps;
        self.remainder = 0;
    }

    fn backlog(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }
}

/// Segments of a piece that are served in one go: at most [`PIECE_NS`] of the rate, at least one.
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
    // Not the last segment of the packet, so all of them are full.
    let segment = u64::from(piece.packet.vnet().gso_size) + u64::from(piece.packet.meta().header);
    u64::from(count) * segment
}
