//! The calling thread: which core it runs on and how exactly its sleeps end.

use crate::error::{check, Result};

/// Lets the calling thread's timed waits end when they are due instead of up to 50 µs later.
///
/// The kernel rounds sleeps up to save power; links with a delay of their own cannot afford that. One nanosecond is
/// the least the kernel accepts (zero means "back to the default").
pub fn set_exact_timers() -> Result<()> {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches nothing but the calling thread's setting.
    let outcome = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    check(outcome, "set the timer slack", "calling thread").map(|_| ())
}

/// Ties the calling thread to one core.
pub fn pin_to_core(core: usize) -> Result<()> {
    let subject = format!("core {core}");
    if core >= libc::CPU_SETSIZE as usize {
        let source = std::io::Error::from_raw_os_error(libc::EINVAL);
        return Err(crate::KernelError::from_io("pin a thread", subject, source));
    }
    // SAFETY: `cpu_set_t` is a plain bit set for which all zeroes is a valid value; `core` was checked against its
    // size, and the kernel only reads the set.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set)
    };
    check(outcome, "pin a thread", &subject).map(|_| ())
}

/// Nanoseconds of processor time the calling thread has used; 0 when the clock cannot be read.
pub fn cpu_time_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of the monotonic clock. All shards of a process share this time line.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut spec = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live, correctly typed timespec. A failure leaves it at zero.
    unsafe { libc::clock_gettime(clock, &mut spec) };
    spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64
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
    // SAFETY: the buffer is live and its true length is passed; up to 256 bytes are always returned whole.
    let got = unsafe { libc::getrandom(into.as_mut_ptr().cast(), into.len(), 0) };
    check(got as libc::c_int, "read random bytes", "getrandom").map(|_| ())
}

/// How many descriptors the process may have open; `None` when that cannot be read.
pub fn descriptor_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live, correctly typed `rlimit`.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (outcome == 0).then_some(limit.rlim_cur)
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
