//! CPU affinity and timer slack of the calling thread, clocks, and random numbers.

use std::num::NonZeroU64;

use rustix::io::Errno;
use rustix::process::{getrlimit, Resource};
use rustix::rand::{getrandom, GetRandomFlags};
use rustix::thread::{sched_setaffinity, set_current_timer_slack, CpuSet};
use rustix::time::{clock_gettime, ClockId};

use crate::error::{KernelError, Result};

/// Sets the timer slack of the calling thread to the minimum, so that timed waits end when they are due instead of up
/// to 50 µs later (prctl(2), PR_SET_TIMERSLACK).
///
/// The kernel delays timers to save power, which would add to the delay of links. One nanosecond is the least that it
/// accepts (zero restores the default).
pub fn set_exact_timers() -> Result<()> {
    set_current_timer_slack(Some(NonZeroU64::MIN))
        .map_err(|e| KernelError::from_io("set the timer slack", "calling thread", e))
}

/// Restricts the calling thread to one CPU core.
pub fn pin_to_core(core: usize) -> Result<()> {
    let failed = |e| KernelError::from_io("pin a thread", format!("core {core}"), e);
    if core >= CpuSet::MAX_CPU {
        return Err(failed(Errno::INVAL));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(failed)
}

/// CPU time of the calling thread in nanoseconds.
pub fn cpu_time_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// CPU time of the process in nanoseconds.
pub fn process_cpu_time_ns() -> u64 {
    clock_ns(ClockId::ProcessCPUTime)
}

/// Time of the monotonic clock in nanoseconds. It is common to all shards of a process.
pub fn monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// 64 random bits from the kernel's random number generator, for identities that must differ between processes.
pub fn random_u64() -> Result<u64> {
    let mut bytes = [0u8; 8];
    random_bytes(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills a buffer of at most 256 bytes from the kernel's random number generator, for secrets.
pub fn random_bytes(into: &mut [u8]) -> Result<()> {
    debug_assert!(
        into.len() <= 256,
        "longer requests may be answered partially"
    );
    getrandom(into, GetRandomFlags::empty())
        .map(|_| ())
        .map_err(|e| KernelError::from_io("read random bytes", "getrandom", e))
}

/// The limit of open descriptors of the process; `None` when there is none.
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_and_timer_slack_of_the_calling_thread_can_be_set() {
        std::thread::spawn(|| {
            set_exact_timers().expect("timer slack needs no privilege");
            pin_to_core(0).expect("core 0 always exists");
            assert!(pin_to_core(1 << 20).is_err());
        })
        .join()
        .expect("the thread ends");
    }

    #[test]
    fn the_clock_is_monotonic_and_random_numbers_differ() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before);
        assert_ne!(random_u64().expect("random"), random_u64().expect("random"));
    }
}
