//! What a node and a link are told at the start: plain frozen structures with units in their names.

use std::net::Ipv4Addr;

use crate::NodeId;

/// The UDP port, on both sides, of the lossless protocol. Above Linux' ephemeral range (32768–60999), so that
/// no ordinary socket of an application gets it by chance.
pub const SESSION_PORT: u16 = 61_997;

/// Default source port of messages from Python.
pub const DEFAULT_CLIENT_PORT: u16 = 45_535;
/// Default destination port of messages from Python.
pub const DEFAULT_SERVER_PORT: u16 = 8_888;

/// How node ids and group addresses map to IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPlan {
    /// Node *n* has `base_addr + n` on its TUN device.
    pub base_addr: Ipv4Addr,
    /// The network all of them are in.
    pub net_mask: Ipv4Addr,
    /// A second address `base + n` that never reaches TUN and belongs to the Python API, if there is one.
    pub user_base_addr: Option<Ipv4Addr>,
    /// First address of the group pool.
    pub multicast_base: Ipv4Addr,
    /// Mask of the group pool.
    pub multicast_mask: Ipv4Addr,
}

impl Default for AddressPlan {
    fn default() -> Self {
        Self {
            base_addr: Ipv4Addr::new(10, 0, 0, 0),
            net_mask: Ipv4Addr::new(255, 255, 0, 0),
            user_base_addr: None,
            multicast_base: Ipv4Addr::new(239, 255, 0, 0),
            multicast_mask: Ipv4Addr::new(255, 255, 0, 0),
        }
    }
}

impl AddressPlan {
    /// The TUN address of a node.
    #[must_use]
    pub fn node_addr(&self, node: NodeId) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base_addr).wrapping_add(node))
    }

    /// The address that messages of a node carry: the user-space one where there is one.
    #[must_use]
    pub fn user_addr(&self, node: NodeId) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.user_base_addr.unwrap_or(self.base_addr)).wrapping_add(node))
    }

    /// Whether an address lies in the group pool.
    #[must_use]
    pub fn is_group(&self, addr: Ipv4Addr) -> bool {
        let mask = u32::from(self.multicast_mask);
        u32::from(addr) & mask == u32::from(self.multicast_base) & mask
    }
}

/// What a hop does with the TTL of packets that it forwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum TtlMode {
    /// Every relay takes one, as a router does (RFC 1812, section 5.3.1). Traceroute shows the hops.
    #[default]
    Uniform,
    /// The overlay is one hop to IP; loops are cut by the hop count that travels with the packet
    /// ([`crate::Packet::hops`]). For topologies with paths of more than 255 links.
    Pipe,
}

/// Limits of the lossless protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// How long a sender waits for receivers that are not ready yet, in milliseconds.
    pub ready_grace_ms: u64,
    /// After how much silence a peer is given up, in milliseconds.
    pub peer_timeout_ms: u64,
    /// How long a receiver waits for its sender to appear, in milliseconds.
    pub start_timeout_ms: u64,
    /// Upper bound of unacknowledged bytes in flight.
    pub window_bytes: u64,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            ready_grace_ms: 10_000,
            peer_timeout_ms: 15_000,
            start_timeout_ms: 600_000,
            window_bytes: 8 << 20,
        }
    }
}

/// Everything that one [`crate::Engine`] is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node.
    pub node_id: NodeId,
    /// Its name; random streams of its links derive from it.
    pub name: String,
    /// How ids map to addresses.
    pub addresses: AddressPlan,
    /// Random bits that no other life of a node has: the numbers of its transfers derive from them. The runtime
    /// draws them from the kernel for every node that it takes in; a simulation sets them, to be repeatable.
    pub incarnation: u64,
    /// The number that a session of an earlier engine of this node had last: numbers are never used again.
    pub last_session: crate::SessionId,
    /// Largest IP packet of one segment.
    pub mtu: u16,
    /// The lab's seed.
    pub seed: u64,
    /// Source port of messages that name none.
    pub client_port: u16,
    /// Destination port of messages that name none.
    pub server_port: u16,
    /// What relays do with TTL.
    pub ttl_mode: TtlMode,
    /// Limits of lossless sessions.
    pub sessions: SessionConfig,
}

impl NodeConfig {
    /// A node with the defaults of the rendered TOML files.
    #[must_use]
    pub fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            name: format!("n{node_id}"),
            addresses: AddressPlan::default(),
            incarnation: 0,
            last_session: 0,
            mtu: 1500,
            seed: 0,
            client_port: DEFAULT_CLIENT_PORT,
            server_port: DEFAULT_SERVER_PORT,
            ttl_mode: TtlMode::Uniform,
            sessions: SessionConfig::default(),
        }
    }
}

/// What a link does to the packets that leave on it, in one direction. The default does nothing.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct LinkSpec {
    /// Bits per second, counted with IP headers of every MTU segment.
    pub rate_bps: Option<u64>,
    /// Constant one-way delay in microseconds.
    pub delay_us: u64,
    /// Probability that a segment is lost, 0 to 1.
    pub loss: f64,
    /// Longest queue in front of the serializer, in bytes; without a rate, the most that is under way in the delay.
    pub limit_bytes: Option<u64>,
    /// The same in MTU segments; with both, the tighter one drops.
    pub limit_packets: Option<u64>,
    /// Largest IP packet of one segment that the link carries.
    pub mtu: Option<u16>,
}

impl LinkSpec {
    /// Whether the link changes nothing about time, order or loss.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.rate_bps.is_none() && self.delay_us == 0 && self.loss == 0.0
    }
}
