//! Receive buffers of sessions, allocated by the calling thread and not by the shard.
//!
//! The engine allocates when it carries out a request, on its shard, where 40 ms of page faults would delay the
//! packets of all nodes. So the calling thread allocates the memory first and stores it here, where the engine's
//! allocator finds it by its size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nm_engine::{Command, Engine};
use nm_kernel::memory;

/// Concurrent requests with prepared memory; beyond that the shard allocates.
const MOST_PREPARED: usize = 64;

static PREPARED: Mutex<Vec<(usize, Vec<u8>)>> = Mutex::new(Vec::new());

fn prepared() -> MutexGuard<'static, Vec<(usize, Vec<u8>)>> {
    PREPARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocates memory for a request that will need it; returns its size.
pub fn prepare(command: &Command) -> Option<usize> {
    let Command::ReceiveData { expected_bytes, .. } = command else {
        return None;
    };
    let len = usize::try_from(*expected_bytes).ok()?;
    if prepared().len() >= MOST_PREPARED {
        return None;
    }
    let room = memory::with_capacity_prefaulted(len)?;
    prepared().push((len, room));
    Some(len)
}

/// Frees the memory that was prepared for a refused request.
pub fn forget(len: usize) {
    drop(take(len));
}

/// Sets the buffer allocator of a new engine.
pub fn install_allocator(engine: &mut Engine) {
    engine.set_sink_allocator(allocate);
    engine.set_prefetch(memory::prefetch);
}

fn allocate(len: usize) -> Option<Vec<u8>> {
    take(len).or_else(|| memory::with_capacity(len))
}

fn take(len: usize) -> Option<Vec<u8>> {
    let mut all = prepared();
    let index = all.iter().position(|(size, _)| *size == len)?;
    Some(all.swap_remove(index).1)
}
