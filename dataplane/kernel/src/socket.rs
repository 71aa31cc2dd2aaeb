//! TCP sockets of links between processes, configured equally on both ends.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::{KernelError, Result};

/// Set explicitly: with a system default of bbr the kernel paces, which costs a link a quarter of its throughput on
/// one machine.
pub(crate) const CONGESTION_CONTROL: &[u8] = b"cubic";

/// A peer that sends no acknowledgements (a failed machine or cable) is detected after this time. The kernel of a
/// process that ends closes its connection immediately.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// Opens the listener of a process. `SO_REUSEADDR` lets a restarted process bind its port immediately.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let failed = |e| KernelError::from_io("listen for links", address.to_string(), e);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    // A thousand neighbours may connect within one scheduling delay of the listener's shard.
    socket.listen(1024).map_err(failed)?;
    Ok(socket.into())
}

/// Starts to connect; the stream becomes writable when the attempt has succeeded or failed, and [`connect_outcome`]
/// returns which.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let failed = |e| KernelError::from_io("connect a link", address.to_string(), e);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(failed)?;
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(failed(e)),
        _ => Ok(socket.into()),
    }
}

/// Returns whether a stream that became writable is connected, or the error.
pub fn connect_outcome(stream: &TcpStream) -> io::Result<()> {
    match stream.take_error()? {
        Some(error) => Err(error),
        None => stream.peer_addr().map(|_| ()),
    }
}

/// The socket buffers that [`prepare`] sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBuffers {
    /// Send buffer in bytes; `None` leaves it to the automatic tuning of the kernel.
    pub send: Option<usize>,
    /// Receive buffer in bytes; `None` leaves it to the automatic tuning of the kernel.
    pub receive: Option<usize>,
}

/// Sets the socket options of a link on a connected stream: non-blocking, `TCP_NODELAY`, cubic, and the detection of
/// failed peers.
pub fn prepare(stream: &TcpStream, buffers: StreamBuffers) -> Result<()> {
    let failed = |e| KernelError::from_io("prepare a link's socket", "TCP stream", e);
    let socket = SockRef::from(stream);
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_tcp_nodelay(true).map_err(failed)?;
    // A kernel without cubic keeps its default, which works but is slower.
    let _ = socket.set_tcp_congestion(CONGESTION_CONTROL);
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE_LIMIT)
        .with_interval(SILENCE_LIMIT / 3)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive).map_err(failed)?;
    socket
        .set_tcp_user_timeout(Some(SILENCE_LIMIT))
        .map_err(failed)?;
    if let Some(bytes) = buffers.send {
        socket.set_send_buffer_size(bytes).map_err(failed)?;
    }
    if let Some(bytes) = buffers.receive {
        socket.set_recv_buffer_size(bytes).map_err(failed)?;
    }
    Ok(())
}

/// The congestion control of a stream.
pub fn congestion_control(stream: &TcpStream) -> Result<String> {
    let raw = SockRef::from(stream)
        .tcp_congestion()
        .map_err(|e| KernelError::from_io("read the congestion control", "TCP stream", e))?;
    Ok(raw
        .iter()
        .take_while(|&&b| b != 0)
        .map(|&b| b as char)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Epoll, Interest, ReadyList};

    fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = connect(address).expect("the attempt begins");
        let epoll = Epoll::new().expect("epoll");
        epoll.add(&stream, 0, Interest::WRITE).expect("watch");
        let mut ready = ReadyList::with_capacity(1);
        epoll.wait(&mut ready, Some(2_000_000_000)).expect("wait");
        assert_eq!(ready.len(), 1, "a local attempt completes immediately");
        connect_outcome(&stream).map(|()| stream)
    }

    #[test]
    fn connecting_does_not_block_and_uses_cubic() {
        let listener = listen("127.0.0.1:0".parse().expect("address")).expect("listen");
        let stream = try_connect(listener.local_addr().expect("bound")).expect("connected");
        prepare(&stream, StreamBuffers::default()).expect("prepared");
        assert_eq!(congestion_control(&stream).expect("readable"), "cubic");
        assert!(stream.nodelay().expect("readable"));
    }

    #[test]
    fn a_refused_connection_is_an_error() {
        let unused = listen("127.0.0.1:0".parse().expect("address")).expect("listen");
        let address = unused.local_addr().expect("bound");
        drop(unused);
        assert_eq!(
            try_connect(address).err().map(|e| e.kind()),
            Some(io::ErrorKind::ConnectionRefused)
        );
    }
}
