//! A descriptor that another process waits on, and that this one makes readable and unreadable without ever waiting.
//!
//! An eventfd does not serve for this: whoever has its descriptor can fill its counter and set its open file to
//! blocking, after which a write blocks. Here both operations ask the kernel not to wait in each call, which the flags
//! of the open file do not change. The sockets are datagram sockets, because the end of a stream makes the other end
//! readable for ever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use rustix::net::{recv, send, RecvFlags, SendFlags};

use crate::error::{KernelError, Result};

/// Two connected sockets: one to raise, and one that is passed to another process, with a duplicate to clear it.
#[derive(Debug)]
pub struct WakePair {
    raising: UnixDatagram,
    passed: UnixDatagram,
}

impl WakePair {
    /// A pair whose passed end is not readable.
    pub fn new() -> Result<Self> {
        let failed =
            |e: io::Error| KernelError::from_io("create a socket pair", "unix datagram", e);
        let (raising, passed) = UnixDatagram::pair().map_err(failed)?;
        Ok(Self { raising, passed })
    }

    /// Makes the passed end readable.
    pub fn raise(&self) {
        // An error means that datagrams wait already, or that the other process has disconnected its end.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(&self.raising, &[0], flags);
    }

    /// Makes the passed end unreadable after one [`raise`](Self::raise).
    pub fn clear(&self) {
        // An error means that it is unreadable already.
        let _ = recv(&self.passed, &mut [0u8; 1], RecvFlags::DONTWAIT);
    }
}

/// The passed end.
impl AsFd for WakePair {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.passed.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abstract_socket::wait_input;
    use std::time::Duration;

    fn readable(fd: impl AsFd) -> bool {
        let found = wait_input(fd, None::<BorrowedFd<'_>>, Some(Duration::ZERO));
        found.expect("a look").first
    }

    #[test]
    fn the_passed_end_is_readable_from_a_raise_to_a_clear() {
        let pair = WakePair::new().expect("a pair");
        let passed = pair.as_fd().try_clone_to_owned().expect("a duplicate");
        assert!(!readable(&passed));
        pair.raise();
        assert!(readable(&passed));
        pair.clear();
        assert!(!readable(&passed));
        drop(pair);
        assert!(!readable(&passed), "its end raises nothing");
    }

    #[test]
    fn whoever_has_the_passed_end_cannot_make_this_process_wait() {
        let pair = WakePair::new().expect("a pair");
        let passed: UnixDatagram = pair
            .as_fd()
            .try_clone_to_owned()
            .expect("a duplicate")
            .into();
        passed.set_nonblocking(false).expect("blocking");
        pair.clear();
        for _ in 0..10_000 {
            pair.raise();
        }
        // What is sent in the other direction fills a queue that nobody reads.
        passed.set_nonblocking(true).expect("not blocking");
        while passed.send(&[0]).is_ok() {}
        passed.set_nonblocking(false).expect("blocking");
        pair.raise();
        while readable(&passed) {
            pair.clear();
        }
        pair.clear();
        passed
            .shutdown(std::net::Shutdown::Both)
            .expect("shut down");
        pair.raise();
        pair.clear();
    }
}
