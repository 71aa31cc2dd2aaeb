//! Unix sockets of links between processes of one machine: the same stream as over TCP without the stack in
//! between, at a path instead of a port, and able to hand over a descriptor.
//!
//! A path may be longer than the 107 bytes that a socket address holds: it is then reached through its folder's
//! descriptor in `/proc`.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::error::{KernelError, Result};

/// What the kernel may hold of a stream that nobody has read yet. Twice this is charged, because each packet is
/// counted with its management; larger buffers fall out of the processor's cache.
const BUFFER: usize = 1 << 20;

/// Room for one control message with one descriptor.
const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(1));

/// A listener at a path. The path goes when it does, unless somebody else has it by then.
///
/// Looking whose a path is and removing it are two steps, so that processes which might open the same path at the
/// same time must not: each takes a name that no other has, and [`sweep`] removes what dead ones left.
pub struct PathListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket that we bound.
    identity: (u64, u64),
}

impl PathListener {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in one caller.
    pub fn accept(&self) -> io::Result<(UnixStream, std::os::unix::net::SocketAddr)> {
        self.listener.accept()
    }
}

impl AsFd for PathListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for PathListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Whoever cleans up the folder may have been faster.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a process's listener at `path`. Whatever a dead predecessor left there is replaced in one step, so that
/// nobody ever finds none.
pub fn listen(path: &Path) -> Result<PathListener> {
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
        .and_then(|()| identity(&fresh))
        .and_then(|identity| fs::rename(&fresh, path).map(|()| identity));
    match opened {
        Ok(identity) => Ok(PathListener {
            listener: socket.into(),
            path: path.to_owned(),
            identity,
        }),
        Err(error) => {
            let _ = fs::remove_file(&fresh);
            Err(failed(error))
        }
    }
}

/// Removes the sockets in `folder` that dead processes left: those whose names begin and end so, and behind which
/// nobody listens. Safe only for names that no process uses twice.
pub fn sweep(folder: &Path, prefix: &str, suffix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(prefix)
            && name.ends_with(suffix)
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        let path = entry.path();
        // A listener's name appears when it listens already, so one that refuses is dead for good.
        if ours && connect(&path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Connects to the unix socket at `path`. Unlike over TCP the attempt is decided at once; `WouldBlock` means that too
/// many others stand there just now.
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
    let descriptors = [descriptor];
    let mut room = [MaybeUninit::uninit(); ANCILLARY];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let pieces = [IoSlice::new(bytes)];
    Ok(sendmsg(stream, &pieces, &mut control, SendFlags::NOSIGNAL)?)
}

/// Reads bytes, and the descriptor that may have come with them. More than one is more than we ever send: the rest is
/// closed.
pub fn receive_with(
    stream: &UnixStream,
    pieces: &mut [IoSliceMut<'_>],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut room = [MaybeUninit::uninit(); ANCILLARY];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let got = recvmsg(stream, pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((got.bytes, descriptor))
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

    /// What a process leaves that was killed.
    fn dead(path: &Path) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        with_address(path, |address| socket.bind(address)).expect("bound");
    }

    #[test]
    fn a_listener_does_not_remove_the_path_of_its_successor() {
        let folder = Folder::new("successor");
        let path = folder.0.join("a.sock");
        let first = listen(&path).expect("listen");
        let second = listen(&path).expect("its successor");
        drop(first);
        connect(&path).expect("the successor is still found");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn what_dead_processes_left_is_swept_and_nothing_else() {
        let folder = Folder::new("sweep");
        let at = |name: &str| folder.0.join(name);
        let alive = listen(&at("node-1.a.sock")).expect("listen");
        for name in ["node-1.b.sock", "node-12.b.sock"] {
            dead(&at(name));
        }
        fs::write(at("node-1.c.sock"), "no socket").expect("written");
        sweep(&folder.0, "node-1.", ".sock");
        assert!(alive.path().exists());
        assert!(!at("node-1.b.sock").exists());
        assert!(at("node-1.c.sock").exists(), "no socket of ours");
        assert!(at("node-12.b.sock").exists(), "another node's");
        sweep(&at("nowhere"), "node-1.", ".sock");
    }

    #[test]
    fn a_socket_is_bound_where_a_stale_one_was_and_at_any_length_of_path() {
        let folder = Folder::new("socket");
        let deep = folder.0.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).expect("folders");
        for place in [&folder.0, &deep] {
            let path = place.join("a.sock");
            dead(&path);
            assert_eq!(
                connect(&path).expect_err("nobody is there").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let listener = listen(&path).expect("listen again");
            let mut near = connect(&path).expect("somebody is there");
            let (mut far, _) = listener.accept().expect("a connection");
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
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let both = [reader.as_fd(), writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&both)));
        let piece = [IoSlice::new(b"two")];
        sendmsg(&near, &piece, &mut control, SendFlags::empty()).expect("sent");
        let (got, kept) = receive_with(&far, &mut [IoSliceMut::new(&mut room)]).expect("received");
        assert_eq!((got, kept.is_some()), (3, true));
        drop((kept, writer));
        // The end is seen, so the second descriptor was closed.
        assert_eq!(reader.read(&mut [0]).expect("readable"), 0);
        (&near).write_all(b"plain").expect("sent");
        let (got, descriptor) =
            receive_with(&far, &mut [IoSliceMut::new(&mut room)]).expect("received");
        assert_eq!((got, descriptor.is_none()), (5, true));
    }
}
