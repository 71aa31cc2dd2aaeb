//! One connection of a flow: to a client, a server, or another node.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nm_kernel::relay_socket;

use super::local::LocalEnd;

/// Whether both ends of a connection have the same address: it does not leave the namespace.
pub fn is_local(stream: &TcpStream) -> bool {
    let ends = (stream.local_addr(), stream.peer_addr());
    matches!(ends, (Ok(own), Ok(peer)) if own.ip() == peer.ip())
}

/// A connection. Dropping one over TCP resets it.
pub enum End {
    /// To a client, a server, or a node in another process.
    Tcp(TcpStream),
    /// To a node in this process.
    Local(LocalEnd),
}

impl End {
    /// Reads up to `most` available bytes; an empty result means that there are none yet.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` at the end of the stream, and errors of the socket.
    pub fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Local(end) => {
                return Ok(end.received(|from| {
                    let count = most.min(from.messages.len());
                    from.messages.drain(..count).collect()
                }))
            }
        };
        let mut bytes = vec![0; most];
        match (&mut &*stream).read(&mut bytes) {
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
        let stream = match self {
            _ if message.is_empty() => return Ok(()),
            Self::Tcp(stream) => stream,
            Self::Local(end) => {
                end.sent(|to| to.messages.extend(message));
                return Ok(());
            }
        };
        if (&mut &*stream).write(message)? == message.len() {
            Ok(())
        } else {
            Err(ErrorKind::WriteZero.into())
        }
    }

    /// Sends the end of the stream.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Local(end) => {
                end.sent(|to| to.ended = true);
                Ok(())
            }
        }
    }

    /// The error that the kernel recorded for the connection, if any.
    pub fn error(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(stream) => stream.take_error().unwrap_or_else(Some),
            Self::Local(_) => None,
        }
    }

    /// Closes the connection without a reset.
    pub fn close_in_order(self) {
        if let Self::Tcp(stream) = self {
            relay_socket::close_in_order(stream);
        }
    }

    /// The descriptor of its socket; `None` within the process.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Local(_) => None,
        }
    }
}
