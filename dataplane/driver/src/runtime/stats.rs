//! Counters of a runtime about itself. Nodes count their own traffic (`NodeStats`).

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writing thread and several readers: cheaper than an atomic addition, because there is one
/// writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only for the owning thread.
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces; only for the owning thread.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// A recent value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one shard, as its thread writes them.
        #[derive(Debug, Default)]
        pub struct ShardCounters { $($(#[$doc])* pub $name: Counter,)* }

        /// A snapshot of one shard's counters.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShardStats {
            /// Whether the watchdog found it stalled.
            pub stalled: bool,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ShardCounters {
            /// The current values.
            pub fn snapshot(&self) -> ShardStats {
                ShardStats { stalled: false, $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Turns that began with a sleep.
    sleeps,
    /// Nodes on the shard.
    nodes,
    /// Packets (super-packets count once) read from TUN devices.
    tun_reads,
    /// Packets written to TUN devices.
    tun_writes,
    /// Those of them that were written several per system call.
    tun_batched,
    /// Packets that a TUN device did not accept because its queue was full.
    tun_full,
    /// Packets that a TUN device refused for another reason.
    tun_refused,
    /// Packets handed to other shards.
    handed_over,
    /// Packets dropped because another shard's ring was full.
    ring_full,
    /// Bytes read from links between processes.
    stream_in_bytes,
    /// Bytes written to links between processes.
    stream_out_bytes,
    /// Packets dropped because a link's socket queue was full.
    stream_full,
    /// Times a node's device or sessions had to wait for a full link.
    pauses,
    /// Deadlines served.
    timeouts,
    /// Nanoseconds by which deadlines were served late, summed.
    late_ns,
    /// The largest of these delays.
    late_max_ns,
    /// Panics of the shard's thread that were caught.
    panics,
    /// Buffers that the shard's pool had to allocate.
    buffers_allocated,
    /// Incoming connections refused: wrong proof, unknown node, bytes that are no handshake, or none in time.
    handshakes_refused,
    /// Pauses of a listener because the kernel had no descriptor or memory for an incoming connection.
    accepts_failed,
}

/// A snapshot of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeStats {
    /// One entry per shard.
    pub shards: Vec<ShardStats>,
}
