//! What the host of an engine provides for the memory of transfers.

/// Allocates an empty vector with a capacity in bytes; `None` when there is no memory.
pub type SinkAllocator = fn(usize) -> Option<Vec<u8>>;

/// Prefetches a number of bytes from an address into the CPU caches without waiting. A hint: it may have no effect.
pub type Prefetch = fn(*const u8, usize);

/// The allocator of hosts that provide none.
pub(super) fn plain_sink(len: usize) -> Option<Vec<u8>> {
    let mut sink = Vec::new();
    sink.try_reserve_exact(len).ok().map(|()| sink)
}
