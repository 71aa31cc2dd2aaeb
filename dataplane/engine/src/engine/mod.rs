//! The engine's API: the calls that a driver makes.

mod commands;
mod forward;
mod icmp;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use crate::flow::Flows;
use crate::group::Groups;
use crate::link::Links;
use crate::receiver::Receivers;
use crate::route::Routes;
use crate::session::{Prefetch, Sessions, SinkAllocator};
use crate::{
    Command, CommandError, CommandOutput, Instant, Io, LinkId, NodeConfig, NodeStats, Packet, ReceiverId,
    Traffic,
};
use forward::{AddressMap, Origin};
use icmp::Icmp;

/// Bytes of the largest message: what IPv4's total length (RFC 791) leaves after the IP and UDP headers.
pub const MAX_MESSAGE: usize = 65_535 - 20 - 8;

/// One node. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct Engine {
    config: NodeConfig,
    map: AddressMap,
    links: Links,
    routes: Routes,
    groups: Groups,
    receivers: Receivers,
    pub(crate) sessions: Sessions,
    flows: Flows,
    icmp: Icmp,
    tun_rx: Traffic,
    tun_tx: Traffic,
    /// Links of the packet in hand that goes to several; kept for its capacity.
    hops: Vec<LinkId>,
    /// What sessions wait for, until something may have changed it: packets that pass through do not.
    session_deadline: Cell<Option<Option<Instant>>>,
    /// The latest instant we were told, for reports.
    now: Instant,
}

impl Engine {
    /// A node without links or routes.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            map: AddressMap::new(&config.addresses),
            links: Links::default(),
            routes: Routes::default(),
            groups: Groups::default(),
            receivers: Receivers::default(),
            sessions: Sessions::new(&config),
            flows: Flows::default(),
            icmp: Icmp::default(),
            tun_rx: Traffic::default(),
            tun_tx: Traffic::default(),
            hops: Vec::new(),
            session_deadline: Cell::new(None),
            now: Instant::ZERO,
            config,
        }
    }

    /// What the node was told at its start.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Takes sinks of receiving sessions from somewhere else than the ordinary heap. Worth it: filling 90 MB of
    /// fresh 4 KiB pages costs a VM two thirds of its time; huge pages made it three times as fast (2 vCPUs, 6.18).
    pub fn set_sink_allocator(&mut self, allocate: SinkAllocator) {
        self.sessions.set_allocator(allocate);
    }

    /// Lets sessions fetch memory into the caches ahead of its use. Worth it: a transfer of 90 MB to three receivers of
    /// one process takes the packet thread 21 instead of 30 ms (2 vCPUs, 6.18).
    pub fn set_prefetch(&mut self, prefetch: Prefetch) {
        self.sessions.set_prefetch(prefetch);
    }

    /// Carries out a command.
    ///
    /// # Errors
    ///
    /// When it cannot be done; nothing was changed then.
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

    /// Takes a packet that the local application sent.
    pub fn handle_tun(&mut self, now: Instant, packet: Packet, io: &mut Io) {
        self.admit(now, packet, Origin::Tun, io);
    }

    /// Takes a packet from a neighbour.
    pub fn handle_link(&mut self, now: Instant, link: LinkId, packet: Packet, io: &mut Io) {
        self.admit(now, packet, Origin::Link(link), io);
    }

    /// Says that a link can carry packets now, or no longer. What waited in a link that goes down is lost.
    pub fn handle_link_state(&mut self, _now: Instant, link: LinkId, up: bool, _io: &mut Io) {
        self.links.set_up(link, up);
        self.session_deadline.set(None);
    }

    /// Does what is due: releases packets from links, repeats questions, gives up. Call when
    /// [`Engine::poll_deadline`] is past; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        self.now = now;
        self.links.release(now, io);
        if self.session_wake().is_some_and(|at| at <= now) {
            self.sessions.tick(now, io);
            self.flush_sessions(now, io);
        }
    }

    /// The instant at which [`Engine::handle_timeout`] (and then [`Engine::poll_transmit`]) wants to be called, if any.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Instant> {
        self.links.deadline().into_iter().chain(self.session_wake()).min()
    }

    /// Lets sessions produce at most one super-packet. True when they may have more at once: carry out what `io`
    /// holds to the end, then ask again. False: ask again after the next other call.
    pub fn poll_transmit(&mut self, now: Instant, io: &mut Io) -> bool {
        if self.sessions.idle() {
            return false;
        }
        self.now = now;
        let (links, routes, groups, map) = (&self.links, &self.routes, &self.groups, &self.map);
        let blocked = |dest| way_is_full(links, routes, groups, map, dest);
        let more = self.sessions.poll(now, blocked, io);
        if more {
            self.flush_sessions(now, io);
        }
        more
    }

    /// Whether [`Engine::poll_transmit`] may have something to send, so that it is worth a turn.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        !self.sessions.idle()
    }

    /// Says that a link's transport is full (or has room again). Packets for a full link are dropped and
    /// counted as [`crate::DropCause::Congested`]; sessions that leave on it pause.
    pub fn set_link_congested(&mut self, link: LinkId, congested: bool) {
        self.links.set_congested(link, congested);
        self.session_deadline.set(None);
    }

    /// Says that a receiver's queue refused a delivery, for the counters.
    pub fn delivery_refused(&mut self, _receiver: ReceiverId) {
        self.receivers.refused();
    }

    /// A frozen picture of the counters.
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

    /// When sessions have something to do.
    fn session_wake(&self) -> Option<Instant> {
        if let Some(known) = self.session_deadline.get() {
            return known;
        }
        let blocked = |dest| way_is_full(&self.links, &self.routes, &self.groups, &self.map, dest);
        let deadline = self.sessions.deadline(blocked);
        self.session_deadline.set(Some(deadline));
        deadline
    }

    /// Sends what sessions have queued.
    fn flush_sessions(&mut self, now: Instant, io: &mut Io) {
        self.session_deadline.set(None);
        // Sending may reach a session of ours again only through a link, so the queue cannot grow meanwhile.
        let mut queue = std::mem::take(self.sessions.outgoing());
        for mut outgoing in queue.drain(..) {
            if outgoing.packet.parse(self.config.mtu).is_err() {
                debug_assert!(false, "sessions make good packets");
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

/// Whether a link that packets to `dest` would leave on is up but full. A link that is down does not count: waiting
/// for it could take for ever, and the receivers behind it will be given up by name.
fn way_is_full(links: &Links, routes: &Routes, groups: &Groups, map: &AddressMap, dest: u32) -> bool {
    if map.is_group(dest) {
        let branch = groups.by_addr(dest).and_then(|group| group.branch());
        return branch.is_some_and(|branch| branch.links.iter().any(|&link| links.is_congested(link)));
    }
    map.node_of(dest).is_some_and(|node| links.is_congested(routes.towards(node)))
}
