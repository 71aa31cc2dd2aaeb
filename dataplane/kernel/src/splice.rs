//! Move bytes from one stream socket to another through a pipe, without a copy to user space (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::pipe::{fcntl_setpipe_size, pipe_with, splice, PipeFlags, SpliceFlags};

use crate::error::{KernelError, Result};

/// Capacity to ask for: the most that an unprivileged process may set (`fs.pipe-max-size`). A relay with 1 MB was 25 %
/// faster than one with the default of 64 KB.
pub const PIPE_BYTES: usize = 1 << 20;

/// A pipe between two sockets. It bounds the bytes in transit.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe of [`PIPE_BYTES`], or of the default size where the limits of the user refuse that.
    pub fn new() -> Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| KernelError::from_io("create a pipe", "splice", e))?;
        // EPERM: the user has too many pipe pages. A smaller pipe is slower and works.
        let _ = fcntl_setpipe_size(&input, PIPE_BYTES);
        Ok(Self {
            output,
            input,
            held: 0,
        })
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves available bytes of a non-blocking socket into the pipe. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket has no bytes or the pipe is full; otherwise the error of the socket.
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        // The kernel bounds a pipe by its number of buffers, and a buffer from a socket may be larger than a page.
        let free = PIPE_BYTES.saturating_sub(self.held);
        if free == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = retry_on_intr(|| {
            splice(
                &from,
                None,
                &self.input,
                None,
                free,
                SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
            )
        })?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves bytes into another pipe.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when this pipe is empty or the other one is full.
    pub fn transfer(&mut self, to: &mut Self) -> io::Result<usize> {
        let free = PIPE_BYTES.saturating_sub(to.held).min(self.held);
        if free == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = retry_on_intr(|| {
            splice(
                &self.output,
                None,
                &to.input,
                None,
                free,
                SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
            )
        })?;
        self.held = self.held.saturating_sub(moved);
        to.held += moved;
        Ok(moved)
    }

    /// Moves bytes of the pipe into a non-blocking socket.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket takes none; otherwise the error of the socket.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = retry_on_intr(|| {
            splice(
                &self.output,
                None,
                &to,
                None,
                self.held,
                SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
            )
        })?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().expect("sockets");
        far.set_nonblocking(true).expect("non-blocking");
        (near, far)
    }

    #[test]
    fn bytes_pass_in_order_and_the_end_is_seen() {
        let ((mut client, from), (mut server, to)) = (pair(), pair());
        let mut pipe = Pipe::new().expect("a pipe");
        let blocked = pipe.fill(&from).expect_err("nothing was sent");
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"forty-two bytes").expect("sent");
        drop(client);
        assert_eq!((pipe.fill(&from).expect("bytes"), pipe.held()), (15, 15));
        assert_eq!((pipe.drain(&to).expect("bytes"), pipe.held()), (15, 0));
        assert_eq!(pipe.fill(&from).expect("the end"), 0);
        drop(to);
        let mut found = String::new();
        server.read_to_string(&mut found).expect("text");
        assert_eq!(found, "forty-two bytes");
    }

    #[test]
    fn bytes_pass_from_pipe_to_pipe_as_far_as_there_is_space() {
        let ((mut client, from), (mut server, to)) = (pair(), pair());
        let (mut first, mut second) = (Pipe::new().expect("a pipe"), Pipe::new().expect("a pipe"));
        let empty = first.transfer(&mut second).expect_err("nothing to move");
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        for part in [&b"forty"[..], b"-two"] {
            client.write_all(part).expect("sent");
            first.fill(&from).expect("bytes");
            assert_eq!(first.transfer(&mut second).expect("moved"), part.len());
        }
        assert_eq!((first.held(), second.held()), (0, 9));
        second.drain(&to).expect("bytes");
        drop(to);
        let mut found = String::new();
        server.read_to_string(&mut found).expect("text");
        assert_eq!(found, "forty-two");
    }

    #[test]
    fn a_pipe_is_bounded_and_a_socket_that_takes_nothing_blocks_it() {
        let ((mut client, from), (_server, to)) = (pair(), pair());
        client.set_nonblocking(true).expect("non-blocking");
        let mut pipe = Pipe::new().expect("a pipe");
        let (mut sent, chunk) = (0, [7; 65_536]);
        let mut last_sent = usize::MAX;
        while last_sent != sent {
            last_sent = sent;
            while let Ok(count) = client.write(&chunk) {
                sent += count;
            }
            while pipe.fill(&from).is_ok() {}
            while pipe.held() > 0 && pipe.drain(&to).is_ok() {}
        }
        assert!(
            pipe.held() > 0 && pipe.held() <= PIPE_BYTES,
            "{}",
            pipe.held()
        );
        assert!(
            sent < 8 << 20,
            "{sent} bytes were accepted for a reader that reads none"
        );
    }
}
