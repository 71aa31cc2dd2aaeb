//! Execute commands: configuration, links, routes, groups, receivers, messages and sessions.

use std::net::Ipv4Addr;

use super::forward::Origin;
use super::{Engine, MAX_MESSAGE};
use crate::address::AddressMap;
use crate::flow::Way;
use crate::rng::Rng;
use crate::vnet::F_NEEDS_CSUM;
use crate::wire::{checksum, ip};
use crate::{
    AddressPlan, Command, CommandError, CommandOutput, Event, GroupId, GroupInfo, GroupRoute, Instant, Io,
    LinkId, LinkSpec, NodeId, Packet, PairRoute, Pool, SharedBytes, Target, VnetHeader, HEADROOM,
};

type Output = Result<CommandOutput, CommandError>;
/// The UDP header (RFC 768).
const UDP_HEADER: usize = 8;

impl Engine {
    pub(super) fn execute(&mut self, now: Instant, command: Command, io: &mut Io) -> Output {
        match command {
            Command::Configure { addresses } => Ok(self.configure(addresses)),
            Command::AddLink { remote, remote_name, spec } => {
                self.add_link(now, remote, &remote_name, spec, io)
            }
            Command::SetLink { remote, spec } => self.set_link(now, remote, spec, io),
            Command::SetPaused { paused } => Ok(self.pause(now, paused, io)),
            Command::RemoveLink { remote } => self.remove_link(now, remote, io),
            Command::InstallRoutes { table, routes, removed } => {
                check_routes(&routes)?;
                self.routes.install(table, routes, &removed, &mut self.links);
                Ok(CommandOutput::Done)
            }
            Command::SetPins { pins, removed } => {
                self.routes.set_pins(pins, &removed);
                Ok(CommandOutput::Done)
            }
            Command::RoutedFlows { limit } => Ok(CommandOutput::RoutedFlows(self.routed_flows(now, limit))),
            Command::InstallGroups { groups, removed } => Ok(self.install_groups(groups, &removed, io)),
            Command::InstallGroupRoutes { group_id, source, routes } => {
                Ok(self.install_group_routes(group_id, source, routes, io))
            }
            Command::JoinGroup { group_id } => self.join(group_id, io),
            Command::LeaveGroup { group_id } => self.leave(now, group_id, io),
            Command::RegisterReceiver { filter } => {
                Ok(CommandOutput::Receiver(self.receivers.register(filter)?))
            }
            Command::CloseReceiver { receiver } => {
                self.receivers.close(receiver)?;
                Ok(CommandOutput::Done)
            }
            Command::SendMessage { target, src_port, dst_port, payload } => {
                self.send_message(now, target, (src_port, dst_port), &payload, io)
            }
            Command::SendData { dest, receivers, data } => self.send_data(now, dest, receivers, data, io),
            Command::ReceiveData { dest, source, expected_bytes } => {
                self.check_dest(dest)?;
                let session = self.sessions.receive(now, dest, source, expected_bytes, io)?;
                Ok(CommandOutput::Session(session))
            }
            Command::SessionReport { session } => {
                Ok(CommandOutput::Report(Box::new(self.sessions.report(now, session)?)))
            }
            Command::CancelSession { session } => {
                self.sessions.cancel(now, session, io)?;
                Ok(CommandOutput::Done)
            }
            Command::FindHop { src, target, flow, route } => self.find_hop(src, target, &flow, route),
            Command::NodeGone { node, reason } => {
                self.sessions.node_gone(now, node, &reason, io);
                Ok(CommandOutput::Done)
            }
            Command::ProbeLink { remote, order } => self.probe_link(now, remote, order, io),
        }
    }

    fn pause(&mut self, now: Instant, paused: bool, io: &mut Io) -> CommandOutput {
        if self.paused != paused {
            io.events.push(Event::NodePaused { paused });
        }
        self.set_paused(now, paused);
        if !paused {
            self.links.release(now, io);
        }
        CommandOutput::Done
    }

    fn configure(&mut self, addresses: AddressPlan) -> CommandOutput {
        self.map = AddressMap::new(&addresses, &self.config.prefixes);
        self.links.set_addresses(self.map.clone());
        self.sessions.set_addresses(addresses.clone());
        self.config.addresses = addresses;
        CommandOutput::Done
    }

    // ----------------------------------------------------------------------------------------------- links

    fn add_link(
        &mut self,
        now: Instant,
        remote: NodeId,
        remote_name: &str,
        spec: LinkSpec,
        io: &mut Io,
    ) -> Output {
        check_spec(&spec)?;
        if remote == self.config.node_id {
            return Err(CommandError::Invalid(format!("node {remote} cannot be its own neighbour")));
        }
        self.routes.links_changed();
        let rng = Rng::new(self.config.seed, &["link", &self.config.name, remote_name]);
        let carried = self.links.find(remote).is_some_and(|link| self.links.carries(link));
        let link = self.links.add(now, remote, rng, spec, io);
        self.note_link(link, carried, io);
        Ok(CommandOutput::Link(link))
    }

    fn set_link(&mut self, now: Instant, remote: NodeId, spec: LinkSpec, io: &mut Io) -> Output {
        check_spec(&spec)?;
        let link = self.known_link(remote)?;
        let carried = self.links.carries(link);
        self.links.set(now, link, spec, io);
        self.note_link(link, carried, io);
        self.routes.links_changed();
        Ok(CommandOutput::Done)
    }

    fn remove_link(&mut self, now: Instant, remote: NodeId, io: &mut Io) -> Output {
        let link = self.known_link(remote)?;
        let carried = self.links.carries(link);
        self.links.remove(now, link, io);
        self.note_link(link, carried, io);
        self.probes.link_down(link, io);
        self.routes.links_changed();
        Ok(CommandOutput::Done)
    }

    /// Reports that a link began or ceased to carry packets, if it did.
    pub(super) fn note_link(&self, link: LinkId, carried: bool, io: &mut Io) {
        let carries = self.links.carries(link);
        if let Some(remote) = self.links.remote(link).filter(|_| carries != carried) {
            io.events.push(Event::LinkCarries { remote, carries });
        }
    }

    fn known_link(&self, remote: NodeId) -> Result<LinkId, CommandError> {
        self.links.find(remote).ok_or(CommandError::UnknownLink(remote))
    }

    // ---------------------------------------------------------------------------------------------- groups

    fn install_groups(&mut self, groups: Vec<GroupInfo>, removed: &[GroupId], io: &mut Io) -> CommandOutput {
        for &group_id in removed {
            if self.groups.uninstall(group_id) {
                io.events.push(Event::GroupRemoved { group_id });
            }
        }
        for info in groups {
            let GroupInfo { group_id, group_ip, source, ref label } = info;
            io.events.push(Event::GroupInstalled { group_id, group_ip, source, label: label.clone() });
            self.groups.install(info);
        }
        CommandOutput::Done
    }

    fn install_group_routes(
        &mut self,
        group_id: GroupId,
        source: NodeId,
        routes: Vec<GroupRoute>,
        io: &mut Io,
    ) -> CommandOutput {
        let routes = self.groups.set_routes(group_id, routes, &mut self.links);
        io.events.push(Event::GroupRoutesInstalled { group_id, source, routes });
        CommandOutput::Done
    }

    fn join(&mut self, group_id: GroupId, io: &mut Io) -> Output {
        if self.groups.set_member(group_id, true) {
            io.events.push(Event::LocalMemberJoined { group_id });
        }
        let info = self.groups.get(group_id).and_then(|group| group.info.as_ref());
        if let Some(addr) = info.map(|info| info.group_ip) {
            self.sessions.join_group(addr);
        }
        Ok(CommandOutput::Done)
    }

    fn leave(&mut self, now: Instant, group_id: GroupId, io: &mut Io) -> Output {
        let addr = self.groups.get(group_id).and_then(|group| group.info.as_ref()).map(|info| info.group_ip);
        if self.groups.set_member(group_id, false) {
            io.events.push(Event::LocalMemberLeft { group_id });
        }
        if let Some(addr) = addr {
            self.sessions.leave_group(now, addr, io);
        }
        Ok(CommandOutput::Done)
    }

    // -------------------------------------------------------------------------------------------- messages

    fn send_message(
        &mut self,
        now: Instant,
        target: Target,
        ports: (Option<u16>, Option<u16>),
        payload: &SharedBytes,
        io: &mut Io,
    ) -> Output {
        let payload = payload.as_slice();
        if payload.len() > MAX_MESSAGE {
            return Err(CommandError::MessageTooLarge { len: payload.len(), max: MAX_MESSAGE });
        }
        let dst = match target {
            Target::Group(addr) => self.check_group(addr)?,
            Target::Node(node) => self.check_node(node)?,
        };
        let src = self.config.addresses.user_addr(self.config.node_id);
        let ports = (ports.0.unwrap_or(self.config.client_port), ports.1.unwrap_or(self.config.server_port));
        let mut packet = udp_packet(u32::from(src), u32::from(dst), ports, payload, &mut io.pool);
        packet.parse(self.config.mtu).map_err(|error| CommandError::Invalid(error.to_string()))?;
        self.flows.count(now, Way::Out, &packet);
        self.dispatch(now, packet, Origin::Own, io);
        Ok(CommandOutput::Sent(payload.len()))
    }

    fn check_group(&self, addr: Ipv4Addr) -> Result<Ipv4Addr, CommandError> {
        let group = self.groups.by_addr(u32::from(addr)).ok_or(CommandError::UnknownGroupAddress(addr))?;
        let id = group.info.as_ref().map_or(0, |info| info.group_id);
        if group.branches.is_empty() {
            return Err(CommandError::NoGroupRoutes(id));
        }
        Ok(addr)
    }

    fn check_node(&self, node: NodeId) -> Result<Ipv4Addr, CommandError> {
        if node != self.config.node_id && !self.routes.reaches(self.config.node_id, node) {
            return Err(CommandError::NoRoute(node));
        }
        Ok(self.config.addresses.user_addr(node))
    }

    // -------------------------------------------------------------------------------------------- sessions

    fn send_data(
        &mut self,
        now: Instant,
        dest: Ipv4Addr,
        receivers: Vec<NodeId>,
        data: SharedBytes,
        io: &mut Io,
    ) -> Output {
        self.check_dest(dest)?;
        if let Some(node) = self.map.node_of(u32::from(dest)) {
            if let Some(&other) = receivers.iter().find(|&&receiver| receiver != node) {
                return Err(CommandError::BadReceiver(other, "the destination is another node"));
            }
        }
        Ok(CommandOutput::Session(self.sessions.send(now, dest, receivers, data, io)?))
    }

    fn check_dest(&self, dest: Ipv4Addr) -> Result<(), CommandError> {
        let addr = u32::from(dest);
        if self.map.is_group(addr) {
            return self.groups.by_addr(addr).map(|_| ()).ok_or(CommandError::UnknownGroupAddress(dest));
        }
        self.map.node_of(addr).map(|_| ()).ok_or(CommandError::UnknownAddress(dest.into()))
    }
}

fn check_routes(routes: &[PairRoute]) -> Result<(), CommandError> {
    let sound = |route: &PairRoute| route.id != 0 && route.weight > 0.0 && route.weight.is_finite();
    match routes.iter().find(|route| !sound(route)) {
        None => Ok(()),
        Some(PairRoute { id, weight, .. }) => Err(CommandError::Invalid(format!(
            "route {id} with weight {weight}, expected a number from 1 and a positive weight"
        ))),
    }
}

fn check_spec(spec: &LinkSpec) -> Result<(), CommandError> {
    spec.check().map_err(CommandError::Invalid)
}

/// A UDP packet with a partial checksum, to be completed by the device or the receiving kernel (RFC 768; NEEDS_CSUM
/// of virtio).
fn udp_packet(src: u32, dst: u32, ports: (u16, u16), payload: &[u8], pool: &mut Pool) -> Packet {
    let len = ip::HEADER + UDP_HEADER + payload.len();
    let udp_len = (UDP_HEADER + payload.len()) as u16;
    let mut packet = pool.get_for(len);
    if let Some(storage) = packet.storage_mut() {
        let out = &mut storage[HEADROOM..HEADROOM + len];
        ip::emit(out, src, dst, ip::UDP, len as u16);
        let udp = &mut out[ip::HEADER..];
        udp[0..2].copy_from_slice(&ports.0.to_be_bytes());
        udp[2..4].copy_from_slice(&ports.1.to_be_bytes());
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        let pseudo = checksum::fold(checksum::pseudo_header(src, dst, ip::UDP, udp_len));
        udp[6..8].copy_from_slice(&pseudo.to_be_bytes());
        udp[UDP_HEADER..].copy_from_slice(payload);
    }
    let vnet = VnetHeader {
        flags: F_NEEDS_CSUM,
        csum_start: ip::HEADER as u16,
        csum_offset: 6,
        ..VnetHeader::default()
    };
    packet.set_frame(HEADROOM, len, vnet);
    packet
}
