//! Receive buffers of sessions, allocated by the calling thread and not by the shard.
//!
//! The engine allocates when it carries out the request, on its shard, where 40 ms of page faults would hold up
//! everyone else's packets. So the caller's thread makes the memory first and leaves it here, where the engine's
//! allocator finds it by its size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nm_engine::{Command, Engine};
use nm_kernel::memory;

/// Requests under way at the same time; beyond that memory is made on the shard after all.
const MOST_PREPARED: usize = 64;

static PREPARED: Mutex<Vec<(usize, Vec<u8>)>> = Mutex::new(Vec::new());

fn prepared() -> MutexGuard<'static, Vec<(usize, Vec<u8>)>> {
    PREPARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes memory ready for a request that will need it; returns its size.
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

/// Drops what a refused request left behind.
pub fn forget(len: usize) {
    drop(take(len));
}

/// Gives a new engine what it takes from us.
pub fn equip(engine: &mut Engine) {
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
