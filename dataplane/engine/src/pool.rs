//! Packet buffers of a shard: free lists (last in, first out), so that no buffer is allocated per packet.
//!
//! A [`Pool`] belongs to one shard and is used without a lock. Pools of one process share a [`Depot`], so that a flow
//! that crosses shards in one direction does not make one shard allocate continually while the other frees: full
//! pools move batches of buffers to the depot, empty ones take batches from it, under one lock per batch.

use std::sync::Arc;

use crate::buffer::{class_for, Buffer, Depot, FreeLists, BATCH, HEADROOM, LARGE, SIZES};
use crate::packet::Packet;

/// The buffers of one shard.
#[derive(Debug)]
pub struct Pool {
    stacks: FreeLists,
    depot: Arc<Depot>,
    limit: usize,
    allocated: u64,
}

impl Pool {
    /// A pool that keeps at most `limit` buffers of each size class before it moves a batch to the depot.
    #[must_use]
    pub fn new(depot: Arc<Depot>, limit: usize) -> Self {
        let limit = limit.max(2 * BATCH);
        // Capacity for one batch above the limit, so that the free lists never grow on the fast path.
        let stacks = std::array::from_fn(|_| Vec::with_capacity(limit + BATCH));
        Self { stacks, depot, limit, allocated: 0 }
    }

    /// A pool with a depot of its own, for tests and for programs with one shard.
    #[must_use]
    pub fn standalone() -> Self {
        Self::new(Depot::new(1024), 256)
    }

    /// An empty packet with a large buffer, which holds any IPv4 packet.
    #[must_use]
    pub fn get(&mut self) -> Packet {
        Packet::empty(self.buffer(SIZES.len() - 1))
    }

    /// An empty packet whose buffer holds at least `len` bytes behind the headroom.
    ///
    /// # Panics
    ///
    /// When `len` is larger than a large buffer; callers check lengths against IPv4's 65,535 first.
    #[must_use]
    pub fn get_for(&mut self, len: usize) -> Packet {
        assert!(len <= LARGE - HEADROOM, "no buffer size holds {len} bytes");
        Packet::empty(self.buffer(class_for(len)))
    }

    /// Returns a packet to the pool. The buffer is kept when this was its last reference.
    pub fn put(&mut self, mut packet: Packet) {
        let Some(buffer) = packet.release() else {
            return;
        };
        let class = buffer.class;
        let stack = &mut self.stacks[class];
        stack.push(buffer);
        if stack.len() >= self.limit + BATCH {
            let from = stack.len() - BATCH;
            self.depot.give(class, stack.drain(from..));
        }
    }

    /// The same packet in the smallest buffer that holds it. Saves memory for packets that wait in a queue.
    #[must_use]
    pub fn compact(&mut self, packet: Packet) -> Packet {
        if packet.capacity() <= SIZES[class_for(packet.len())] {
            return packet;
        }
        let copy = self.copy(&packet);
        self.put(packet);
        copy
    }

    /// A copy of `packet` in a buffer of its own.
    #[must_use]
    pub fn copy(&mut self, packet: &Packet) -> Packet {
        let buffer = self.buffer(class_for(packet.len()));
        packet.copy_into(buffer)
    }

    /// A copy of `packet` in a large buffer, to which bytes can be appended.
    #[must_use]
    pub(crate) fn copy_with_headroom(&mut self, packet: &Packet) -> Packet {
        packet.copy_into(self.buffer(SIZES.len() - 1))
    }

    /// Buffers that this pool had to allocate since it was made.
    #[must_use]
    pub const fn allocated(&self) -> u64 {
        self.allocated
    }

    fn buffer(&mut self, class: usize) -> Arc<Buffer> {
        let stack = &mut self.stacks[class];
        if let Some(buffer) = stack.pop() {
            return buffer;
        }
        self.depot.take(class, stack);
        if let Some(buffer) = stack.pop() {
            return buffer;
        }
        self.allocated += 1;
        Arc::new(Buffer::new(class, Arc::downgrade(&self.depot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::PAGE;

    #[test]
    fn a_returned_buffer_is_reused() {
        let mut pool = Pool::standalone();
        for _ in 0..1000 {
            let packet = pool.get();
            pool.put(packet);
        }
        assert_eq!(pool.allocated(), 1);
    }

    #[test]
    fn a_queued_packet_occupies_at_most_four_times_its_length() {
        let mut pool = Pool::standalone();
        for len in [1_500, 1_984, 1_985, 4_000, 8_128, 8_129, 20_000, 24_512, 24_513, 65_535] {
            let mut packet = pool.get();
            packet.fill(&vec![1; len], crate::VnetHeader::default()).expect("a large buffer");
            let packet = pool.compact(packet);
            let memory = packet.memory() as usize;
            assert!(packet.len() == len && memory <= 4 * len + 512, "{len}: {memory}");
            assert!(len < 8_192 || memory <= 3 * len + 512, "{len}: {memory}");
            pool.put(packet);
        }
    }

    #[test]
    fn large_buffers_are_page_aligned() {
        let mut pool = Pool::standalone();
        let packets: Vec<Packet> = (0..8).map(|_| pool.get()).collect();
        for mut packet in packets {
            let storage = packet.storage_mut().expect("a new buffer");
            assert_eq!((storage.len(), storage.as_ptr() as usize % PAGE), (LARGE, 0));
        }
    }

    #[test]
    fn a_flow_that_crosses_pools_in_one_direction_stops_allocating() {
        let depot = Depot::new(1024);
        let mut source = Pool::new(depot.clone(), 64);
        let mut sink = Pool::new(depot, 64);
        for _ in 0..10_000 {
            sink.put(source.get());
        }
        assert!(source.allocated() <= 64 + 2 * BATCH as u64, "{}", source.allocated());
    }

    #[test]
    fn a_shared_buffer_returns_to_the_pool_with_its_last_reference() {
        let mut pool = Pool::standalone();
        let packet = pool.get();
        let other = packet.clone_ref();
        pool.put(packet);
        drop(other);
        let _again = pool.get();
        assert_eq!(pool.allocated(), 1);
    }
}
