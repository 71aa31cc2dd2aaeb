//! CPU affinity and timer slack of the calling thread.

use std::num::NonZeroU64;

use rustix::io::Errno;
use rustix::process::{getrlimit, Resource};
use rustix::rand::{getrandom, GetRandomFlags};
use rustix::thread::{sched_setaffinity, set_current_timer_slack, CpuSet};
use rustix::time::{clock_gettime, ClockId};

use crate::error::{KernelError, Result};

/// Lets the calling thread's timed waits end when they are due instead of up to 50 µs later.
///
/// The kernel rounds sleeps up to save power; links with a delay of their own cannot afford that. One nanosecond is
/// the least the kernel accepts (zero means "back to the default").
pub fn set_exact_timers() -> Result<()> {
    set_current_timer_slack(Some(NonZeroU64::MIN))
        .map_err(|e| KernelError::from_io("set the timer slack", "calling thread", e))
}

/// Ties the calling thread to one core.
pub fn pin_to_core(core: usize) -> Result<()> {
    let failed = |e| KernelError::from_io("pin a thread", format!("core {core}"), e);
    if core >= CpuSet::MAX_CPU {
        return Err(failed(Errno::INVAL));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(failed)
}

/// Nanoseconds of processor time the calling thread has used.
pub fn cpu_time_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// Nanoseconds of the monotonic clock. All shards of a process share this time line.
pub fn monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sixty-four bits from the kernel's generator, for identities that must differ between processes.
pub fn random_u64() -> Result<u64> {
    let mut bytes = [0u8; 8];
    random_bytes(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills a buffer of at most 256 bytes from the kernel's generator, for what nobody may guess.
pub fn random_bytes(into: &mut [u8]) -> Result<()> {
    debug_assert!(into.len() <= 256, "longer requests may come back in part");
    getrandom(into, GetRandomFlags::empty())
        .map(|_| ())
        .map_err(|e| KernelError::from_io("read random bytes", "getrandom", e))
}

/// How many descriptors the process may have open; `None` when that is not limited.
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calling_thread_can_be_pinned_and_sharpened() {
        std::thread::spawn(|| {
            set_exact_timers().expect("timer slack needs no privilege");
            pin_to_core(0).expect("core 0 always exists");
            assert!(pin_to_core(1 << 20).is_err());
        })
        .join()
        .expect("the thread ends");
    }

    #[test]
    fn time_moves_forward_and_identities_differ() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before);
        assert_ne!(random_u64().expect("random"), random_u64().expect("random"));
    }
}
