//! The transport of a link: a TCP socket, a unix socket, or memory shared with the neighbour's process and a unix
//! socket as the doorbell.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nm_kernel::local;
use nm_kernel::ring::{BrokenRing, RingReader, RingWriter};
use nm_kernel::socket::{self, StreamBuffers};

/// The carrier of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Both nodes are in this process.
    Memory,
    /// Memory that both processes map.
    Shared,
    /// A unix socket.
    Unix,
    /// A TCP connection.
    Tcp,
}

impl Carrier {
    /// Its name in messages and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Shared => "shared",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Memory => "memory",
            Self::Shared => "shared memory",
            Self::Unix => "a unix socket",
            Self::Tcp => "TCP",
        })
    }
}

/// A connected stream of any kind. None of its operations blocks.
pub enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Shared(Box<Shared>),
}

/// Two rings and a doorbell.
pub struct Shared {
    /// A received byte means: check the rings. The end of this stream means that the neighbour has ended.
    doorbell: UnixStream,
    out: RingWriter,
    back: RingReader,
    /// The doorbell is closed; the ring receives no more bytes.
    closed: bool,
    /// Whether bytes were written or read since the last check whether the neighbour sleeps.
    moved: bool,
}

impl Wire {
    pub fn carrier(&self) -> Carrier {
        match self {
            Self::Tcp(_) => Carrier::Tcp,
            Self::Unix(_) => Carrier::Unix,
            Self::Shared(_) => Carrier::Shared,
        }
    }

    /// Sets the socket options of a link.
    pub fn prepare(&self) -> nm_kernel::Result<()> {
        match self {
            Self::Tcp(stream) => socket::prepare(stream, StreamBuffers::default()),
            Self::Unix(stream) => local::prepare(stream),
            Self::Shared(shared) => local::prepare(&shared.doorbell),
        }
    }

    /// Whether a dialled stream, now writable, is connected. A unix socket always is.
    pub fn connect_outcome(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => socket::connect_outcome(stream),
            Self::Unix(_) | Self::Shared(_) => Ok(()),
        }
    }

    /// Switches to shared memory; the unix socket becomes the doorbell. A wire that is not a unix socket stays
    /// unchanged.
    pub fn share(self, (out, back): (RingWriter, RingReader)) -> Self {
        match self {
            Self::Unix(doorbell) => Self::Shared(Box::new(Shared {
                doorbell,
                out,
                back,
                closed: false,
                moved: false,
            })),
            other => other,
        }
    }

    /// Sends a handshake message over the socket itself. An empty socket accepts these few bytes at once, or it is
    /// broken.
    pub fn send_handshake(&self, word: &[u8], offer: Option<&OwnedFd>) -> io::Result<()> {
        let sent = match (self, offer) {
            (Self::Tcp(stream), _) => (&mut &*stream).write(word)?,
            (Self::Unix(stream), Some(offer)) => local::send_with(stream, word, offer.as_fd())?,
            (Self::Unix(stream), None) => (&mut &*stream).write(word)?,
            (Self::Shared(shared), _) => (&shared.doorbell).write(word)?,
        };
        if sent == word.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Reads the dialler's proof, with the descriptor that may come with it.
    pub fn read_with_descriptor(
        &self,
        pieces: &mut [IoSliceMut<'_>],
    ) -> io::Result<(usize, Option<OwnedFd>)> {
        match self {
            Self::Tcp(stream) => Ok(((&mut &*stream).read_vectored(pieces)?, None)),
            Self::Unix(stream) => local::receive_with(stream, pieces),
            Self::Shared(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Reads available bytes; 0 means the end of the stream.
    pub fn read(&mut self, pieces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_vectored(pieces),
            Self::Unix(stream) => stream.read_vectored(pieces),
            Self::Shared(shared) => match shared.back.read(pieces).map_err(broken)? {
                0 if shared.closed => Ok(0),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                got => {
                    shared.moved = true;
                    Ok(got)
                }
            },
        }
    }

    /// Writes as much as there is room for.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(pieces),
            Self::Unix(stream) => stream.write_vectored(pieces),
            Self::Shared(shared) => match shared.out.write(pieces).map_err(broken)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                written => {
                    shared.moved = true;
                    Ok(written)
                }
            },
        }
    }

    /// Whether so many bytes can be written at once, without a system call.
    pub fn has_room_for(&mut self, length: usize) -> bool {
        match self {
            Self::Shared(shared) => shared.out.room().is_ok_and(|room| room >= length),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }
}

/// Operations for shared memory only: sockets need no doorbell.
impl Wire {
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Wakes the neighbour if it sleeps and bytes were written or read.
    pub fn ring_doorbell(&mut self) {
        let Self::Shared(shared) = self else { return };
        if !std::mem::take(&mut shared.moved) {
            return;
        }
        // Both are called, because each clears a flag.
        let (reader, writer) = (
            shared.out.must_wake_reader(),
            shared.back.must_wake_writer(),
        );
        if reader || writer {
            // A full socket already holds a byte that will wake the neighbour; a broken one is detected by the next
            // read.
            let _ = (&shared.doorbell).write(&[1]);
        }
    }

    /// Reads all bytes of the doorbell.
    pub fn clear_doorbell(&mut self) {
        let Self::Shared(shared) = self else { return };
        let mut bytes = [0; 64];
        match (&shared.doorbell).read(&mut bytes) {
            Ok(count) => shared.closed |= count == 0,
            Err(error) if would_block(&error) => {}
            Err(_) => shared.closed = true,
        }
    }

    /// Requests a wake-up by the neighbour for all expected events. Returns whether this shard may sleep. `writing`
    /// means that it waits for room as well as for bytes.
    pub fn request_wakeup(&mut self, writing: bool) -> bool {
        let Self::Shared(shared) = self else {
            return true;
        };
        // A broken ring prevents sleep: the next read ends the link.
        let reading = shared.back.request_wakeup() == Ok(true);
        reading && (!writing || shared.out.request_wakeup() == Ok(true))
    }

    /// Withdraws the request for a wake-up.
    pub fn clear_sleep_flag(&self) {
        if let Self::Shared(shared) = self {
            shared.back.clear_sleep_flag();
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Shared(shared) => shared.doorbell.as_fd(),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn broken(_: BrokenRing) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the neighbour has corrupted the shared memory",
    )
}
