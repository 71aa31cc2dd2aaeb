//! The memory of packets, in a few sizes, and the store of buffers that no pool holds.
//!
//! A buffer that is dropped outside a [`Pool`](crate::Pool) (a Python thread that has read a message) goes back to the
//! [`Depot`] that its pool belongs to.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Free bytes in front of every packet, for a link's frame header and the virtio header.
pub const HEADROOM: usize = 64;
/// Bytes of a large buffer: the largest IPv4 packet with headroom, rounded to whole KiB.
pub const LARGE: usize = 66 * 1024;
/// Bytes of a small buffer: an ordinary MTU packet with headroom. Keeps queues of small packets small.
pub const SMALL: usize = 2 * 1024;
/// The sizes of buffers. A packet that waits keeps at most four times its bytes, three from 8 KB on: the memory that
/// queues are allowed is then a matter of bytes, not of how a sender happened to cut its stream.
pub(crate) const SIZES: [usize; 4] = [SMALL, 8 * 1024, 24 * 1024, LARGE];
/// Large buffers begin at a page. The kernel's copies into and out of its own page-aligned buffers become five times
/// slower where a target lies 1 to 15 bytes behind its source, both taken modulo a page (`rep movsb` on AMD Zen 4:
/// 21 instead of 4 µs for 64 KB). An allocator's choice hits that now and then, and a pool's topmost buffer is
/// always the same; from here, headers put a payload 104 to 184 bytes behind a page's start.
pub(crate) const PAGE: usize = 4096;
/// Buffers that move between a pool and the depot under one lock.
pub(crate) const BATCH: usize = 32;

/// The memory of one packet. Shared by clones of the packet.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    /// Where in it the packet's bytes begin.
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
        // `align_offset` may give up by its contract; an unaligned buffer is as good, only slower.
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

/// Buffers that no pool holds at the moment. Shared by all pools of a process.
#[derive(Debug)]
pub struct Depot {
    free_lists: Mutex<FreeLists>,
    limit: usize,
}

/// A stack of buffers for each of the sizes.
pub(crate) type FreeLists = [Vec<Arc<Buffer>>; SIZES.len()];

/// Which of the sizes holds a packet of so many bytes behind the headroom. One that none holds gets the last.
pub(crate) fn class_for(len: usize) -> usize {
    SIZES.iter().position(|size| len <= size - HEADROOM).unwrap_or(SIZES.len() - 1)
}

impl Depot {
    /// A depot that keeps at most `limit` buffers of each size; what comes beyond is freed.
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

/// Sends a buffer whose packet was dropped outside a pool back to the depot, when it was the last reference.
pub(crate) fn retire(buffer: Arc<Buffer>) {
    if Arc::strong_count(&buffer) != 1 {
        return;
    }
    if let Some(depot) = buffer.depot.upgrade() {
        depot.give(buffer.class, std::iter::once(buffer));
    }
}
