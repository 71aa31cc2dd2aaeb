//! A run of segments of one packet, the unit in which a link queues and drops.

use crate::{Instant, Packet, Pool};

/// A run of consecutive segments of one packet: the unit in which a link queues and drops.
///
/// The packet is only segmented when the run leaves the link, so a super-packet without loss is never copied, and a
/// long queue holds references to buffers.
#[derive(Debug)]
pub(crate) struct Piece {
    pub packet: Packet,
    pub first: u32,
    pub count: u32,
    /// The number of the first segment: segments are numbered as they reach the link. A copy has that of its original.
    pub number: u64,
    /// Random bits that select the bit of the payload to flip, if one is.
    pub flip: Option<u32>,
    /// Whether the packet leaves with the mark of congestion (RFC 3168). A marked piece is one segment, or a packet
    /// that cannot be divided.
    pub marked: bool,
    /// When the serializer finished its transmission; without one, when the segments reached the link.
    pub transmitted: Instant,
    /// This run's share of the memory of the buffer, which runs of one packet share.
    memory: u32,
}

/// Memory of a queued piece besides its buffer: its entry in a queue, whose capacity may be twice its length.
const ENTRY_BYTES: u32 = 2 * std::mem::size_of::<(Instant, Piece)>() as u32;

impl Piece {
    pub(crate) fn whole(now: Instant, packet: Packet, number: u64) -> Self {
        let count = packet.segments();
        let memory = packet.memory();
        let (flip, transmitted) = (None, now);
        Self { packet, first: 0, count, number, flip, marked: false, transmitted, memory }
    }

    /// Bytes of memory that the queued piece occupies.
    pub(crate) const fn memory(&self) -> u64 {
        self.memory as u64 + ENTRY_BYTES as u64
    }

    /// Bytes of memory of the buffer only.
    pub(crate) const fn buffer_memory(&self) -> u64 {
        self.memory as u64
    }

    /// Number of segments that are queued and dropped together.
    pub(crate) fn unit(&self) -> u32 {
        if self.divisible() {
            1
        } else {
            self.count
        }
    }

    /// Bytes on the wire of a segment other than the last one of its packet, which must be divisible.
    pub(crate) fn full_segment(&self) -> u64 {
        u64::from(self.packet.vnet().gso_size) + u64::from(self.packet.meta().header)
    }

    /// Whether the run may be divided. A large message is one IP packet: if a part of it is lost, all of it is.
    pub(crate) fn divisible(&self) -> bool {
        self.packet.vnet().is_super()
    }

    /// Bytes on the wire: payload, and the headers of every segment.
    pub(crate) fn wire_bytes(&self) -> u64 {
        if !self.divisible() || self.count == self.packet.segments() {
            return self.packet.wire_bytes();
        }
        let size = u64::from(self.packet.vnet().gso_size);
        let header = u64::from(self.packet.meta().header);
        let payload = self.packet.len() as u64 - header;
        let start = u64::from(self.first) * size;
        let end = payload.min(u64::from(self.first + self.count) * size);
        end - start + u64::from(self.count) * header
    }

    /// Bytes on the wire of the first `count` segments.
    pub(crate) fn front_bytes(&self, count: u32) -> u64 {
        if count >= self.count || !self.divisible() {
            return if count == 0 { 0 } else { self.wire_bytes() };
        }
        // The last segment of the packet is not included, so all are full.
        u64::from(count) * self.full_segment()
    }

    /// Removes and returns the first `count` segments. `count` must be less than their number.
    pub(crate) fn split_front(&mut self, count: u32) -> Piece {
        let memory = (u64::from(self.memory) * u64::from(count) / u64::from(self.count)) as u32;
        let front = Piece { count, memory, ..self.copy() };
        self.first += count;
        self.number += u64::from(count);
        self.count -= count;
        self.memory -= memory;
        front
    }

    /// The same segments once more; both share the buffer.
    pub(crate) fn copy(&self) -> Piece {
        Piece { packet: self.packet.clone_ref(), ..*self }
    }

    /// The run as a packet that can be sent.
    pub(crate) fn into_packet(self, pool: &mut Pool) -> Packet {
        let (flip, marked) = (self.flip, self.marked);
        let mut packet = self.into_run(pool);
        if marked {
            packet = crate::segment::own(packet, pool);
            packet.mark_congestion();
        }
        match flip {
            None => packet,
            Some(bits) => crate::segment::flip_bit(packet, bits, pool),
        }
    }

    fn into_run(self, pool: &mut Pool) -> Packet {
        if !self.divisible() || self.count == self.packet.segments() {
            return self.packet;
        }
        let run = crate::segment::cut(&self.packet, self.first, self.count, pool);
        pool.put(self.packet);
        run
    }
}
