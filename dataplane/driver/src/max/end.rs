//! One connection of a flow: to a client, a server, or the next node.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nm_kernel::relay_socket;

/// A connection. Dropping one over TCP resets it.
pub enum End {
    /// To a client, a server, or a node in another process.
    Tcp(TcpStream),
    /// To a node in this process.
    Local(UnixStream),
}

impl End {
    /// Reads up to `most` available bytes; an empty result means that there are none yet.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` at the end of the stream, and errors of the socket.
    pub fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let outcome = match self {
            Self::Tcp(stream) => (&mut &*stream).read(&mut bytes),
            Self::Local(stream) => (&mut &*stream).read(&mut bytes),
        };
        match outcome {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Vec::new())
            }
            Err(e) => Err(e),
        }
    }

    /// Sends a message of the negotiation. It fits into the buffer of a socket that has sent nothing but such messages.
    ///
    /// # Errors
    ///
    /// The socket does not take all of it.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        if message.is_empty() {
            return Ok(());
        }
        let sent = match self {
            Self::Tcp(stream) => (&mut &*stream).write(message)?,
            Self::Local(stream) => (&mut &*stream).write(message)?,
        };
        if sent == message.len() {
            Ok(())
        } else {
            Err(ErrorKind::WriteZero.into())
        }
    }

    /// Sends the end of the stream.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Local(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// The error that the kernel recorded for the connection, if any.
    pub fn error(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Local(stream) => stream.take_error(),
        }
        .unwrap_or_else(Some)
    }

    /// Closes the connection without a reset.
    pub fn close_in_order(self) {
        match self {
            Self::Tcp(stream) => relay_socket::close_in_order(stream),
            Self::Local(stream) => drop(stream),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Local(stream) => stream.as_fd(),
        }
    }
}
