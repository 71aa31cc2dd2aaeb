//! Unix sockets with an abstract name, through which programs of a network namespace reach a process outside.
//!
//! An abstract name (unix(7)) belongs to the network namespace of its socket and needs no file: only processes of that
//! namespace can connect, whatever they see of the file system.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{pidfd_open, Pid, PidfdFlags};

use crate::error::{KernelError, Result};

/// Opens a listener with an abstract name in the network namespace of the calling thread; it does not block.
pub fn listen(name: &str) -> Result<UnixListener> {
    let failed = |e| KernelError::from_io("listen for programs", format!("@{name}"), e);
    let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
    let listener = UnixListener::bind_addr(&address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Connects to an abstract name in the network namespace of the calling thread.
pub fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The process at the other end of a connection, as it was when it connected.
#[derive(Debug)]
pub struct Peer {
    /// Its effective user, as this process's user namespace numbers it.
    pub uid: u32,
    /// Becomes readable when the process ends, even if a child keeps the connection open. `None` where neither the
    /// kernel (before 6.5) nor a common process namespace tells which process it is.
    pub process: Option<OwnedFd>,
}

/// Who is at the other end of a connection.
pub fn peer(stream: &UnixStream) -> Result<Peer> {
    let found = getsockopt(stream, sockopt::PeerCredentials).map_err(|e| {
        KernelError::from_io("read who connected", "unix stream", io::Error::from(e))
    })?;
    let process = getsockopt(stream, sockopt::PeerPidfd).ok().or_else(|| {
        let pid = Pid::from_raw(found.pid())?;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    });
    Ok(Peer {
        uid: found.uid(),
        process,
    })
}

/// The effective user of this process.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What [`wait_input`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The first descriptor is readable, or its other end is closed.
    pub first: bool,
    /// So is the second.
    pub second: bool,
}

/// Waits until one of two descriptors is readable; `None` for the limit waits without one. A signal ends the wait.
pub fn wait_input(
    first: impl AsFd,
    second: Option<impl AsFd>,
    limit: Option<Duration>,
) -> io::Result<Input> {
    wait(first, PollFlags::IN, second, PollFlags::IN, limit)
}

/// Waits until a descriptor is readable, or the other end of a stream is closed.
pub fn wait_input_or_end(
    descriptor: impl AsFd,
    stream: impl AsFd,
    limit: Duration,
) -> io::Result<Input> {
    let end = PollFlags::RDHUP;
    wait(descriptor, PollFlags::IN, Some(stream), end, Some(limit))
}

fn wait(
    first: impl AsFd,
    of_first: PollFlags,
    second: Option<impl AsFd>,
    of_second: PollFlags,
    limit: Option<Duration>,
) -> io::Result<Input> {
    let mut watched = vec![PollFd::new(&first, of_first)];
    watched.extend(second.as_ref().map(|fd| PollFd::new(fd, of_second)));
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    match rustix::event::poll(&mut watched, limit.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Input::default()),
        Err(error) => return Err(error.into()),
    }
    let ready = |index: usize| {
        watched
            .get(index)
            .is_some_and(|fd| !fd.revents().is_empty())
    };
    Ok(Input {
        first: ready(0),
        second: ready(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: &str) -> String {
        format!("nm-test-{}-{of}", std::process::id())
    }

    #[test]
    fn a_listener_knows_the_user_and_the_process_that_connected() {
        let name = name("peer");
        let listener = listen(&name).expect("listen");
        assert!(listen(&name).is_err(), "the name is in use");
        let near = connect(&name).expect("connected");
        let (far, _) = listener.accept().expect("a connection");
        let found = peer(&far).expect("a peer");
        assert_eq!(found.uid, own_uid());
        let none = Some(Duration::ZERO);
        assert_eq!(
            wait_input(&far, found.process.as_ref(), none).expect("a look"),
            Input::default()
        );
        drop(near);
        let seen = wait_input(&far, found.process.as_ref(), None).expect("a wait");
        assert!(seen.first && !seen.second, "{seen:?}: this process lives");
    }

    #[test]
    fn another_network_namespace_does_not_see_the_name() {
        let name = name("namespace");
        let _listener = listen(&name).expect("listen");
        let Ok(namespace) = crate::namespace::create() else {
            return; // not permitted here; the integration tests look at it
        };
        let inside = crate::namespace::run_in(Some(namespace.as_fd()), || Ok(connect(&name)));
        let error = inside.expect("entered").expect_err("nobody listens there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
