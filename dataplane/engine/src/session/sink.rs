//! The memory that receives a transfer.

/// Appends the parts of a packet to a sink: of every `step` bytes of the packet those behind the first `skip`.
pub type Append = fn(sink: &mut Vec<u8>, packet: &[u8], step: usize, skip: usize);

/// How memory for received bytes is made and filled. The engine knows one simple way; a driver may know how to get
/// large pages and how to write to them past the caches.
#[derive(Debug, Clone, Copy)]
pub struct SinkMemory {
    /// Makes an empty vector with room for so many bytes, or says that there is none.
    pub allocate: fn(usize) -> Option<Vec<u8>>,
    /// Fills it.
    pub append: Append,
}

impl Default for SinkMemory {
    fn default() -> Self {
        Self { allocate, append }
    }
}

fn allocate(len: usize) -> Option<Vec<u8>> {
    let mut sink = Vec::new();
    sink.try_reserve_exact(len).ok().map(|()| sink)
}

fn append(sink: &mut Vec<u8>, packet: &[u8], step: usize, skip: usize) {
    for part in packet.chunks(step.max(1)) {
        sink.extend_from_slice(part.get(skip..).unwrap_or_default());
    }
}
