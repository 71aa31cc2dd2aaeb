//! Test whether super-packets pass through a TUN device of this kernel unchanged.
//!
//! Some released kernels have bugs there: 6.6.44 refused segmented writes with `EINVAL`, 7.0 corrupted segmented UDP.
//! A lab would produce wrong results without an error, so each process first sends itself 256 KB.
//!
//! The test needs one device and no peer: every packet read is written back with source and destination exchanged
//! (which keeps all checksums valid), so that two sockets of this thread exchange data through the device, each of
//! which takes the other for the neighbouring address.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::OnceLock;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

use crate::error::{KernelError, Result};
use crate::interface::{self, InterfaceSetup};
use crate::poll::{Epoll, Interest, ReadyList};
use crate::tun::{Offload, TunDevice, VNET_HEADER_LEN};
use crate::{namespace, socket, thread};

/// The last addresses of the range for tests of network devices (RFC 2544).
const HERE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 253);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);

/// Bytes for several super-packets after TCP's slow start.
const STREAM_BYTES: usize = 256 << 10;
/// Eight datagrams that the sender passes to the kernel as one super-packet.
const DATAGRAM_BYTES: usize = 1000;
const DATAGRAMS: usize = 8;
/// Time limit in nanoseconds. The exchange takes a few milliseconds.
const LIMIT_NS: u64 = 2_000_000_000;

/// Whether super-packets pass unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffloadState {
    /// They do.
    On(Offload),
    /// They do not: packets are segmented before they are written; the text is the reason.
    Off(String),
}

impl OffloadState {
    /// The offloads to enable on a device.
    pub fn offload(&self) -> Offload {
        match self {
            Self::On(offload) => *offload,
            Self::Off(_) => Offload::OFF,
        }
    }
}

impl fmt::Display for OffloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(Offload { udp: true, .. }) => f.write_str("on"),
            Self::On(_) => f.write_str("on (TCP only)"),
            Self::Off(reason) => write!(f, "off ({reason})"),
        }
    }
}

/// The result of the self-test on this machine; it runs once per process.
pub fn self_test(device: &Path) -> OffloadState {
    static OUTCOME: OnceLock<OffloadState> = OnceLock::new();
    OUTCOME.get_or_init(|| try_out(device)).clone()
}

fn try_out(device: &Path) -> OffloadState {
    let device = device.to_path_buf();
    // A separate namespace hides the device. In containers that may not create one, the device appears in the
    // container's namespace for a few milliseconds.
    let own = namespace::create().ok();
    let outcome = namespace::run_in(own.as_ref().map(std::os::fd::AsFd::as_fd), || {
        Ok(exchange(&device))
    });
    match outcome {
        Ok(Ok(state)) => state,
        Ok(Err(error)) | Err(error) => {
            OffloadState::Off(format!("the self-test could not run: {error}"))
        }
    }
}

fn exchange(device: &Path) -> Result<OffloadState> {
    let mirror = Mirror::open(device)?;
    if let Err(reason) = mirror.stream_survives() {
        return Ok(OffloadState::Off(reason));
    }
    let udp = mirror.on.udp && mirror.datagrams_survive().is_ok();
    Ok(OffloadState::On(Offload { tcp: true, udp }))
}

/// A device whose packets this thread sends back.
struct Mirror {
    tun: TunDevice,
    on: Offload,
    epoll: Epoll,
}

impl Mirror {
    fn open(device: &Path) -> Result<Self> {
        let tun = TunDevice::open(device, "nmprobe%d", false)?;
        let on = tun.set_offload(Offload::ALL)?;
        let setup = InterfaceSetup {
            address: HERE,
            prefix: 30,
            ipv6: None,
            mtu: 1500,
            queue_packets: None,
            routes: vec![],
        };
        interface::configure(tun.name(), &setup)?;
        let epoll = Epoll::new()?;
        epoll.add(&tun, 0, Interest::READ)?;
        Ok(Self { tun, on, epoll })
    }

    /// Writes all packets of the device back to it; returns the number of super-packets among them.
    fn reflect(&self, buffer: &mut [u8]) -> std::result::Result<usize, String> {
        let mut large = 0;
        loop {
            let length = match self.tun.read(buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(large),
                Err(e) => return Err(format!("reading from the device: {e}")),
            };
            let (header, packet) = buffer[..length].split_at_mut(VNET_HEADER_LEN.min(length));
            if packet.len() < 20 || packet[0] >> 4 != 4 {
                continue;
            }
            large += usize::from(header[1] != 0);
            let (before, after) = packet.split_at_mut(16);
            before[12..16].swap_with_slice(&mut after[..4]);
            self.tun
                .write(&buffer[..length])
                .map_err(|e| format!("writing {length} bytes back: {e}"))?;
        }
    }

    /// Alternates between the mirror and `step` until `step` returns true; returns the number of super-packets seen.
    fn run(
        &self,
        mut step: impl FnMut() -> std::result::Result<bool, String>,
    ) -> std::result::Result<usize, String> {
        let deadline = thread::monotonic_ns() + LIMIT_NS;
        let (mut packet, mut large) = (vec![0u8; 66 << 10], 0);
        let mut ready = ReadyList::with_capacity(1);
        loop {
            large += self.reflect(&mut packet)?;
            if step()? {
                return Ok(large);
            }
            let left = deadline.saturating_sub(thread::monotonic_ns());
            if left == 0 {
                return Err("the self-test's bytes did not arrive in time".into());
            }
            // The sockets become ready only by packets written above, so a short wait suffices for both.
            self.epoll
                .wait(&mut ready, Some(left.min(1_000_000)))
                .map_err(|e| e.to_string())?;
        }
    }

    fn stream_survives(&self) -> std::result::Result<(), String> {
        let listener = socket::listen(SocketAddr::from((HERE, 0))).map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let client = socket::connect(SocketAddr::from((THERE, port))).map_err(|e| e.to_string())?;
        let sent: Vec<u8> = pattern(STREAM_BYTES);
        let mut exchange = StreamExchange {
            listener,
            client,
            server: None,
            sent: &sent,
            at: 0,
            received: Vec::new(),
        };
        let large = self.run(|| exchange.step())?;
        if exchange.received != sent {
            return Err("a TCP super-packet arrived changed".into());
        }
        if large == 0 {
            return Err("the kernel produced no TCP super-packet".into());
        }
        Ok(())
    }

    fn datagrams_survive(&self) -> std::result::Result<(), String> {
        let text = |e: std::io::Error| e.to_string();
        let receiver = UdpSocket::bind((HERE, 0)).map_err(text)?;
        receiver.set_nonblocking(true).map_err(text)?;
        let sender = UdpSocket::bind((HERE, 0)).map_err(text)?;
        segment_datagrams(&sender, DATAGRAM_BYTES as i32).map_err(|e| e.to_string())?;
        let sent = pattern(DATAGRAM_BYTES * DATAGRAMS);
        let port = receiver.local_addr().map_err(text)?.port();
        sender.send_to(&sent, (THERE, port)).map_err(text)?;
        let (mut received, mut datagram) = (Vec::new(), [0u8; 2 * DATAGRAM_BYTES]);
        let large = self.run(|| {
            while let Ok(length) = receiver.recv(&mut datagram) {
                received.extend_from_slice(&datagram[..length]);
            }
            Ok(received.len() >= sent.len())
        })?;
        if received != sent || large == 0 {
            return Err("segmented UDP arrived changed".into());
        }
        Ok(())
    }
}

/// Both ends of one TCP connection, used without blocking.
struct StreamExchange<'a> {
    listener: TcpListener,
    client: TcpStream,
    server: Option<TcpStream>,
    sent: &'a [u8],
    at: usize,
    received: Vec<u8>,
}

impl StreamExchange<'_> {
    fn step(&mut self) -> std::result::Result<bool, String> {
        if self.server.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true).map_err(|e| e.to_string())?;
                    self.server = Some(stream);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(format!("accepting: {e}")),
            }
        }
        while self.at < self.sent.len() {
            match (&self.client).write(&self.sent[self.at..]) {
                Ok(count) => self.at += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(format!("sending: {e}")),
            }
        }
        let Some(server) = &mut self.server else {
            return Ok(false);
        };
        let mut chunk = [0u8; 16 << 10];
        loop {
            match server.read(&mut chunk) {
                Ok(0) => return Err("the stream ended early".into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Ok(self.received.len() >= self.sent.len())
                }
                Err(e) => return Err(format!("receiving: {e}")),
            }
        }
    }
}

/// Makes the kernel segment what `socket` sends into datagrams of `bytes` (UDP_SEGMENT, udp(7)).
fn segment_datagrams(socket: &UdpSocket, bytes: i32) -> Result<()> {
    setsockopt(socket, UdpGsoSegment, &bytes)
        .map_err(|e| KernelError::from_io("enable segmentation of datagrams", "UDP socket", e))
}

/// A pattern in which bytes at neighbouring offsets differ, and bytes one segment apart.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i ^ (i >> 8) ^ (i >> 13)) as u8)
        .collect()
}
