//! Sockets of flows that end at a relay: of its clients, to servers, and to the next relay.
//!
//! They are reset when they are closed, unless [`close_in_order`] was called: a process that ends, for whatever reason,
//! then ends its flows with a reset. Without this the kernel would end them with a FIN, which the other ends would
//! take for the end of the data.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::{KernelError, Result};
use crate::socket::CONGESTION_CONTROL;

/// Mark (`SO_MARK`) of connections that a relay makes in a node's namespace, by which a packet filter tells them from
/// those of programs.
pub const MARK: u32 = 0x6e6d;

/// Connections that wait to be accepted: a burst of a browser or a load generator.
const BACKLOG: i32 = 1024;

/// Silence after which the kernel asks whether the peer still exists; as for links between processes.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens a non-blocking listener in the network namespace of the calling thread. Accepted connections inherit its
/// options.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let failed = |e| KernelError::from_io("listen for flows", address.to_string(), e);
    let socket = open(address).map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    if address.is_ipv6() {
        // The same port of IPv4 has a listener of its own.
        socket.set_only_v6(true).map_err(failed)?;
    }
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket.into())
}

/// Starts to connect from the network namespace of the calling thread; the stream becomes writable when the attempt
/// has ended. With `marked` the connection has [`MARK`], which needs CAP_NET_ADMIN in that namespace.
pub fn connect(address: SocketAddr, marked: bool) -> io::Result<TcpStream> {
    let socket = open(address)?;
    if marked {
        socket.set_mark(MARK)?;
    }
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(socket.into()),
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    prepare(&socket)?;
    Ok(socket)
}

/// Sets the options of an accepted connection.
pub fn prepare_accepted(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_nonblocking(true)?;
    prepare(&socket)
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )
}

/// Sets the congestion control of a connection whose other end is in the same namespace, as that of links: the pacing of
/// bbr, where that is the default, slows the loopback device. Other connections keep the one of their namespace, which
/// may be a setting of the lab.
pub fn prepare_local(stream: &TcpStream) {
    // A kernel without cubic keeps its default, which works but is slower.
    let _ = SockRef::from(stream).set_tcp_congestion(CONGESTION_CONTROL);
}

/// Ends a connection without a reset: what was sent is delivered, and then a FIN.
pub fn close_in_order(stream: TcpStream) {
    // An error means that the connection is gone.
    let _ = SockRef::from(&stream).set_linger(None);
}

/// The destination that a redirected connection had before the packet filter changed it; `None` for a connection that
/// was not redirected.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let own = stream.local_addr().ok()?;
    let found = match own.ip() {
        IpAddr::V4(_) => {
            let raw = getsockopt(stream, sockopt::OriginalDst).ok()?;
            let address = u32::from_be(raw.sin_addr.s_addr).into();
            SocketAddr::V4(SocketAddrV4::new(address, u16::from_be(raw.sin_port)))
        }
        IpAddr::V6(_) => {
            let raw = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
            let port = u16::from_be(raw.sin6_port);
            SocketAddr::new(IpAddr::from(raw.sin6_addr.s6_addr), port)
        }
    };
    (found != own).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::congestion_control;

    #[test]
    fn a_connection_within_the_namespace_uses_cubic() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a listener");
        let stream = connect(listener.local_addr().expect("bound"), false).expect("started");
        prepare_local(&stream);
        assert_eq!(congestion_control(&stream).expect("readable"), "cubic");
    }
}
