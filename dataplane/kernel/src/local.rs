//! Unix sockets of links between processes of one machine: the same stream as over TCP without the stack in
//! between, at a path instead of a port, and able to hand over a descriptor.
//!
//! A path may be longer than the 107 bytes that a socket address holds: it is then reached through its folder's
//! descriptor in `/proc`.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::{size_of, zeroed, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::error::{KernelError, Result};

/// What the kernel may hold of a stream that nobody has read yet. Twice this is charged, because each packet is
/// counted with its management; larger buffers fall out of the processor's cache.
const BUFFER: usize = 1 << 20;

/// Opens a process's door at `path`. Whatever a dead predecessor left there is replaced in one step, so that
/// nobody ever finds no door.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let failed = |e| KernelError::from_io("listen for links", path.display().to_string(), e);
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(hidden);
    // Left by a process of our number that died between the two steps.
    let _ = fs::remove_file(&fresh);
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
    with_address(&fresh, |address| socket.bind(address)).map_err(failed)?;
    let opened = socket
        // A thousand neighbours may dial within one scheduling delay of the listener's shard.
        .listen(1024)
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = opened {
        let _ = fs::remove_file(&fresh);
        return Err(failed(error));
    }
    Ok(socket.into())
}

/// Dials the door at `path`. Unlike over TCP the attempt is decided at once; `WouldBlock` means that too many
/// others stand there just now.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    with_address(path, |address| socket.connect(address))?;
    Ok(socket.into())
}

/// Gives a connected stream the settings every link has.
pub fn prepare(stream: &UnixStream) -> Result<()> {
    let failed = |e| KernelError::from_io("prepare a link's socket", "unix stream", e);
    let socket = SockRef::from(stream);
    socket.set_nonblocking(true).map_err(failed)?;
    // Capped by the machine's own limit for those who may not pass it, which is slower but right.
    socket.set_send_buffer_size(BUFFER).map_err(failed)
}

/// Sends bytes together with a descriptor, all or nothing: the stream must be empty.
pub fn send_with(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut room = Ancillary::new();
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a message header of zeros is a valid empty one; the fields set below point to live memory.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    message.msg_control = room.bytes.as_mut_ptr().cast();
    message.msg_controllen = Ancillary::LEN;
    // SAFETY: the control buffer is large enough and aligned for one header with one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
        libc::CMSG_DATA(header)
            .cast::<libc::c_int>()
            .write_unaligned(descriptor.as_raw_fd());
    }
    // SAFETY: the header describes live memory for the length of the call.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Reads bytes, and the descriptor that may have come with them. More than one is more than we ever send; the
/// kernel closes what there is no room for.
pub fn receive_with(
    stream: &UnixStream,
    pieces: &mut [IoSliceMut<'_>],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut room = Ancillary::new();
    // SAFETY: as in `send_with`.
    let mut message: libc::msghdr = unsafe { zeroed() };
    // `IoSliceMut` is guaranteed to have the layout of an `iovec`.
    message.msg_iov = pieces.as_mut_ptr().cast();
    message.msg_iovlen = pieces.len() as _;
    message.msg_control = room.bytes.as_mut_ptr().cast();
    message.msg_controllen = Ancillary::LEN;
    // SAFETY: the header describes live memory that is ours to write for the length of the call.
    let got = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok((got, first_descriptor(&message)))
}

/// Takes over every descriptor of a received message and keeps the first.
fn first_descriptor(message: &libc::msghdr) -> Option<OwnedFd> {
    let mut kept = None;
    // SAFETY: the kernel has filled the control buffer and set its length; the macros stay within it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: a header that the macros return lies within the buffer.
        let header = unsafe { &*next };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: no pointers.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (header.cmsg_len as usize).saturating_sub(empty) / size_of::<libc::c_int>();
            for index in 0..count {
                // SAFETY: the kernel has put that many open descriptors there, and they are nobody's but ours.
                let descriptor = unsafe {
                    let data = libc::CMSG_DATA(next).cast::<libc::c_int>().add(index);
                    OwnedFd::from_raw_fd(data.read_unaligned())
                };
                kept.get_or_insert(descriptor);
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    kept
}

/// Room for one control message with one descriptor.
#[repr(C, align(8))]
struct Ancillary {
    bytes: [MaybeUninit<u8>; Self::LEN],
}

impl Ancillary {
    // SAFETY: no pointers.
    const LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) } as usize;

    fn new() -> Self {
        Self {
            bytes: [MaybeUninit::zeroed(); Self::LEN],
        }
    }
}

/// Calls `work` with an address for `path`, however long that is.
fn with_address<T>(path: &Path, work: impl Fn(&SockAddr) -> io::Result<T>) -> io::Result<T> {
    if let Ok(address) = SockAddr::unix(path) {
        return work(&address);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = fs::File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    work(&SockAddr::unix(short)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    /// A folder of this test alone, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nm-local-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_door_opens_where_a_dead_one_was_and_at_any_length_of_path() {
        let folder = Folder::new("door");
        let deep = folder.0.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).expect("folders");
        for place in [&folder.0, &deep] {
            let path = place.join("a.sock");
            drop(listen(&path).expect("listen"));
            assert_eq!(
                connect(&path).expect_err("nobody is there").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let door = listen(&path).expect("listen again");
            let mut near = connect(&path).expect("somebody is there");
            let (mut far, _) = door.accept().expect("a caller");
            prepare(&near).expect("prepared");
            near.write_all(b"hello").expect("sent");
            let mut heard = [0; 5];
            far.read_exact(&mut heard).expect("received");
            assert_eq!(&heard, b"hello");
            let names: Vec<_> = fs::read_dir(place)
                .expect("readable")
                .map(|entry| entry.expect("an entry").file_name())
                .filter(|name| name.to_string_lossy().contains("sock"))
                .collect();
            assert_eq!(names, ["a.sock"], "no name from in between stays");
        }
    }

    #[test]
    fn a_descriptor_arrives_with_its_bytes_and_a_second_one_is_closed() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        assert_eq!(send_with(&near, b"abc", writer.as_fd()).expect("sent"), 3);
        drop(writer);
        let mut room = [0; 16];
        let (got, descriptor) =
            receive_with(&far, &mut [IoSliceMut::new(&mut room)]).expect("received");
        assert_eq!(&room[..got], b"abc");
        let mut there = fs::File::from(descriptor.expect("a descriptor"));
        there.write_all(b"through").expect("it is open");
        drop(there);
        let mut said = String::new();
        // The end is seen, so ours was the only copy left.
        reader.read_to_string(&mut said).expect("readable");
        assert_eq!(said, "through");
        (&near).write_all(b"plain").expect("sent");
        let (got, descriptor) =
            receive_with(&far, &mut [IoSliceMut::new(&mut room)]).expect("received");
        assert_eq!((got, descriptor.is_none()), (5, true));
    }
}
