//! Wait for readiness of descriptors with epoll, and wake a waiting thread with an eventfd.
//!
//! Timeouts are nanoseconds. `epoll_pwait2` (Linux 5.11) has this precision; where it is missing, or a seccomp filter
//! refuses it, `ppoll` on the epoll descriptor gives the same precision for one more system call. `epoll_wait` rounds
//! to milliseconds, which is too coarse for the timing of links.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{eventfd, EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{KernelError, Result};

/// The readiness to report of a descriptor. Level-triggered: it is reported as long as it persists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Report when bytes can be read, or the peer has closed the stream.
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

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.readable);
        flags.set(EventFlags::OUT, self.writable);
        flags
    }
}

/// One descriptor that became ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token that it was added with.
    pub token: u64,
    /// Bytes can be read, or the stream ended.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The kernel reports an error or a hang-up; the next read or write returns the error.
    pub failed: bool,
}

/// A reusable array that [`Epoll::wait`] fills.
pub struct ReadyList {
    raw: Vec<epoll::Event>,
    len: usize,
}

impl ReadyList {
    /// Capacity for `capacity` events per wait.
    pub fn with_capacity(capacity: usize) -> Self {
        let empty = epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        Self {
            raw: vec![empty; capacity.max(1)],
            len: 0,
        }
    }

    /// Number of events of the last wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the last wait returned no event.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The event at `index`, which must be below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Ready {
        debug_assert!(index < self.len);
        let event = self.raw[index];
        let flags = event.flags;
        Ready {
            token: event.data.u64(),
            readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
            writable: flags.intersects(EventFlags::OUT | EventFlags::ERR),
            failed: flags.intersects(EventFlags::HUP | EventFlags::ERR),
        }
    }
}

/// An epoll set of descriptors.
pub struct Epoll {
    fd: OwnedFd,
    without_pwait2: AtomicBool,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| KernelError::from_io("create an epoll set", "epoll", e))?;
        Ok(Self {
            fd,
            without_pwait2: AtomicBool::new(false),
        })
    }

    /// Adds `fd` to the set; its events are reported with `token`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::add(&self.fd, fd, EventData::new_u64(token), interest.flags()).map_err(not_changed)
    }

    /// Adds `fd` so that each change is reported once (edge-triggered): a write to an eventfd that nobody has read
    /// by the time of the next wait, and with `end_only` nothing but the end of a stream.
    pub fn add_edge(&self, fd: impl AsFd, token: u64, end_only: bool) -> Result<()> {
        let what = if end_only {
            EventFlags::RDHUP
        } else {
            EventFlags::IN
        };
        let data = EventData::new_u64(token);
        epoll::add(&self.fd, fd, data, what | EventFlags::ET).map_err(not_changed)
    }

    /// Adds a stream so that each change of its readiness, to read or to write, is reported once (edge-triggered).
    pub fn add_stream_edge(&self, fd: impl AsFd, token: u64) -> Result<()> {
        let what = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.fd, fd, EventData::new_u64(token), what).map_err(not_changed)
    }

    /// Changes the readiness that is reported of `fd`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::modify(&self.fd, fd, EventData::new_u64(token), interest.flags())
            .map_err(not_changed)
    }

    /// Removes `fd` from the set. Closing the last descriptor of an open file removes it too; one that was duplicated,
    /// or passed to another process, stays in the set after its own close.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.fd, fd).map_err(not_changed)
    }

    /// Waits until a descriptor is ready or `timeout_ns` nanoseconds have passed; `None` waits without limit,
    /// `Some(0)` does not wait.
    ///
    /// A signal ends the wait early with an empty list.
    pub fn wait(&self, ready: &mut ReadyList, timeout_ns: Option<u64>) -> io::Result<()> {
        ready.len = 0;
        let outcome = match timeout_ns {
            None => epoll::wait(&self.fd, &mut ready.raw[..], None),
            Some(0) => self.poll_now(ready),
            Some(ns) => self.wait_ns(ready, &timespec(ns)),
        };
        match outcome {
            Ok(count) => {
                ready.len = count;
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the events that are ready, without waiting.
    fn poll_now(&self, ready: &mut ReadyList) -> rustix::io::Result<usize> {
        epoll::wait(&self.fd, &mut ready.raw[..], Some(&Timespec::default()))
    }

    fn wait_ns(&self, ready: &mut ReadyList, timeout: &Timespec) -> rustix::io::Result<usize> {
        if !self.without_pwait2.load(Ordering::Relaxed) {
            match epoll_pwait2(self.fd.as_fd(), &mut ready.raw, timeout) {
                // Old kernels return ENOSYS; container filters written before the system call existed return EPERM.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.without_pwait2.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        let mut watched = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::event::poll(&mut watched, Some(timeout))?;
        self.poll_now(ready)
    }
}

fn not_changed(error: Errno) -> KernelError {
    KernelError::from_io("change an epoll set", "epoll", error)
}

/// `epoll_pwait2`, which neither rustix (without giving up kernels before 5.11) nor nix offers.
fn epoll_pwait2(
    epoll: BorrowedFd<'_>,
    events: &mut [epoll::Event],
    timeout: &Timespec,
) -> rustix::io::Result<usize> {
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: the array and the timespec are live and have the kernel's layout, and at most as many events are
    // written as the array holds; a null signal mask leaves the mask alone, its size is then ignored.
    let got = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len(),
            std::ptr::from_ref(timeout),
            no_mask,
            std::mem::size_of::<u64>(),
        )
    };
    usize::try_from(got)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        // A timeout of at most 68 years, which avoids an overflow of the field.
        tv_sec: (ns / 1_000_000_000).min(i32::MAX as u64) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}

/// An eventfd with which another thread ends a wait (eventfd(2)).
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A counter at zero.
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(|fd| Self { fd })
            .map_err(|e| KernelError::from_io("create an eventfd", "eventfd", e))
    }

    /// Makes the descriptor readable. No effect when it is readable already.
    pub fn raise(&self) {
        // The only error is a counter that would overflow, which is readable already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again.
    pub fn clear(&self) {
        // An error means that the counter was zero already.
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
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
    fn both_system_calls_wait_with_a_precision_below_a_millisecond() {
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
