//! Unix sockets of links between processes of one machine. Compared with TCP they avoid the network stack, are
//! addressed by a path, and can transfer a descriptor.
//!
//! A path may be longer than the 107 bytes of a socket address (unix(7)): it is then addressed relative to the
//! descriptor of its directory in `/proc`.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::error::{KernelError, Result};

/// Socket buffer in bytes. The kernel charges twice this, because it counts the management of each packet; larger
/// buffers exceed the processor's cache.
const BUFFER: usize = 1 << 20;

/// Space for one control message with one descriptor.
const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(1));

/// A listener at a path. Dropping it removes the socket file, unless another listener has replaced it.
///
/// Comparing the identity of the file and removing it are two steps, so two processes must not use the same path at
/// the same time: each uses a unique name, and [`sweep`] removes those of ended processes.
pub struct PathListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file.
    identity: (u64, u64),
}

impl PathListener {
    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts one connection.
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
            // Another process may have removed the file meanwhile.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a listener at `path`. The socket of an ended predecessor is replaced atomically, so the path always exists.
pub fn listen(path: &Path) -> Result<PathListener> {
    let failed = |e| KernelError::from_io("listen for links", path.display().to_string(), e);
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(hidden);
    // Left by an ended process with the same process id.
    let _ = fs::remove_file(&fresh);
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
    with_address(&fresh, |address| socket.bind(address)).map_err(failed)?;
    let opened = socket
        // A thousand neighbours may connect within one scheduling delay of the listener's shard.
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

/// Removes the socket files of ended processes in `folder`: those with this prefix and suffix that refuse
/// connections. Safe only for names that are never reused.
pub fn remove_stale_sockets(folder: &Path, prefix: &str, suffix: &str) {
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
        // The file of a listener appears after `listen`, so a socket that refuses connections has no listener any
        // more.
        if ours && connect(&path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Connects to the unix socket at `path`. Unlike a TCP connection it succeeds or fails immediately; `WouldBlock`
/// means that the backlog of the listener is full.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    with_address(path, |address| socket.connect(address))?;
    Ok(socket.into())
}

/// Sets the socket options of a link on a connected stream.
pub fn prepare(stream: &UnixStream) -> Result<()> {
    let failed = |e| KernelError::from_io("prepare a link's socket", "unix stream", e);
    let socket = SockRef::from(stream);
    socket.set_nonblocking(true).map_err(failed)?;
    // Without privileges the kernel limits the size to `net.core.wmem_max`, which works but is slower.
    socket.set_send_buffer_size(BUFFER).map_err(failed)
}

/// Sends bytes with a descriptor, all or nothing: the send buffer must be empty.
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
    loop {
        match sendmsg(stream, &pieces, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Reads bytes, and the descriptor sent with them, if any. Further descriptors are closed.
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

/// Calls `work` with a socket address for `path`, whatever its length.
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

    /// A directory of this test, removed at its end.
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

    /// Creates the socket file of a killed process.
    fn create_stale_socket(path: &Path) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        with_address(path, |address| socket.bind(address)).expect("bound");
    }

    #[test]
    fn a_listener_does_not_remove_the_socket_of_its_successor() {
        let folder = Folder::new("successor");
        let path = folder.0.join("a.sock");
        let first = listen(&path).expect("listen");
        let second = listen(&path).expect("its successor");
        drop(first);
        connect(&path).expect("the successor accepts connections");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn only_sockets_of_ended_processes_are_removed() {
        let folder = Folder::new("sweep");
        let at = |name: &str| folder.0.join(name);
        let alive = listen(&at("node-1.a.sock")).expect("listen");
        for name in ["node-1.b.sock", "node-12.b.sock"] {
            create_stale_socket(&at(name));
        }
        fs::write(at("node-1.c.sock"), "no socket").expect("written");
        remove_stale_sockets(&folder.0, "node-1.", ".sock");
        assert!(alive.path().exists());
        assert!(!at("node-1.b.sock").exists());
        assert!(at("node-1.c.sock").exists(), "not a socket");
        assert!(at("node-12.b.sock").exists(), "another node's");
        remove_stale_sockets(&at("nowhere"), "node-1.", ".sock");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_path_may_have_any_length() {
        let folder = Folder::new("socket");
        let deep = folder.0.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).expect("folders");
        for place in [&folder.0, &deep] {
            let path = place.join("a.sock");
            create_stale_socket(&path);
            assert_eq!(
                connect(&path).expect_err("no listener").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let listener = listen(&path).expect("listen again");
            let mut near = connect(&path).expect("connected");
            let (mut far, _) = listener.accept().expect("a connection");
            prepare(&near).expect("prepared");
            near.write_all(b"hello").expect("sent");
            let mut received = [0; 5];
            far.read_exact(&mut received).expect("received");
            assert_eq!(&received, b"hello");
            let names: Vec<_> = fs::read_dir(place)
                .expect("readable")
                .map(|entry| entry.expect("an entry").file_name())
                .filter(|name| name.to_string_lossy().contains("sock"))
                .collect();
            assert_eq!(names, ["a.sock"], "no temporary name is left");
        }
    }

    #[test]
    fn a_descriptor_is_received_with_its_bytes_and_a_second_one_is_closed() {
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
        let mut text = String::new();
        // End of file is reached, so no other copy of the descriptor is open.
        reader.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "through");
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
        // End of file is reached, so the second descriptor was closed.
        assert_eq!(reader.read(&mut [0]).expect("readable"), 0);
        (&near).write_all(b"plain").expect("sent");
        let (got, descriptor) =
            receive_with(&far, &mut [IoSliceMut::new(&mut room)]).expect("received");
        assert_eq!((got, descriptor.is_none()), (5, true));
    }
}
