//! Addresses as integers: the node or group that each belongs to.

use std::net::IpAddr;

use crate::{NodeId, Prefixes};

/// The kind of destination that an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Node(NodeId),
    /// A node, by its user-space address for the Python API.
    User(NodeId),
    /// A network behind a node.
    Behind(NodeId),
    Group,
    Nobody,
}

/// The address plan as integers, because every packet is compared with it.
#[derive(Debug, Clone)]
pub(crate) struct AddressMap {
    base: u32,
    hosts: u32,
    user_base: Option<u32>,
    group_base: u32,
    group_mask: u32,
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
        match self.owner(addr) {
            Owner::Node(node) | Owner::User(node) => Some(node),
            Owner::Behind(_) | Owner::Group | Owner::Nobody => None,
        }
    }

    /// The node that an address belongs to or is behind: where its packets enter and leave the overlay.
    pub(crate) fn edge_of(&self, addr: u32) -> Option<NodeId> {
        match self.owner(addr) {
            Owner::Node(node) | Owner::User(node) | Owner::Behind(node) => Some(node),
            Owner::Group | Owner::Nobody => None,
        }
    }

    /// The same for an address in the form that users see.
    pub(crate) fn edge_at(&self, addr: IpAddr) -> Option<NodeId> {
        match addr {
            IpAddr::V4(addr) => self.edge_of(u32::from(addr)),
            IpAddr::V6(_) => None,
        }
    }

    /// The number of the node that the address belongs to or is behind or, for the address of a group, its distance from the first one of the pool; 0 for other
    /// addresses.
    pub(crate) fn number_of(&self, addr: u32) -> u32 {
        match self.owner(addr) {
            Owner::Node(node) | Owner::User(node) | Owner::Behind(node) => node,
            Owner::Group => addr - self.group_base,
            Owner::Nobody => 0,
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
