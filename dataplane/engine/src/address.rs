//! Addresses as integers: the node or group that each belongs to.

use std::net::{IpAddr, Ipv6Addr};

use crate::wire::ip6;
use crate::{NodeId, Packet, Prefixes};

/// The kind of destination that an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Node(NodeId),
    /// A node, by its user-space address for the Python API.
    User(NodeId),
    /// A network behind a node.
    Behind(NodeId),
    Group,
    /// An IPv6 multicast address. The overlay has no IPv6 groups, and neighbour discovery has no use on it.
    Multicast6,
    Nobody,
}

impl Owner {
    /// The node, by an address of either kind.
    pub(crate) const fn node(self) -> Option<NodeId> {
        match self {
            Self::Node(node) | Self::User(node) => Some(node),
            Self::Behind(_) | Self::Group | Self::Multicast6 | Self::Nobody => None,
        }
    }

    /// The node at which packets from or to the address enter or leave the overlay: its own, or the one it is behind.
    const fn edge(self) -> Option<NodeId> {
        match self {
            Self::Behind(node) => Some(node),
            _ => self.node(),
        }
    }
}

/// The address plan as integers, because every packet is compared with it.
#[derive(Debug, Clone)]
pub(crate) struct AddressMap {
    base: u32,
    hosts: u32,
    user_base: Option<u32>,
    group_base: u32,
    group_mask: u32,
    /// The address of node 0.
    base6: Option<u128>,
    prefixes: Prefixes,
}

impl AddressMap {
    pub(crate) fn new(plan: &crate::AddressPlan, prefixes: &Prefixes) -> Self {
        let group_mask = u32::from(plan.multicast_mask);
        Self {
            base: u32::from(plan.base_addr),
            hosts: !u32::from(plan.net_mask),
            user_base: plan.user_base_addr.map(u32::from),
            group_base: u32::from(plan.multicast_base) & group_mask,
            group_mask,
            prefixes: prefixes.clone(),
            base6: plan.base_addr6.map(Ipv6Addr::to_bits),
        }
    }

    /// The destination of a parsed packet of either version.
    #[inline]
    pub(crate) fn destination(&self, packet: &Packet) -> Owner {
        if packet.meta().v6 {
            return self.owner6(ip6::destination(packet.bytes()));
        }
        self.owner(packet.meta().dst)
    }

    /// The node at which a parsed packet of either version entered the overlay.
    #[inline]
    pub(crate) fn source(&self, packet: &Packet) -> Option<NodeId> {
        if packet.meta().v6 {
            return self.owner6(ip6::source(packet.bytes())).node();
        }
        self.edge_of(packet.meta().src)
    }

    pub(crate) fn owner6(&self, addr: u128) -> Owner {
        if ip6::is_multicast(addr) {
            return Owner::Multicast6;
        }
        match self.base6.map(|base| addr.wrapping_sub(base)) {
            Some(node) if node <= u128::from(self.hosts) => Owner::Node(node as NodeId),
            _ => Owner::Nobody,
        }
    }

    #[inline]
    pub(crate) fn owner(&self, addr: u32) -> Owner {
        let node = addr.wrapping_sub(self.base);
        if node <= self.hosts {
            return Owner::Node(node);
        }
        if addr & self.group_mask == self.group_base {
            return Owner::Group;
        }
        // Networks behind nodes come first: the user-space range is as wide as the overlay, but only the first of its
        // addresses, of the nodes that exist, are used.
        if let Some(node) = self.prefixes.node_before(addr) {
            return Owner::Behind(node);
        }
        match self.user_base.map(|base| addr.wrapping_sub(base)) {
            Some(node) if node <= self.hosts => Owner::User(node),
            _ => Owner::Nobody,
        }
    }

    /// The node that an address of either kind belongs to.
    pub(crate) fn node_of(&self, addr: u32) -> Option<NodeId> {
        self.owner(addr).node()
    }

    /// The node that an address belongs to or is behind: where its packets enter and leave the overlay.
    pub(crate) fn edge_of(&self, addr: u32) -> Option<NodeId> {
        self.owner(addr).edge()
    }

    /// The same for an address in the form that users see.
    pub(crate) fn edge_at(&self, addr: IpAddr) -> Option<NodeId> {
        self.owner_at(addr).edge()
    }

    /// The owner of an address in the form that users see.
    pub(crate) fn owner_at(&self, addr: IpAddr) -> Owner {
        match addr {
            IpAddr::V4(addr) => self.owner(u32::from(addr)),
            IpAddr::V6(addr) => self.owner6(addr.to_bits()),
        }
    }

    /// The number of the node that the destination belongs to or is behind or, for the address of a group, its distance
    /// from the first one of the pool; 0 for other addresses.
    pub(crate) fn number_of_destination(&self, packet: &Packet) -> u32 {
        match self.destination(packet) {
            Owner::Group => packet.meta().dst - self.group_base,
            owner => owner.edge().unwrap_or(0),
        }
    }

    pub(crate) fn is_group(&self, addr: u32) -> bool {
        self.owner(addr) == Owner::Group
    }
}

impl Default for AddressMap {
    fn default() -> Self {
        Self::new(&crate::AddressPlan::default(), &Prefixes::default())
    }
}
