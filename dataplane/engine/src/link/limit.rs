//! The queue limit of one direction of a link.
//!
//! Two bounds, for two reasons. The *limit* belongs to the emulated link: its queue has so much room, and what does not
//! fit is dropped as a router drops it ([`DropCause::QueueFull`](crate::DropCause::QueueFull)). The *memory* belongs to
//! us: whatever the file says, a direction keeps no more than [`MEMORY`] of it, and what does not fit is our own
//! overload ([`DropCause::Congested`](crate::DropCause::Congested)).

use super::piece::Piece;
use crate::LinkSpec;

/// Memory that one direction of a link may hold in packets, in all its impairments. 10 Gbit/s put 62.5 MB on the way
/// in 50 ms, and packets of 2 KB and more keep at most four times their bytes (see [`crate::Pool::compact`]).
pub(crate) const MEMORY: u64 = 256 << 20;

/// Queue of a rate-limited link that states no limit: this much time of the rate, or two delays if longer …
const DEFAULT_QUEUE_NS: u64 = 50_000_000;
/// … and never less than 32 full packets, or a slow link could not hold one window of TCP.
const DEFAULT_QUEUE_MIN: u64 = 48_000;

/// What something holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// MTU segments.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Bytes of memory that they keep.
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

    pub(crate) fn plus(self, other: Backlog) -> Backlog {
        Backlog {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            memory: self.memory + other.memory,
        }
    }
}

/// How much may wait. What does not fit is dropped from the tail, segment by segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    bytes: u64,
    packets: u64,
}

impl Limit {
    /// Of what waits for the serializer.
    pub(crate) fn of_queue(spec: &LinkSpec) -> Self {
        let default = spec.rate_bps.filter(|_| spec.limit_packets.is_none()).map_or(u64::MAX, |rate| {
            let time = DEFAULT_QUEUE_NS.max(spec.delay_us.saturating_mul(2_000));
            let bytes = u128::from(rate) * u128::from(time) / 8_000_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX).max(DEFAULT_QUEUE_MIN)
        });
        Self { bytes: spec.limit_bytes.unwrap_or(default), packets: spec.limit_packets.unwrap_or(u64::MAX) }
    }

    /// Of what is under way. A serializer lets through no more than its rate, which bounds what the delay holds behind
    /// it; without a rate the delay is the only place where anything waits, and the limit is the limit of that.
    pub(crate) fn of_flight(spec: &LinkSpec) -> Self {
        match spec.rate_bps {
            Some(_) => Self { bytes: u64::MAX, packets: u64::MAX },
            None => Self::of_queue(spec),
        }
    }

    /// How many segments of a piece fit behind what waits. Where nothing waits, at least one does.
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
        // All but the last segment are full, and the last one is not among those that fit.
        let fitting = room_packets.min(room_bytes / piece.full_segment());
        let most = piece.count.saturating_sub(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(most).max(least)
    }
}
