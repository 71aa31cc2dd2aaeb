//! The queue limit of one direction of a link.
//!
//! Two bounds apply. The *limit* belongs to the emulated link: packets that exceed the queue are dropped as by a
//! router ([`DropCause::QueueFull`](crate::DropCause::QueueFull)). The *memory* bound protects this machine: one
//! direction occupies at most [`MEMORY`], whatever its specification, and packets that exceed it are dropped as
//! overload ([`DropCause::Congested`](crate::DropCause::Congested)).

use super::piece::Piece;
use crate::LinkSpec;

/// Memory in bytes that the queues of one direction of a link may occupy. 10 Gbit/s times 50 ms are 62.5 MB, and
/// packets of 2 KB and more occupy at most four times their length (see [`crate::Pool::compact`]).
pub(crate) const MEMORY: u64 = 256 << 20;

/// Default queue limit of a link with a rate, in microseconds at that rate or the mean rate of its trace, or two delays
/// if longer.
const DEFAULT_QUEUE_US: u64 = 50_000;
/// Lower bound of the default queue limit in bytes: 32 full packets, so that a slow link holds one window of TCP.
const DEFAULT_QUEUE_MIN: u64 = 48_000;

/// The contents of a queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// MTU segments.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Bytes of memory that they occupy.
    pub memory: u64,
}

impl Backlog {
    pub(crate) fn add(&mut self, piece: &Piece) {
        self.packets += u64::from(piece.count);
        self.bytes += piece.wire_bytes();
        self.memory += piece.memory();
    }

    pub(crate) fn remove(&mut self, piece: &Piece) {
        self.packets -= u64::from(piece.count);
        self.bytes -= piece.wire_bytes();
        self.memory -= piece.memory();
    }

    /// This backlog, after a part of it changed.
    pub(crate) fn replaced(self, before: Backlog, after: Backlog) -> Backlog {
        Backlog {
            packets: self.packets - before.packets + after.packets,
            bytes: self.bytes - before.bytes + after.bytes,
            memory: self.memory - before.memory + after.memory,
        }
    }

    pub(crate) fn plus(self, other: Backlog) -> Backlog {
        Backlog {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            memory: self.memory + other.memory,
        }
    }
}

impl LinkSpec {
    /// The limit of the queue in bytes: the smaller one of those in bytes and in time or, with a rate and no limit of
    /// any kind, the default. `None`: no limit in bytes.
    #[must_use]
    pub fn queue_limit_bytes(&self) -> Option<u64> {
        let in_time = |micros: u64, rate: u64| {
            let bytes = u128::from(rate) * u128::from(micros) / 8_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let by_time = self.limit_us.zip(self.nominal_rate_bps()).map(|(micros, rate)| in_time(micros, rate));
        let stated = self.limit_bytes.into_iter().chain(by_time).min();
        stated.or_else(|| {
            let rate = self.nominal_rate_bps().filter(|_| self.limit_packets.is_none())?;
            let micros = DEFAULT_QUEUE_US.max(self.delay_us.saturating_mul(2));
            Some(in_time(micros, rate).max(DEFAULT_QUEUE_MIN))
        })
    }
}

/// A queue limit. Segments that exceed it are dropped from the tail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    bytes: u64,
    packets: u64,
}

impl Limit {
    /// The limit of the queue in front of the serializer.
    pub(crate) fn of_queue(spec: &LinkSpec) -> Self {
        Self {
            bytes: spec.queue_limit_bytes().unwrap_or(u64::MAX),
            packets: spec.limit_packets.unwrap_or(u64::MAX),
        }
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }

    /// The limit of the delay queue. A serializer passes no more than its rate, which bounds the delay queue behind
    /// it; without a rate the delay queue is the only queue and has the link's limit.
    pub(crate) fn of_flight(spec: &LinkSpec) -> Self {
        match spec.nominal_rate_bps() {
            Some(_) => Self { bytes: u64::MAX, packets: u64::MAX },
            None => Self::of_queue(spec),
        }
    }

    /// Number of segments of a piece that fit behind the queued ones; at least one when the queue is empty.
    pub(crate) fn admits(self, waiting: Backlog, piece: &Piece) -> u32 {
        let room_bytes = self.bytes.saturating_sub(waiting.bytes);
        let room_packets = self.packets.saturating_sub(waiting.packets);
        if u64::from(piece.count) <= room_packets && piece.wire_bytes() <= room_bytes {
            return piece.count;
        }
        let least = u32::from(waiting.packets == 0);
        if !piece.divisible() {
            return if least == 1 { piece.count } else { 0 };
        }
        // All segments but the last are full, and the last one is not among those that fit.
        let fitting = room_packets.min(room_bytes / piece.full_segment());
        let most = piece.count.saturating_sub(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(most).max(least)
    }
}
