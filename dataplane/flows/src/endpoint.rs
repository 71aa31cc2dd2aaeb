//! The endpoint of a node: all of its flows, their connections, ready queue and timers.

mod mtu;
mod reports;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use nm_engine::{Instant, NodeConfig, Packet, Pool, RouteId, VnetHeader};

use crate::connection::{micros, Connection, Polled, Side};
use crate::device::Slot;
use crate::flow::{EndReason, FlowEnd, FlowError, FlowEvent, FlowKey, FlowSpec};
use crate::frame::{self, Incoming, Peer, FLOW_PORT};
use crate::paths::Paths;
use crate::record::{Record, Records};
use crate::source::Source;

/// Memory that the buffers of a node's connections share, in each direction, as long as [`SMALLEST`] allows.
const BUDGET: usize = 4 << 20;
/// The smallest buffer: 1,000 flows in one node then take at most 64 MB in each direction.
const SMALLEST: usize = 64 << 10;
/// The largest buffer, and with it the largest window: 100 Mbit/s over a round trip of 80 ms.
const LARGEST: usize = 1 << 20;
/// Interval of [`FlowEvent::Progressed`].
const PROGRESS: Duration = Duration::from_secs(1);
/// The first port of sources. Ports below are for programs of the system by convention.
const FIRST_PORT: u16 = 1_024;
/// Headers of IPv4 and TCP without options (RFC 791, RFC 9293).
const HEADERS: usize = 40;

/// The endpoint.
pub struct Endpoint {
    config: NodeConfig,
    addr: Ipv4Addr,
    paths: Paths,
    slot: Slot,
    /// Whether flows may begin.
    started: bool,
    records: Records,
    /// Flows that are announced to end here and have not.
    expected: BTreeSet<u64>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    sinks: usize,
    by_peer: BTreeMap<Peer, usize>,
    ready: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    replies: VecDeque<Packet>,
    events: VecDeque<FlowEvent>,
    next_port: u16,
    epochs: u64,
    progress_at: Option<Instant>,
    /// Acknowledged bytes at the last report, by flow.
    reported: BTreeMap<u64, u64>,
    /// Connections whose beginning was reported since the last look at the routes.
    begun: Vec<usize>,
    /// The generation of the node's routes at that look.
    routes_seen: u64,
}

impl Endpoint {
    /// The endpoint of a node without flows.
    ///
    /// # Errors
    ///
    /// When the address plan has no user-space addresses.
    pub fn new(now: Instant, config: &NodeConfig) -> Result<Self, FlowError> {
        if config.addresses.user_base_addr.is_none() {
            return Err(FlowError::NoAddresses);
        }
        let addr = config.addresses.user_addr(config.node_id);
        // Sequence numbers and ports differ between incarnations, so that old segments are not taken for new ones.
        let seed = config.seed ^ config.incarnation.rotate_left(32) ^ u64::from(config.node_id) << 17;
        let mut paths = Paths::new(config, addr, seed);
        paths.interface(now, paths.mtu());
        let ports = u64::from(u16::MAX - FIRST_PORT);
        Ok(Self {
            config: config.clone(),
            addr,
            paths,
            slot: Slot::new(config.mtu),
            started: false,
            records: Records::default(),
            expected: BTreeSet::new(),
            connections: Vec::new(),
            free: Vec::new(),
            sinks: 0,
            by_peer: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            next_port: FIRST_PORT + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ports) as u16,
            epochs: 0,
            progress_at: None,
            reported: BTreeMap::new(),
            begun: Vec::new(),
            routes_seen: 0,
        })
    }

    /// Runs flows that begin or end at this node. A flow that runs continues, with the rate, the weight and the
    /// preferred route of the repeated request; the result of one that has ended is reported again.
    ///
    /// # Errors
    ///
    /// When one of them cannot run; none is added then.
    pub fn add(&mut self, now: Instant, flows: Vec<FlowSpec>) -> Result<(), FlowError> {
        for flow in &flows {
            if flow.src == flow.dst {
                return Err(FlowError::SameNode(flow.id));
            }
            if flow.src != self.config.node_id && flow.dst != self.config.node_id {
                return Err(FlowError::Elsewhere(flow.id, self.config.node_id));
            }
        }
        let mut new = Vec::new();
        for spec in flows {
            if spec.dst == self.config.node_id {
                self.expected.insert(spec.id);
                continue;
            }
            match self.records.get(spec.id) {
                Some(Record::Ended(end)) => self.events.push_back(FlowEvent::Ended(end.clone())),
                Some(Record::Running(index)) => {
                    let index = *index;
                    self.repeat(now, index, &spec);
                }
                Some(Record::Waiting { since, .. }) => {
                    let since = *since;
                    self.records.set(spec.id, Record::Waiting { spec, since });
                }
                None => new.push((spec, now)),
            }
        }
        if self.started {
            self.begin_all(new);
        } else {
            for (spec, since) in new {
                self.records.set(spec.id, Record::Waiting { spec, since });
            }
        }
        Ok(())
    }

    /// Reports the beginning of a running flow again, and changes its rate, weight and route if they differ.
    fn repeat(&mut self, now: Instant, index: usize, spec: &FlowSpec) {
        if let Some(Side::Source(source)) = self.side(index) {
            source.change(now, spec);
            let began = source.began_again();
            self.begun.extend(began.as_ref().map(|_| index));
            self.events.extend(began);
            self.set_ready(index);
        }
    }

    /// Stops flows that begin here; the others are skipped, and so are those that have ended, whose result is reported
    /// again.
    pub fn stop(&mut self, now: Instant, ids: &[u64]) {
        for &id in ids {
            self.expected.remove(&id);
            match self.records.get(id) {
                Some(Record::Waiting { since, .. }) => {
                    let began = *since;
                    self.end(FlowEnd {
                        id,
                        key: None,
                        began,
                        ended: now,
                        bytes: 0,
                        reason: EndReason::Stopped,
                    });
                }
                Some(Record::Running(index)) => {
                    let index = *index;
                    if let Some(Side::Source(source)) = self.side(index) {
                        source.stop(now);
                        self.set_ready(index);
                    }
                }
                Some(Record::Ended(end)) => self.events.push_back(FlowEvent::Ended(end.clone())),
                None => {}
            }
        }
    }

    /// The topology is ready: flows begin.
    pub fn start(&mut self) {
        self.started = true;
        let waiting = self.records.take_waiting();
        self.begin_all(waiting);
    }

    fn begin_all(&mut self, flows: Vec<(FlowSpec, Instant)>) {
        let sources = self.by_peer.len() - self.sinks + flows.len();
        let buffer = (BUDGET / sources.max(1)).clamp(SMALLEST, LARGEST);
        for (spec, since) in flows {
            let addr = self.config.addresses.user_addr(spec.dst);
            let Some(local_port) = self.port(addr) else {
                let (id, reason) = (spec.id, EndReason::Refused);
                self.end(FlowEnd { id, key: None, began: since, ended: since, bytes: 0, reason });
                continue;
            };
            let peer = Peer { addr, port: FLOW_PORT, local_port };
            let key = FlowKey { src: self.addr, dst: addr, src_port: local_port, dst_port: FLOW_PORT };
            let id = spec.id;
            let mtu = self.paths.mtu_to(since, addr);
            let source = Source::new(spec, key, since, usize::from(mtu) - HEADERS, buffer);
            self.epochs += 1;
            let iface = self.paths.interface(since, mtu);
            let connection = Connection::open(iface, peer, source, buffer, mtu, self.epochs);
            let index = self.store(connection);
            self.records.set(id, Record::Running(index));
            self.set_ready(index);
            if self.progress_at.is_none() {
                self.progress_at = Some(since + PROGRESS);
            }
        }
    }

    /// A port from which no connection to `addr` exists.
    fn port(&mut self, addr: Ipv4Addr) -> Option<u16> {
        for _ in FIRST_PORT..=u16::MAX {
            let local_port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            let peer = Peer { addr, port: FLOW_PORT, local_port };
            if local_port != FLOW_PORT && !self.by_peer.contains_key(&peer) {
                return Some(local_port);
            }
        }
        None
    }

    fn store(&mut self, connection: Connection) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.sinks += usize::from(matches!(connection.side, Side::Sink(_)));
        self.by_peer.insert(connection.peer, index);
        self.connections[index] = Some(connection);
        index
    }

    fn remove(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].take() {
            self.by_peer.remove(&connection.peer);
            self.free.push(index);
            if let Side::Sink(sink) = &connection.side {
                self.sinks -= 1;
                if let Some(id) = sink.id() {
                    self.expected.remove(&id);
                }
            }
        }
    }

    fn side(&mut self, index: usize) -> Option<&mut Side> {
        self.connections.get_mut(index)?.as_mut().map(|connection| &mut connection.side)
    }

    fn set_ready(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].as_mut().filter(|each| !each.ready) {
            connection.ready = true;
            connection.credit = connection.weight();
            self.ready.push_back(index);
        }
    }

    /// Handles a packet to the user-space address of the node.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet, pool: &mut Pool) {
        match frame::read(packet.bytes()) {
            Incoming::Segment { peer, syn } => self.handle_segment(now, peer, syn, packet.bytes(), pool),
            Incoming::Unreachable(peer) => {
                let index = self.by_peer.get(&peer).copied();
                if let Some(Side::Source(source)) = index.and_then(|index| self.side(index)) {
                    source.set_unreachable();
                }
            }
            Incoming::TooBig(peer, mtu) => self.shorten(now, peer, mtu),
            Incoming::Other => {}
        }
        pool.put(packet);
    }

    fn handle_segment(&mut self, now: Instant, peer: Peer, syn: bool, bytes: &[u8], pool: &mut Pool) {
        self.slot.set_incoming(bytes);
        let index = match self.by_peer.get(&peer) {
            Some(index) => Some(*index),
            None if syn && peer.local_port == FLOW_PORT => Some(self.accept(peer)),
            None => None,
        };
        let route = index.and_then(|index| self.connections[index].as_ref()).map_or(0, Connection::route);
        match index.and_then(|index| Some((index, self.connections[index].as_mut()?))) {
            Some((index, connection)) => {
                let iface = self.paths.interface(now, connection.mtu);
                connection.handle(now, iface, &mut self.slot);
                self.set_ready(index);
                self.collect(index);
            }
            None => {
                // Answered with RST (RFC 9293, section 3.10.7.1), so that the other side ends as well.
                let mut nobody = smoltcp::iface::SocketSet::new(Vec::new());
                self.slot.clear();
                let iface = self.paths.interface(now, self.paths.mtu());
                iface.poll_ingress_single(micros(now), &mut self.slot, &mut nobody);
            }
        }
        if let Some(reply) = packet(self.slot.outgoing(), route, pool) {
            self.replies.push_back(reply);
        }
    }

    fn accept(&mut self, peer: Peer) -> usize {
        let buffer = (BUDGET / self.expected.len().max(self.sinks + 1)).clamp(SMALLEST, LARGEST);
        self.epochs += 1;
        self.store(Connection::accept(self.addr, peer, buffer, self.paths.mtu(), self.epochs))
    }

    /// Queues connections whose timer has expired, and reports progress when it is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, index, epoch))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let connection = self.connections[index].as_mut();
            if let Some(connection) = connection.filter(|each| each.epoch == epoch && each.armed == Some(at))
            {
                connection.armed = None;
                self.set_ready(index);
            }
        }
        if self.progress_at.is_some_and(|at| at <= now) {
            self.report_progress(now);
        }
    }

    /// The next instant at which [`Endpoint::handle_timeout`] must be called, if any.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        timer.into_iter().chain(self.progress_at).min()
    }

    /// Whether [`Endpoint::poll_transmit`] may return a packet.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty()
    }

    /// The next packet of the node. Connections take turns; in its turn a flow sends as many packets as its weight.
    pub fn poll_transmit(&mut self, now: Instant, pool: &mut Pool) -> Option<Packet> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        while let Some(index) = self.ready.pop_front() {
            let Some(connection) = self.connections[index].as_mut() else {
                continue;
            };
            let iface = self.paths.interface(now, connection.mtu);
            match connection.poll(now, iface, &mut self.slot) {
                Polled::Packet => {
                    connection.credit = connection.credit.saturating_sub(1);
                    if connection.credit > 0 {
                        self.ready.push_front(index);
                    } else {
                        connection.credit = connection.weight();
                        self.ready.push_back(index);
                    }
                    let route = connection.route();
                    self.collect(index);
                    return packet(self.slot.outgoing(), route, pool);
                }
                Polled::Idle(deadline) => {
                    connection.ready = false;
                    if let Some(at) = deadline.filter(|at| connection.armed.is_none_or(|armed| *at < armed)) {
                        connection.armed = Some(at);
                        self.timers.push(Reverse((at, index, connection.epoch)));
                    }
                    self.collect(index);
                }
                Polled::Gone => {
                    connection.ready = false;
                    self.collect(index);
                    self.remove(index);
                }
            }
        }
        None
    }

    /// Reports the beginning or the end of the flow of a connection, if they are new.
    fn collect(&mut self, index: usize) {
        let Some(Side::Source(source)) = self.side(index) else {
            return;
        };
        let began = source.take_began();
        let end = source.take_end();
        self.begun.extend(began.as_ref().map(|_| index));
        self.events.extend(began);
        if let Some(end) = end {
            self.end(end);
        }
    }

    fn end(&mut self, end: FlowEnd) {
        self.events.push_back(FlowEvent::Ended(end.clone()));
        self.records.end(end);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<FlowEvent> {
        self.events.pop_front()
    }

    /// Connections of both directions that exist.
    pub fn connections(&self) -> usize {
        self.by_peer.len()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connections: Vec<_> = self.connections.iter().flatten().collect();
        out.debug_struct("Endpoint").field("connections", &connections).finish_non_exhaustive()
    }
}

fn packet(bytes: Option<&[u8]>, route: RouteId, pool: &mut Pool) -> Option<Packet> {
    let bytes = bytes?;
    let mut packet = pool.get_for(bytes.len());
    packet.fill(bytes, VnetHeader::default())?;
    packet.set_route(route);
    Some(packet)
}
