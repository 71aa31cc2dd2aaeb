//! The engine of one node: the methods that a driver calls.

mod collect;
mod commands;
mod forward;
mod hop;
mod icmp;
#[cfg(test)]
mod ip6_tests;
#[cfg(test)]
mod mtu_tests;
mod probes;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use crate::address::AddressMap;
use crate::flow::Flows;
use crate::group::Groups;
use crate::link::Links;
use crate::probe::Probes;
use crate::receiver::Receivers;
use crate::route::Routes;
use crate::session::{Prefetch, Sessions, SinkAllocator};
use crate::{
    Command, CommandError, CommandOutput, FiveTuple, Instant, Io, LinkId, NodeConfig, NodeId, NodeStats,
    Packet, ReceiverId, RouteChoice, RouteId, RoutedFlows, Taps, Traffic,
};
use collect::Watched;
use forward::Origin;
use icmp::Icmp;

/// Bytes of the largest message: what IPv4's total length (RFC 791) leaves after the IP and UDP headers.
pub const MAX_MESSAGE: usize = 65_535 - 20 - 8;

/// One node. The documentation of the crate describes its use.
#[derive(Debug)]
pub struct Engine {
    config: NodeConfig,
    map: AddressMap,
    links: Links,
    routes: Routes,
    groups: Groups,
    receivers: Receivers,
    pub(crate) sessions: Sessions,
    probes: Probes,
    flows: Flows,
    watched: Watched,
    icmp: Icmp,
    tun_rx: Traffic,
    tun_tx: Traffic,
    /// Outgoing links of the packet that is being copied; kept for its capacity.
    hops: Vec<LinkId>,
    /// The next deadline of the sessions, cached until a command, a session packet or a timeout may have changed it;
    /// forwarded packets do not.
    session_deadline: Cell<Option<Option<Instant>>>,
    /// The latest `now` argument, for reports.
    now: Instant,
    /// Whether packets are dropped and timers wait; see [`Command::SetPaused`].
    paused: bool,
    /// Whether packets are recorded at the points of the node itself.
    tapped: bool,
    /// Whether TCP and ICMP to the user-space address go to [`Io::endpoint`].
    endpoint: bool,
}

impl Engine {
    /// A node without links or routes.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        let map = AddressMap::new(&config.addresses, &config.prefixes);
        Self {
            links: Links::new(map.clone()),
            map,
            routes: Routes::new(config.seed),
            groups: Groups::default(),
            receivers: Receivers::default(),
            sessions: Sessions::new(&config),
            probes: Probes::default(),
            flows: Flows::default(),
            watched: Watched::default(),
            icmp: Icmp::default(),
            tun_rx: Traffic::default(),
            tun_tx: Traffic::default(),
            hops: Vec::new(),
            session_deadline: Cell::new(None),
            now: Instant::ZERO,
            paused: false,
            tapped: false,
            endpoint: false,
            config,
        }
    }

    /// The configuration of the node.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Sets the allocator of receive buffers. Filling 90 MB of fresh 4 KiB pages costs a VM two thirds of its time;
    /// huge pages made it three times as fast (2 vCPUs, 6.18).
    pub fn set_sink_allocator(&mut self, allocate: SinkAllocator) {
        self.sessions.set_allocator(allocate);
    }

    /// Sets the function with which sessions prefetch memory into the CPU caches. A transfer of 90 MB to three
    /// receivers of one process takes the packet thread 21 instead of 30 ms with it (2 vCPUs, 6.18).
    pub fn set_prefetch(&mut self, prefetch: Prefetch) {
        self.sessions.set_prefetch(prefetch);
    }

    /// Sets whether TCP and ICMP packets to the user-space address of the node go to [`Io::endpoint`]; without an
    /// endpoint they are dropped.
    pub fn set_endpoint(&mut self, exists: bool) {
        self.endpoint = exists;
    }

    /// Executes a command.
    ///
    /// # Errors
    ///
    /// When the command is refused; the state is then unchanged.
    pub fn handle_command(
        &mut self,
        now: Instant,
        command: Command,
        io: &mut Io,
    ) -> Result<CommandOutput, CommandError> {
        self.now = now;
        let output = self.execute(now, command, io);
        self.flush_sessions(now, io);
        output
    }

    /// Forwards a packet that the local application sent.
    pub fn handle_tun(&mut self, now: Instant, packet: Packet, io: &mut Io) {
        self.admit(now, packet, Origin::Tun, io);
    }

    /// Forwards or delivers a packet that was received from a neighbour.
    pub fn handle_link(&mut self, now: Instant, link: LinkId, packet: Packet, io: &mut Io) {
        self.admit(now, packet, Origin::Link(link), io);
    }

    /// Sets the state of a link. Packets in the queues of a link that goes down are lost.
    pub fn handle_link_state(&mut self, now: Instant, link: LinkId, up: bool, io: &mut Io) {
        let carried = self.links.carries(link);
        self.links.set_up(now, link, up, io);
        self.note_link(link, carried, io);
        if !up {
            self.probes.link_down(link, io);
        }
        self.routes.links_changed();
        self.session_deadline.set(None);
    }

    /// Whether the node is paused.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Pauses or resumes the node at `now`; see [`Command::SetPaused`](crate::Command::SetPaused).
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.links.set_paused(now, paused);
        }
    }

    /// Records packets in [`Io::tapped`] at these points from now on, and at no others. A link that does not exist is
    /// recorded from its start.
    pub fn set_taps(&mut self, taps: &Taps) {
        self.tapped = taps.node;
        self.links.set_taps(&taps.links);
    }

    /// Processes expired timers: releases packets from links, retransmits requests, and ends sessions with peers that
    /// timed out. Call when [`Engine::poll_deadline`] is past; an early call has no effect.
    pub fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        if self.paused {
            return;
        }
        self.now = now;
        self.links.release(now, io);
        self.probes.handle_timeout(now, &mut self.links, io);
        if self.session_wake().is_some_and(|at| at <= now) {
            self.sessions.tick(now, io);
            self.flush_sessions(now, io);
        }
    }

    /// The next instant at which [`Engine::handle_timeout`] and then [`Engine::poll_transmit`] must be called, if
    /// any.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        self.links.deadline().into_iter().chain(self.session_wake()).chain(self.probes.deadline()).min()
    }

    /// Builds at most one super-packet of session data. True when sessions may have more: execute the contents of
    /// `io` first, then call again. False: call again after the next other call.
    pub fn poll_transmit(&mut self, now: Instant, io: &mut Io) -> bool {
        if !self.may_transmit() {
            return false;
        }
        self.now = now;
        let (links, routes, groups, map) = (&self.links, &self.routes, &self.groups, &self.map);
        let blocked = |dest| path_is_full(links, routes, groups, map, dest);
        let more = self.sessions.poll(now, blocked, io);
        if more {
            self.flush_sessions(now, io);
        }
        self.probes.poll(now, &mut self.links, io) || more
    }

    /// Whether [`Engine::poll_transmit`] may have something to send.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        !self.paused && (!self.sessions.idle() || self.probes.may_transmit(&self.links))
    }

    /// Sets whether the transport of a link is full. Packets for a full link are dropped and counted as
    /// [`crate::DropCause::Congested`]; sessions that send on it pause.
    pub fn set_link_congested(&mut self, link: LinkId, congested: bool) {
        self.links.set_congested(link, congested);
        self.session_deadline.set(None);
    }

    /// Counts a delivery that the queue of a receiver refused.
    pub fn delivery_refused(&mut self, _receiver: ReceiverId) {
        self.receivers.refused();
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            node_id: self.config.node_id,
            links: self.links.stats(),
            tun_rx: self.tun_rx.clone(),
            tun_tx: self.tun_tx.clone(),
            delivered: self.receivers.delivered.clone(),
            flows: self.flows.stats(),
            flows_forgotten: self.flows.forgotten,
            sessions: self.sessions.reports(self.now),
        }
    }

    /// The explicit route on which this node sends the packets of a flow that begins here, as of now; `None` when its
    /// pair of nodes has none. `asked`: the route that its packets prefer ([`Packet::set_route`]), 0 for none.
    #[must_use]
    pub fn route_of(&self, flow: &FiveTuple, asked: RouteId) -> Option<RouteChoice> {
        self.routes.route_of(self.pair_of(flow)?, flow, asked, &self.links)
    }

    /// Increases when [`Engine::route_of`] may return something else than before.
    #[must_use]
    pub fn route_generation(&self) -> u64 {
        self.routes.generation()
    }

    /// The flows for which this node chose an explicit route, at most `limit`.
    fn routed_flows(&self, now: Instant, limit: usize) -> RoutedFlows {
        self.routes.routed_flows(now, limit, &self.links, |flow| self.pair_of(flow))
    }

    /// The nodes of a flow's addresses.
    fn pair_of(&self, flow: &FiveTuple) -> Option<(NodeId, NodeId)> {
        Some((self.map.edge_at(flow.src)?, self.map.edge_at(flow.dst)?))
    }

    /// The next instant at which sessions have to act.
    fn session_wake(&self) -> Option<Instant> {
        if let Some(known) = self.session_deadline.get() {
            return known;
        }
        let blocked = |dest| path_is_full(&self.links, &self.routes, &self.groups, &self.map, dest);
        let deadline = self.sessions.deadline(blocked);
        self.session_deadline.set(Some(deadline));
        deadline
    }

    /// Forwards the packets that sessions have queued.
    fn flush_sessions(&mut self, now: Instant, io: &mut Io) {
        self.session_deadline.set(None);
        // A packet reaches a session of this node again only through a link, so the queue cannot grow meanwhile.
        let mut queue = std::mem::take(self.sessions.outgoing());
        for mut outgoing in queue.drain(..) {
            if outgoing.packet.parse(self.config.mtu).is_err() {
                debug_assert!(false, "sessions build valid packets");
                continue;
            }
            let bytes = outgoing.packet.wire_bytes();
            let copies = self.dispatch(now, outgoing.packet, Origin::Own, io);
            if let Some(session) = outgoing.session {
                self.sessions.account(session, u64::from(copies) * bytes);
            }
        }
        *self.sessions.outgoing() = queue;
        self.sessions.announce(now, io);
    }
}

/// Whether a link towards `dest` is up but its transport is full. A link that is down does not count: it may stay
/// down, and its receivers then time out.
fn path_is_full(links: &Links, routes: &Routes, groups: &Groups, map: &AddressMap, dest: u32) -> bool {
    if map.is_group(dest) {
        let branch = groups.by_addr(dest).and_then(|group| group.branch());
        return branch.is_some_and(|branch| branch.links.iter().any(|&link| links.is_congested(link)));
    }
    map.edge_of(dest).is_some_and(|node| links.is_congested(routes.towards(node)))
}
