//! Waiting until something is ready: epoll, and an eventfd to be woken by.
//!
//! Timeouts are nanoseconds. `epoll_pwait2` (Linux 5.11) takes them as they are; where it is missing, or a seccomp
//! filter hides it, `ppoll` on the epoll descriptor gives the same precision for one system call more. Plain
//! `epoll_wait` rounds to milliseconds and is useless for timing links.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{check, KernelError, Result};

/// What to be told about a descriptor. Level-triggered: it is reported again until it is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Report when bytes can be read, or the other end is gone.
    pub readable: bool,
    /// Report when bytes can be written.
    pub writable: bool,
}

impl Interest {
    /// Only reading.
    pub const READ: Self = Self {
        readable: true,
        writable: false,
    };
    /// Only writing.
    pub const WRITE: Self = Self {
        readable: false,
        writable: true,
    };
    /// Reading and writing.
    pub const BOTH: Self = Self {
        readable: true,
        writable: true,
    };
    /// Neither: only errors and hang-ups, which the kernel always reports.
    pub const NONE: Self = Self {
        readable: false,
        writable: false,
    };

    fn bits(self) -> u32 {
        let mut bits = 0;
        if self.readable {
            bits |= libc::EPOLLIN as u32;
        }
        if self.writable {
            bits |= libc::EPOLLOUT as u32;
        }
        bits
    }
}

/// One descriptor that became ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token it was added with.
    pub token: u64,
    /// Bytes can be read, or the stream ended.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The kernel reports an error or a hang-up; reading or writing will say which.
    pub failed: bool,
}

/// A reusable array that [`Epoll::wait`] fills.
pub struct ReadyList {
    raw: Vec<libc::epoll_event>,
    len: usize,
}

impl ReadyList {
    /// Room for `capacity` events per wait.
    pub fn with_capacity(capacity: usize) -> Self {
        let empty = libc::epoll_event { events: 0, u64: 0 };
        Self {
            raw: vec![empty; capacity.max(1)],
            len: 0,
        }
    }

    /// How many events the last wait brought.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the last wait brought nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The event at `index`, which must be below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Ready {
        debug_assert!(index < self.len);
        let event = self.raw[index];
        let bits = event.events;
        Ready {
            token: event.u64,
            readable: bits & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0,
            writable: bits & (libc::EPOLLOUT | libc::EPOLLERR) as u32 != 0,
            failed: bits & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0,
        }
    }
}

/// A set of descriptors to wait on.
pub struct Epoll {
    fd: OwnedFd,
    without_pwait2: AtomicBool,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers; a non-negative return is a descriptor nobody else owns.
        let fd = check(
            unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
            "create an epoll set",
            "epoll",
        )?;
        // SAFETY: see above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            fd,
            without_pwait2: AtomicBool::new(false),
        })
    }

    /// Starts watching `fd` and reports it as `token`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_fd(), token, interest)
    }

    /// Changes what is reported about `fd`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd(), token, interest)
    }

    /// Stops watching `fd`. Needed only when the descriptor lives on; closing it does the same.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_fd(), 0, Interest::NONE)
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> Result<()> {
        let mut event = libc::epoll_event {
            events: interest.bits(),
            u64: token,
        };
        // SAFETY: both descriptors are alive for the call, and the event is copied by the kernel.
        let outcome =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) };
        check(outcome, "change an epoll set", "epoll").map(|_| ())
    }

    /// Waits until something is ready or `timeout_ns` has passed; `None` waits without limit, `Some(0)` looks once.
    ///
    /// A signal ends the wait early with an empty list.
    pub fn wait(&self, ready: &mut ReadyList, timeout_ns: Option<u64>) -> io::Result<()> {
        ready.len = 0;
        let outcome = match timeout_ns {
            None => self.wait_ms(ready, -1),
            Some(0) => self.wait_ms(ready, 0),
            Some(ns) => self.wait_ns(ready, ns),
        };
        match outcome {
            Ok(count) => {
                ready.len = count;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wait_ms(&self, ready: &mut ReadyList, timeout_ms: libc::c_int) -> io::Result<usize> {
        let capacity = ready.raw.len() as libc::c_int;
        // SAFETY: the array is live and its capacity is passed; the kernel writes at most that many events.
        let got = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                ready.raw.as_mut_ptr(),
                capacity,
                timeout_ms,
            )
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    fn wait_ns(&self, ready: &mut ReadyList, timeout_ns: u64) -> io::Result<usize> {
        let spec = timespec(timeout_ns);
        if self.without_pwait2.load(Ordering::Relaxed) {
            return self.wait_by_ppoll(ready, &spec);
        }
        let (capacity, no_mask) = (ready.raw.len(), std::ptr::null::<libc::sigset_t>());
        // SAFETY: array and timespec are live; a null signal mask leaves the mask alone, its size is then ignored.
        let got = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                ready.raw.as_mut_ptr(),
                capacity,
                &spec as *const libc::timespec,
                no_mask,
                std::mem::size_of::<u64>(),
            )
        };
        if let Ok(count) = usize::try_from(got) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Old kernels say ENOSYS; container filters written before the call existed say EPERM.
            Some(libc::ENOSYS | libc::EPERM) => {
                self.without_pwait2.store(true, Ordering::Relaxed);
                self.wait_by_ppoll(ready, &spec)
            }
            _ => Err(error),
        }
    }

    fn wait_by_ppoll(&self, ready: &mut ReadyList, spec: &libc::timespec) -> io::Result<usize> {
        let mut watched = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live pollfd, a live timespec, no signal mask.
        if unsafe { libc::ppoll(&mut watched, 1, spec, std::ptr::null()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.wait_ms(ready, 0)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn timespec(ns: u64) -> libc::timespec {
    // A wait of centuries stands for "no limit" without overflowing the field.
    let seconds = (ns / 1_000_000_000).min(i32::MAX as u64);
    libc::timespec {
        tv_sec: seconds as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

/// A counter that another thread raises to end a wait.
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A counter at zero.
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers; a non-negative return is a descriptor nobody else owns.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let raw = check(raw, "create an eventfd", "eventfd")?;
        // SAFETY: see above.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd })
    }

    /// Makes the descriptor readable. Raising it twice before it is cleared is the same as once.
    pub fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight live bytes. The only failure is a counter about to overflow, which is readable already.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable again.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight live bytes. Failure means it was at zero already.
        unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// A second handle to the same counter.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|e| KernelError::from_io("duplicate an eventfd", "eventfd", e))?;
        Ok(Self { fd })
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_raised_eventfd_ends_a_wait_and_a_cleared_one_does_not() {
        let (epoll, wake) = (
            Epoll::new().expect("epoll"),
            EventFd::new().expect("eventfd"),
        );
        epoll.add(&wake, 7, Interest::READ).expect("add");
        let mut ready = ReadyList::with_capacity(4);
        wake.raise();
        wake.raise();
        epoll.wait(&mut ready, None).expect("wait");
        assert_eq!(
            (ready.len(), ready.get(0).token, ready.get(0).readable),
            (1, 7, true)
        );
        wake.clear();
        epoll.wait(&mut ready, Some(0)).expect("look");
        assert!(ready.is_empty());
    }

    #[test]
    fn both_ways_of_waiting_are_finer_than_a_millisecond() {
        let epoll = Epoll::new().expect("epoll");
        let mut ready = ReadyList::with_capacity(4);
        for by_ppoll in [false, true] {
            epoll.without_pwait2.store(by_ppoll, Ordering::Relaxed);
            let best = (0..20)
                .map(|_| {
                    let start = Instant::now();
                    epoll.wait(&mut ready, Some(200_000)).expect("wait");
                    start.elapsed()
                })
                .min()
                .expect("twenty waits");
            assert!(best >= Duration::from_micros(200), "{best:?}");
            assert!(
                best < Duration::from_micros(900),
                "{best:?}, by_ppoll {by_ppoll}"
            );
        }
    }
}
