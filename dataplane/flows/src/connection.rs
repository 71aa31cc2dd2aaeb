//! One TCP connection: the socket of smoltcp and the side of the flow on top of it.

use std::time::Duration;

use nm_engine::{Instant, RouteId};
use smoltcp::iface::{Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint, Ipv4Address};

use crate::device::Slot;
use crate::frame::{self, Peer, FRAME};
use crate::sink::Sink;
use crate::source::Source;

/// A connection without any segment of the peer for this time is given up: as long as an interrupted link in common
/// experiments, and close to Linux's limit for connecting (`tcp_syn_retries` 6: 127 s).
const TIMEOUT: Duration = Duration::from_secs(120);
/// Interval of probes on a connection that has nothing to send, so that [`TIMEOUT`] only ends those without a peer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A connection that asks to be visited at once although the visit had no effect is visited again after this.
const AGAIN: Duration = Duration::from_millis(1);
/// Hop limit of packets; a ring of 128 nodes has paths of 64.
const TTL: u8 = 255;
/// The buffer against the direction of the flow holds one answer.
const ANSWER_BUFFER: usize = 4 * FRAME;

/// A side of a flow.
#[derive(Debug)]
pub(crate) enum Side {
    Source(Box<Source>),
    Sink(Sink),
}

/// The result of [`Connection::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// A packet is in the slot.
    Packet,
    /// There is nothing to send before this time or the next packet.
    Idle(Option<Instant>),
    /// The connection can be removed.
    Gone,
}

/// A connection.
pub(crate) struct Connection {
    pub peer: Peer,
    pub side: Side,
    /// Differs from that of every other connection, so that timers of removed ones are recognised.
    pub epoch: u64,
    /// The MTU of its path.
    pub mtu: u16,
    /// The earliest time at which the endpoint's timers name it.
    pub armed: Option<Instant>,
    /// Whether it is in the ready queue.
    pub ready: bool,
    /// Packets that it may still send in this turn.
    pub credit: u32,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Connection {
    /// A connection that a source opens from the address of `iface`.
    pub(crate) fn open(
        iface: &mut Interface,
        peer: Peer,
        source: Source,
        buffer: usize,
        mtu: u16,
        epoch: u64,
    ) -> Self {
        let mut socket = socket(ANSWER_BUFFER, buffer);
        let remote = IpEndpoint::new(IpAddress::Ipv4(peer.addr), peer.port);
        // It fails only for an open socket or an address or port of zero.
        let opened = socket.connect(iface.context(), remote, peer.local_port);
        debug_assert_eq!(opened, Ok(()), "a new socket, and an address of the plan");
        Self::new(peer, Side::Source(Box::new(source)), socket, mtu, epoch)
    }

    /// A connection that accepts the next segment, which opens it.
    pub(crate) fn accept(local: Ipv4Address, peer: Peer, buffer: usize, mtu: u16, epoch: u64) -> Self {
        let mut socket = socket(buffer, ANSWER_BUFFER);
        let here = IpListenEndpoint { addr: Some(IpAddress::Ipv4(local)), port: peer.local_port };
        let listening = socket.listen(here);
        debug_assert_eq!(listening, Ok(()), "a new socket, and a port that is not zero");
        Self::new(peer, Side::Sink(Sink::default()), socket, mtu, epoch)
    }

    fn new(peer: Peer, side: Side, socket: Socket<'static>, mtu: u16, epoch: u64) -> Self {
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Self { peer, side, epoch, mtu, armed: None, ready: false, credit: 0, sockets, handle }
    }

    /// Packets of one turn.
    pub(crate) fn weight(&self) -> u32 {
        match &self.side {
            Side::Source(source) => source.weight(),
            Side::Sink(_) => 1,
        }
    }

    /// The route that packets to the peer prefer, 0 for none.
    pub(crate) fn route(&self) -> RouteId {
        match &self.side {
            Side::Source(source) => source.route(),
            Side::Sink(_) => 0,
        }
    }

    /// Handles the packet in the slot; a reply may be in the slot afterwards.
    pub(crate) fn handle(&mut self, now: Instant, iface: &mut Interface, slot: &mut Slot) {
        slot.clear();
        if let (Side::Source(source), Some(segment)) = (&mut self.side, frame::segment(slot.incoming())) {
            source.on_arrived(segment);
        }
        iface.poll_ingress_single(micros(now), slot, &mut self.sockets);
        if self.state() == State::Closed {
            self.closed(now, false);
        }
    }

    /// Lets the flow act and the socket send at most one packet, which is in the slot then.
    pub(crate) fn poll(&mut self, now: Instant, iface: &mut Interface, slot: &mut Slot) -> Polled {
        slot.clear();
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let may_send = match &mut self.side {
            Side::Source(source) => {
                source.act(now, socket);
                source.may_send(now)
            }
            Side::Sink(sink) => {
                sink.act(socket);
                true
            }
        };
        if may_send {
            iface.poll_egress(micros(now), slot, &mut self.sockets);
        }
        if let Some(packet) = slot.outgoing() {
            if let (Side::Source(source), Some(sent)) = (&mut self.side, frame::segment(packet)) {
                source.on_sent(now, sent);
            }
            if self.state() == State::Closed {
                self.closed(now, true);
            }
            return Polled::Packet;
        }
        if self.is_gone() {
            return Polled::Gone;
        }
        let socket_at = may_send.then(|| iface.poll_at(micros(now), &self.sockets)).flatten();
        let socket_at = socket_at.map(|at| Instant(at.total_micros().unsigned_abs() * 1_000));
        let side_at = match &self.side {
            Side::Source(source) => source.deadline(now),
            Side::Sink(_) => None,
        };
        let deadline = socket_at.into_iter().chain(side_at).min();
        Polled::Idle(deadline.map(|at| if at <= now { now + AGAIN } else { at }))
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    fn closed(&mut self, now: Instant, timed_out: bool) {
        if let Side::Source(source) = &mut self.side {
            source.closed(now, timed_out);
        }
    }

    fn is_gone(&self) -> bool {
        match &self.side {
            Side::Source(source) => source.is_gone(self.state()),
            Side::Sink(_) => Sink::is_gone(self.state()),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

fn socket(receive: usize, send: usize) -> Socket<'static> {
    let buffer = |len: usize| SocketBuffer::new(vec![0; len]);
    let mut socket = Socket::new(buffer(receive), buffer(send));
    socket.set_timeout(Some(TIMEOUT.into()));
    socket.set_keep_alive(Some(KEEP_ALIVE.into()));
    socket.set_hop_limit(Some(TTL));
    // The source decides what is a segment, and every packet that arrives is acknowledged in the turn of its socket.
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_congestion_control(CongestionControl::None);
    socket
}

/// The time as smoltcp's type.
pub(crate) fn micros(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX))
}
