//! Packet buffers in four size classes, and the free lists that the pools of a process share.
//!
//! A buffer whose packet is dropped outside a [`Pool`](crate::Pool), for instance by a Python thread that has read a
//! message, returns to the [`Depot`] of that pool.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Free bytes in front of every packet, for a link's frame header and the virtio header.
///
/// The payload of a TCP packet with timestamps, whose headers take 52 bytes, then starts 128 bytes behind the start of
/// a buffer. Copies between a device and an address that is a multiple of 64 take a third less time (`rep movsb` on
/// Intel Sapphire Rapids: one stream carries 26 % more than with 64 bytes of headroom).
pub const HEADROOM: usize = 76;
/// Bytes of a large buffer: the largest IPv4 packet with headroom, rounded to whole KiB.
pub const LARGE: usize = 66 * 1024;
/// Bytes of a small buffer: an ordinary MTU packet with headroom. Keeps queues of small packets small.
pub const SMALL: usize = 2 * 1024;
/// Size classes in bytes. A queued packet occupies at most four times its length, and at most three times from 8 KB
/// on, so a limit on the memory of a queue bounds its bytes however the sender segmented its stream.
pub(crate) const SIZES: [usize; 4] = [SMALL, 8 * 1024, 24 * 1024, LARGE];
/// Large buffers are page-aligned. Copies into and out of the kernel's page-aligned buffers become five times slower
/// where the target lies 1 to 15 bytes behind the source, both modulo the page size (`rep movsb` on AMD Zen 4: 21
/// instead of 4 µs for 64 KB). An allocator returns such an address now and then, and a pool reuses its topmost
/// buffer for every packet; with page alignment, headers place a payload 104 to 196 bytes behind the start of a page.
pub(crate) const PAGE: usize = 4096;
/// Buffers that one lock of the depot moves between a pool and the depot.
pub(crate) const BATCH: usize = 32;

/// The memory of one packet. Shared by clones of the packet.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    /// Offset of the usable bytes in `memory`: page-aligned in large buffers, 0 in others.
    start: usize,
    /// Index into [`SIZES`].
    pub(crate) class: usize,
    depot: Weak<Depot>,
}

impl Buffer {
    pub(crate) fn new(class: usize, depot: Weak<Depot>) -> Self {
        let size = SIZES[class];
        let spare = if size == LARGE { PAGE } else { 0 };
        let memory = vec![0; size + spare].into_boxed_slice();
        // `align_offset` may fail by its contract; an unaligned buffer works and is only slower.
        let start = Some(memory.as_ptr().align_offset(PAGE)).filter(|&start| start <= spare).unwrap_or(0);
        Self { memory, start, class, depot }
    }

    /// Bytes that the buffer takes from the allocator, with its header.
    pub(crate) fn footprint(&self) -> usize {
        self.memory.len() + std::mem::size_of::<Self>()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + SIZES[self.class]]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + SIZES[self.class]]
    }
}

/// Free buffers that no pool holds. Shared by all pools of a process.
#[derive(Debug)]
pub struct Depot {
    free_lists: Mutex<FreeLists>,
    limit: usize,
}

/// One free list (last in, first out) per size class.
pub(crate) type FreeLists = [Vec<Arc<Buffer>>; SIZES.len()];

/// The smallest size class that holds `len` bytes behind the headroom; the largest class when none does.
pub(crate) fn class_for(len: usize) -> usize {
    SIZES.iter().position(|size| len <= size - HEADROOM).unwrap_or(SIZES.len() - 1)
}

impl Depot {
    /// A depot that keeps at most `limit` buffers of each size class; further buffers are freed.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free_lists: Mutex::default(), limit })
    }

    pub(crate) fn take(&self, class: usize, into: &mut Vec<Arc<Buffer>>) {
        let mut free_lists = self.free_lists.lock().unwrap_or_else(PoisonError::into_inner);
        let free_list = &mut free_lists[class];
        let from = free_list.len().saturating_sub(BATCH);
        into.extend(free_list.drain(from..));
    }

    pub(crate) fn give(&self, class: usize, buffers: impl Iterator<Item = Arc<Buffer>>) {
        let mut free_lists = self.free_lists.lock().unwrap_or_else(PoisonError::into_inner);
        let free_list = &mut free_lists[class];
        free_list.extend(buffers);
        free_list.truncate(self.limit);
    }
}

/// Returns a buffer whose packet was dropped outside a pool to the depot, when this was its last reference.
pub(crate) fn retire(buffer: Arc<Buffer>) {
    if Arc::strong_count(&buffer) != 1 {
        return;
    }
    if let Some(depot) = buffer.depot.upgrade() {
        depot.give(buffer.class, std::iter::once(buffer));
    }
}
