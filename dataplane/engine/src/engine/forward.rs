//! Forward a packet: deliver it locally, to a group, or to a neighbour.

use std::net::Ipv4Addr;

use super::icmp::IcmpError;
use super::Engine;
use crate::address::Owner;
use crate::link::{Sent, NO_LINK};
use crate::route::OUTSIDE;
use crate::stats::DropCause;
use crate::tap::TapPoint;
use crate::wire::ip;
use crate::{
    FlowFilter, Instant, Io, LinkId, NodeId, Packet, PacketError, TtlMode, PROBE_PORT, SESSION_PORT,
};

/// The source of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The TUN device of the local application.
    Tun,
    /// The engine itself: messages, sessions, ICMP.
    Own,
    /// A neighbour.
    Link(LinkId),
}

impl Engine {
    /// Counts, parses and forwards a received packet.
    #[inline]
    pub(super) fn admit(&mut self, now: Instant, mut packet: Packet, origin: Origin, io: &mut Io) {
        if let Err(error) = packet.parse(self.config.mtu) {
            let cause =
                if error == PacketError::NotIpv4 { DropCause::Unsupported } else { DropCause::Malformed };
            self.drop_packet(now, packet, origin, cause, io);
            return;
        }
        let (segments, bytes) = (packet.segments(), packet.wire_bytes());
        match origin {
            Origin::Link(link) => {
                if let Some(link) = self.links.get_mut(link) {
                    link.rx.count(segments, bytes);
                }
            }
            _ => {
                self.tun_rx.count(segments, bytes);
                self.flows.count(&packet);
            }
        }
        self.dispatch(now, packet, origin, io);
    }

    /// Forwards a parsed packet. Returns the number of copies that were sent to neighbours.
    #[inline]
    pub(super) fn dispatch(&mut self, now: Instant, packet: Packet, origin: Origin, io: &mut Io) -> u32 {
        if self.tapped && !matches!(origin, Origin::Link(_)) {
            io.tap(now, TapPoint::Sent, &packet);
        }
        if self.paused {
            self.drop_packet(now, packet, origin, DropCause::Paused, io);
            return 0;
        }
        match self.map.owner(packet.meta().dst) {
            Owner::Node(node) | Owner::User(node) if node == self.config.node_id => {
                self.deliver(now, packet, None, origin, io);
                0
            }
            Owner::Behind(node) if node == self.config.node_id => {
                self.deliver_behind(now, packet, origin, io);
                0
            }
            Owner::Node(node) | Owner::User(node) | Owner::Behind(node) => {
                self.forward(now, packet, node, origin, io)
            }
            Owner::Group => self.fan_out(now, packet, origin, io),
            Owner::Nobody => self.forward_outside(now, packet, origin, io),
        }
    }

    #[inline]
    fn forward(&mut self, now: Instant, mut packet: Packet, dst: NodeId, origin: Origin, io: &mut Io) -> u32 {
        if !self.take_hop(&mut packet, origin) {
            self.refuse(now, packet, origin, DropCause::Ttl, Some(IcmpError::TimeExceeded), io);
            return 0;
        }
        if self.routes.has_explicit() {
            let src = self.map.edge_of(packet.meta().src).unwrap_or(0);
            let first = !matches!(origin, Origin::Link(_));
            if let Some(links) = self.routes.explicit(now, (src, dst), &mut packet, first, &self.links) {
                if let [link] = *links {
                    return self.send(now, link, packet, origin, io);
                }
                self.hops.clear();
                self.hops.extend_from_slice(links);
                return self.send_copies(now, packet, origin, io);
            }
        }
        let link = self.routes.towards(dst);
        if link == NO_LINK {
            // The user-space range is as wide as the overlay; beyond the nodes that exist, its addresses are outside.
            let user_space = || matches!(self.map.owner(packet.meta().dst), Owner::User(_));
            if dst != OUTSIDE && !self.routes.knows(dst) && user_space() {
                return self.forward_outside(now, packet, origin, io);
            }
            self.refuse(now, packet, origin, DropCause::NoRoute, Some(IcmpError::NetUnreachable), io);
            return 0;
        }
        self.send(now, link, packet, origin, io)
    }

    /// Forwards a packet to an address outside of the lab: towards the nearest uplink, whose kernel forwards it on.
    ///
    /// A packet from the uplink's own kernel is refused: the kernel has no route, and would send it back until its TTL
    /// is used up.
    fn forward_outside(&mut self, now: Instant, packet: Packet, origin: Origin, io: &mut Io) -> u32 {
        let leaves = is_unicast_outside(Ipv4Addr::from(packet.meta().dst));
        if leaves && !self.config.uplink {
            return self.forward(now, packet, OUTSIDE, origin, io);
        }
        if leaves && origin != Origin::Tun {
            self.write_to_tun(now, packet, io);
        } else {
            self.refuse(now, packet, origin, DropCause::NoRoute, Some(IcmpError::NetUnreachable), io);
        }
        0
    }

    /// Forwards a packet of a group: a copy to every child in the tree, and one for local delivery.
    ///
    /// Nodes install a new tree at different times, so parts of two trees together may form a loop meanwhile. A
    /// packet is therefore never sent back on the link that it arrived on, nor accepted by its source node: this
    /// prevents loops in rings and between neighbours. In denser networks the TTL or the hop limit ends a loop.
    fn fan_out(&mut self, now: Instant, mut packet: Packet, origin: Origin, io: &mut Io) -> u32 {
        let dst = packet.meta().dst;
        let (mut known, mut member) = (false, false);
        self.hops.clear();
        if let Some(group) = self.groups.by_addr(dst) {
            member = group.member;
            if let Some(branch) = group.branch() {
                known = true;
                self.hops.extend_from_slice(&branch.links);
            }
        }
        if let Origin::Link(link) = origin {
            let ours = self.map.edge_of(packet.meta().src) == Some(self.config.node_id);
            if ours || self.hops.contains(&link) {
                self.hops.retain(|&hop| !ours && hop != link);
                if ours || (self.hops.is_empty() && !self.delivers_group_packet(&packet, member)) {
                    self.refuse(now, packet, origin, DropCause::NoRoute, None, io);
                    return 0;
                }
            }
        }
        let here = matches!(origin, Origin::Link(_)) && self.delivers_group_packet(&packet, member);
        if !known && !here {
            self.refuse(now, packet, origin, DropCause::NoRoute, None, io);
            return 0;
        }
        if here {
            let copy = packet.clone_ref();
            self.deliver(now, copy, Some(Ipv4Addr::from(dst)), origin, io);
        }
        if self.hops.is_empty() {
            io.pool.put(packet);
            return 0;
        }
        if !self.take_hop(&mut packet, origin) {
            self.refuse(now, packet, origin, DropCause::Ttl, None, io);
            return 0;
        }
        self.send_copies(now, packet, origin, io)
    }

    fn delivers_group_packet(&self, packet: &Packet, member: bool) -> bool {
        if member {
            return true;
        }
        if packet.meta().protocol != ip::UDP {
            return false;
        }
        packet.ports() == (SESSION_PORT, SESSION_PORT)
            || self
                .flow_filter(packet, Some(Ipv4Addr::from(packet.meta().dst)))
                .is_some_and(|filter| self.receivers.matches_flow(&filter))
    }

    /// A relay decrements the TTL; the source node of a packet is a host and does not.
    #[inline]
    fn take_hop(&self, packet: &mut Packet, origin: Origin) -> bool {
        !matches!(origin, Origin::Link(_)) || packet.count_hop(self.config.ttl_mode == TtlMode::Uniform)
    }

    #[inline]
    fn send(&mut self, now: Instant, link: LinkId, packet: Packet, origin: Origin, io: &mut Io) -> u32 {
        match self.links.send(now, link, packet, io) {
            Sent::Taken => 1,
            Sent::Dropped => 0,
            Sent::TooLong(packet, mtu) => {
                self.send_fragmentation_needed(now, packet, mtu, origin, io);
                0
            }
        }
    }

    /// Sends a copy over every link in `self.hops`; they share the buffer.
    fn send_copies(&mut self, now: Instant, packet: Packet, origin: Origin, io: &mut Io) -> u32 {
        // Moved out, because an ICMP error about a copy may need the list itself.
        let hops = std::mem::take(&mut self.hops);
        let mut sent = 0;
        for &link in &hops {
            sent += self.send(now, link, packet.clone_ref(), origin, io);
        }
        self.hops = hops;
        io.pool.put(packet);
        sent
    }

    /// Delivers a packet locally: to a session, a receiver, or TUN.
    fn deliver(
        &mut self,
        now: Instant,
        mut packet: Packet,
        group: Option<Ipv4Addr>,
        origin: Origin,
        io: &mut Io,
    ) {
        let meta = *packet.meta();
        if meta.protocol == ip::UDP && !meta.fragment {
            if packet.ports() == (SESSION_PORT, SESSION_PORT) {
                match accept_datagram(&mut packet) {
                    Ok(()) => {
                        self.tap_received(now, &packet, io);
                        self.deliver_to_session(now, packet, io);
                    }
                    Err(cause) => self.drop_packet(now, packet, origin, cause, io),
                }
                return;
            }
            if packet.ports() == (PROBE_PORT, PROBE_PORT) {
                match self.take_probe(now, packet, origin, io) {
                    Some(other) => packet = other,
                    None => return,
                }
            }
            if !self.receivers.is_empty() {
                if let Some(filter) = self.flow_filter(&packet, group) {
                    if self.receivers.matches_flow(&filter) {
                        if let Err(cause) = accept_datagram(&mut packet) {
                            self.drop_packet(now, packet, origin, cause, io);
                            return;
                        }
                        self.flows.count(&packet);
                        self.tap_received(now, &packet, io);
                        self.receivers.deliver(&filter, packet, io);
                        return;
                    }
                }
            }
        }
        if matches!(self.map.owner(meta.dst), Owner::User(_)) {
            if self.endpoint && !meta.fragment && matches!(meta.protocol, ip::TCP | ip::ICMP) {
                self.flows.count(&packet);
                self.receivers.delivered.count(packet.segments(), packet.wire_bytes());
                self.tap_received(now, &packet, io);
                io.endpoint.push(packet);
                return;
            }
            self.drop_packet(now, packet, origin, DropCause::NoReceiver, io);
            return;
        }
        self.write_to_tun(now, packet, io);
    }

    /// Delivers a packet to a network behind this node: its kernel forwards it.
    ///
    /// A packet from the kernel itself is refused: the kernel has no route to the network, and would send the packet
    /// back until its TTL is used up.
    fn deliver_behind(&mut self, now: Instant, packet: Packet, origin: Origin, io: &mut Io) {
        if origin == Origin::Tun {
            self.refuse(now, packet, origin, DropCause::NoRoute, Some(IcmpError::NetUnreachable), io);
            return;
        }
        self.write_to_tun(now, packet, io);
    }

    fn write_to_tun(&mut self, now: Instant, packet: Packet, io: &mut Io) {
        self.flows.count(&packet);
        self.tun_tx.count(packet.segments(), packet.wire_bytes());
        self.tap_received(now, &packet, io);
        io.tun.push(packet);
    }

    #[inline]
    pub(super) fn tap_received(&self, now: Instant, packet: &Packet, io: &mut Io) {
        if self.tapped {
            io.tap(now, TapPoint::Received, packet);
        }
    }

    fn flow_filter(&self, packet: &Packet, group: Option<Ipv4Addr>) -> Option<FlowFilter> {
        let (src_port, dst_port) = packet.ports();
        let src_node = self.map.edge_of(packet.meta().src)?;
        Some(FlowFilter { src_node, group, src_port, dst_port })
    }

    fn deliver_to_session(&mut self, now: Instant, packet: Packet, io: &mut Io) {
        if let Some(source) = self.map.node_of(packet.meta().src) {
            self.sessions.handle_packet(now, source, &packet, io);
            self.flush_sessions(now, io);
        }
        io.pool.put(packet);
    }

    /// Drops and counts a packet, and sends an ICMP error to its source where one is required.
    fn refuse(
        &mut self,
        now: Instant,
        packet: Packet,
        origin: Origin,
        cause: DropCause,
        error: Option<IcmpError>,
        io: &mut Io,
    ) {
        if let Some(error) = error {
            self.send_icmp_error(now, &packet, error, origin, io);
        }
        self.drop_packet(now, packet, origin, cause, io);
    }

    fn send_fragmentation_needed(
        &mut self,
        now: Instant,
        packet: Packet,
        mtu: u16,
        origin: Origin,
        io: &mut Io,
    ) {
        let dont_fragment = packet.bytes()[6] & 0x40 != 0;
        if dont_fragment {
            self.send_icmp_error(now, &packet, IcmpError::FragmentationNeeded(mtu), origin, io);
        }
        io.pool.put(packet);
    }

    fn send_icmp_error(
        &mut self,
        now: Instant,
        packet: &Packet,
        error: IcmpError,
        origin: Origin,
        io: &mut Io,
    ) {
        if origin == Origin::Own {
            return;
        }
        let from = self.config.addresses.node_addr(self.config.node_id);
        if let Some(mut answer) = self.icmp.error_about(now, from, packet, error, &mut io.pool) {
            if answer.parse(self.config.mtu).is_ok() {
                self.dispatch(now, answer, Origin::Own, io);
            }
        }
    }

    pub(super) fn drop_packet(
        &mut self,
        now: Instant,
        packet: Packet,
        origin: Origin,
        cause: DropCause,
        io: &mut Io,
    ) {
        if self.tapped {
            io.tap(now, TapPoint::Refused(cause), &packet);
        }
        let segments = u64::from(packet.segments());
        match origin {
            Origin::Link(link) => {
                if let Some(link) = self.links.get_mut(link) {
                    link.rx.drops.add(cause, segments);
                }
            }
            Origin::Tun | Origin::Own => self.tun_rx.drops.add(cause, segments),
        }
        io.pool.put(packet);
    }
}

/// Whether packets to an address may leave the lab: it is no address of the host itself, of its link, or of a group
/// (RFC 6890). Metadata services of clouds are at a link-local address.
pub(super) fn is_unicast_outside(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    (1..224).contains(&first) && !addr.is_loopback() && !addr.is_link_local()
}

/// Checks a UDP datagram as a host does before delivery. Returns the cause for which it is dropped.
pub(super) fn accept_datagram(packet: &mut Packet) -> Result<(), DropCause> {
    if !packet.trim_to_datagram() {
        return Err(DropCause::Malformed);
    }
    if !crate::segment::has_good_checksum(packet) {
        return Err(DropCause::Checksum);
    }
    Ok(())
}
