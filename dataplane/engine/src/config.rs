//! Configuration of a node and of a link: plain structures with units in their field names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::{Distribution, NodeId, Prefixes, Trace};

/// The UDP port of the lossless protocol, source and destination. It lies above the ephemeral ports of Linux
/// (32768–60999), so the kernel never assigns it to a socket of an application.
pub const SESSION_PORT: u16 = 61_997;

/// The UDP port of probes between neighbours, source and destination.
pub const PROBE_PORT: u16 = 61_998;

/// Default source port of messages from Python.
pub const DEFAULT_CLIENT_PORT: u16 = 45_535;
/// Default destination port of messages from Python.
pub const DEFAULT_SERVER_PORT: u16 = 8_888;

/// How node ids and group addresses map to IP addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPlan {
    /// Node *n* has `base_addr + n` on its TUN device.
    pub base_addr: Ipv4Addr,
    /// Mask of the network that contains all node addresses.
    pub net_mask: Ipv4Addr,
    /// Base of a second range of addresses, `base + n`, which belong to the Python API and never reach TUN. `None`:
    /// no such range.
    pub user_base_addr: Option<Ipv4Addr>,
    /// First address of the group pool.
    pub multicast_base: Ipv4Addr,
    /// Mask of the group pool.
    pub multicast_mask: Ipv4Addr,
    /// Node *n* has `base_addr6 + n` as well. `None`: the nodes have no IPv6 addresses.
    pub base_addr6: Option<Ipv6Addr>,
}

impl Default for AddressPlan {
    fn default() -> Self {
        Self {
            base_addr: Ipv4Addr::new(10, 0, 0, 0),
            net_mask: Ipv4Addr::new(255, 255, 0, 0),
            user_base_addr: None,
            multicast_base: Ipv4Addr::new(239, 255, 0, 0),
            multicast_mask: Ipv4Addr::new(255, 255, 0, 0),
            base_addr6: None,
        }
    }
}

impl AddressPlan {
    /// The TUN address of a node.
    #[must_use]
    pub fn node_addr(&self, node: NodeId) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base_addr).wrapping_add(node))
    }

    /// The IPv6 address of a node on TUN, if the plan has such addresses.
    #[must_use]
    pub fn node_addr6(&self, node: NodeId) -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from_bits(self.base_addr6?.to_bits().wrapping_add(u128::from(node))))
    }

    /// The source address of a node's messages: the user-space address where the plan has one.
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

/// How a relay treats the TTL of packets that it forwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum TtlMode {
    /// Every relay decrements the TTL, as a router does (RFC 1812, section 5.3.1). Traceroute shows the hops.
    #[default]
    Uniform,
    /// Relays leave the TTL unchanged: the overlay is one hop to IP, as in the pipe model of RFC 3443. Forwarding
    /// loops end by the hop count that the packet carries ([`crate::Packet::hops`]). For topologies with paths of
    /// more than 255 links.
    Pipe,
}

/// Limits of the lossless protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// How long a sender waits for receivers that have not accepted its offer, in milliseconds.
    pub ready_grace_ms: u64,
    /// Time without a message after which a peer is considered failed, in milliseconds.
    pub peer_timeout_ms: u64,
    /// How long a receiver waits for the first message of its sender, in milliseconds.
    pub start_timeout_ms: u64,
    /// Upper bound of unacknowledged payload in flight, in bytes.
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

/// The configuration of one [`crate::Engine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node.
    pub node_id: NodeId,
    /// Its name; the random streams of its links are derived from it.
    pub name: String,
    /// How ids map to addresses.
    pub addresses: AddressPlan,
    /// The networks behind the nodes of the lab.
    pub prefixes: Prefixes,
    /// Whether the kernel of this node forwards packets to the outside of the lab.
    pub uplink: bool,
    /// The incarnation: random bits from which the numbers of this node's transfers are derived. They differ in every
    /// start of a node. The runtime reads them from the kernel's random number generator; a simulation sets them, so
    /// that runs are repeatable.
    pub incarnation: u64,
    /// The highest session id of an earlier engine of this node: session ids are never reused.
    pub last_session: crate::SessionId,
    /// Largest IP packet of one segment, in bytes.
    pub mtu: u16,
    /// The seed of the lab's random numbers.
    pub seed: u64,
    /// Source port of messages that specify none.
    pub client_port: u16,
    /// Destination port of messages that specify none.
    pub server_port: u16,
    /// How relays treat the TTL.
    pub ttl_mode: TtlMode,
    /// Limits of lossless sessions.
    pub sessions: SessionConfig,
}

impl NodeConfig {
    /// A configuration with the defaults of the rendered TOML files.
    #[must_use]
    pub fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            name: format!("n{node_id}"),
            addresses: AddressPlan::default(),
            prefixes: Prefixes::default(),
            uplink: false,
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

/// The most jitter of a link that reorders packets, as a multiple of its delay. A delay is never below zero, and a
/// distribution with more jitter would consist of very many zeros and a few large values.
const MOST_JITTER: u64 = 3;

/// Bytes of a full packet on a link without an MTU of its own.
const DEFAULT_MTU: u16 = 1500;

/// How far the mean and the standard deviation of a jitter table may be from 0 and 1.
const TABLE_TOLERANCE: f64 = 0.01;

/// Impairments of a link in one direction, applied to outgoing packets. The default has none.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct LinkSpec {
    /// Rate in bits per second; IP and transport headers of every MTU segment count.
    pub rate_bps: Option<u64>,
    /// Bytes that may leave back to back, faster than the rate, after the link was idle (the depth of a token bucket);
    /// at least one full packet, which is 1500 bytes where `mtu` is not stated. `None`: one packet, so packets are
    /// never closer than the rate allows.
    pub rate_burst_bytes: Option<u64>,
    /// One-way delay in microseconds; its mean where there is jitter.
    pub delay_us: u64,
    /// Standard deviation of the delay in microseconds; at most `delay_us` unless packets may be reordered.
    pub jitter_us: u64,
    /// How the delay is distributed, where there is no table.
    pub jitter_distribution: Distribution,
    /// A distribution of the user's own instead: its quantiles at equal steps of probability, ascending, with mean 0
    /// and standard deviation 1 when interpolated linearly.
    pub jitter_table: Option<Arc<[f64]>>,
    /// Whether packets whose delay is shorter overtake earlier ones.
    pub jitter_reorder: bool,
    /// Probability that a segment is lost, 0 to 1.
    pub loss: f64,
    /// Mean number of consecutive segments that are lost together, at least 1. `None`: losses are independent.
    pub loss_burst: Option<f64>,
    /// Probability that a segment is delivered twice, 0 to 1.
    pub duplicate: f64,
    /// Probability that a segment is taken out of its order and overtaken by later ones, 0 to 1.
    pub reorder: f64,
    /// Number of segments that overtake such a segment; at least 1, which is the default.
    pub reorder_gap: Option<u32>,
    /// Probability that one bit of the payload of a segment is flipped, 0 to 1.
    pub corrupt: f64,
    /// Queue limit in bytes. With a rate it bounds the queue of the serializer, without one the packets in the delay
    /// queue.
    pub limit_bytes: Option<u64>,
    /// Queue limit in MTU segments. When both limits are set, the one that is reached first drops packets.
    pub limit_packets: Option<u64>,
    /// Queue limit in microseconds of the rate.
    pub limit_us: Option<u64>,
    /// When packets are dropped or marked before the limit is reached.
    pub queue: QueueDiscipline,
    /// Whether the queue marks packets of ECN-capable transports (RFC 3168) instead of dropping them.
    pub ecn: bool,
    /// The order in which queued packets are transmitted.
    pub scheduler: Scheduler,
    /// Largest IP packet of one segment that the link carries, in bytes. `None`: no limit of its own.
    pub mtu: Option<u16>,
    /// A trace that sets rate, delay or loss while it plays. Rate and delay must then have no values of their own; a
    /// loss comes in addition.
    pub trace: Option<Trace>,
    /// Whether this direction was taken down: packets are dropped as by a link that is down, while those in the link's
    /// queues arrive and the other direction stays.
    pub down: bool,
}

/// When a queue drops or marks packets.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum QueueDiscipline {
    /// Only when the limit is reached: the arriving packet is dropped.
    #[default]
    TailDrop,
    /// Random early detection (Floyd and Jacobson 1993): with a probability that grows with the average length of
    /// the queue. `None` stands for a default that follows from the queue limit.
    Red {
        /// Average length in bytes from which packets are dropped.
        min_bytes: Option<u64>,
        /// Average length in bytes from which all packets are dropped.
        max_bytes: Option<u64>,
        /// Probability of a drop when the average is just below `max_bytes`, 0 to 1.
        probability: Option<f64>,
    },
    /// Controlled delay (RFC 8289).
    Codel {
        /// Acceptable waiting time in microseconds.
        target_us: u64,
        /// Time in microseconds for which the waiting time must exceed the target before packets are dropped.
        interval_us: u64,
    },
}

/// The order in which queued packets are transmitted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Scheduler {
    /// First in, first out.
    #[default]
    Fifo,
    /// Deficit round robin (Shreedhar and Varghese 1995): classes share the rate by weight, in bytes.
    Drr(Classes),
    /// Strict priority: a class is transmitted only while no class with a larger number in `weights` has packets.
    Priority(Classes),
}

/// How packets are sorted into the classes of a scheduler.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Classes {
    /// The property of a packet that is its class.
    pub by: ClassKey,
    /// The weight or priority of a class, at least 1; classes without one have 1.
    pub weights: BTreeMap<u32, u32>,
}

/// The property of a packet by which a scheduler sorts it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ClassKey {
    /// The 5-tuple; classes have no stated weights.
    #[default]
    Flow,
    /// The destination port of TCP and UDP; 0 for other packets.
    DstPort,
    /// The source port of TCP and UDP; 0 for other packets.
    SrcPort,
    /// The number of the node that sent the packet.
    Source,
    /// The number of the node, or group, to which it goes.
    Destination,
    /// The differentiated services code point (RFC 2474), 0 to 63.
    Dscp,
}

impl LinkSpec {
    /// Whether packets pass unchanged, without delay: there is no rate, delay, jitter, loss, duplication, reordering
    /// or corruption.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let random = [self.loss, self.duplicate, self.reorder, self.corrupt];
        self.rate_bps.is_none()
            && self.delay_us == 0
            && self.jitter_us == 0
            && random.iter().all(|&probability| probability == 0.0)
            && self.trace.is_none()
    }

    /// The rate that the queue in front of the serializer is sized for: the rate, or the mean rate of the trace that
    /// sets it. `None`: there is no serializer.
    pub(crate) fn nominal_rate_bps(&self) -> Option<u64> {
        self.trace.as_ref().and_then(Trace::mean_rate_bps).or(self.rate_bps)
    }

    /// Bytes of a full packet.
    pub(crate) fn full_packet(&self) -> u64 {
        u64::from(self.mtu.unwrap_or(DEFAULT_MTU))
    }

    /// Checks the values and their combination.
    ///
    /// # Errors
    ///
    /// The value or combination that no link can have.
    pub fn check(&self) -> Result<(), String> {
        if self.rate_bps == Some(0) {
            return Err("a rate of zero transmits nothing; take the link down instead".to_owned());
        }
        for (name, share) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("a {name} of {share} is not between 0 and 1"));
            }
        }
        self.check_burst_and_gap()?;
        if let Some(table) = &self.jitter_table {
            check_table(table)?;
        }
        if let Some(burst) = self.loss_burst {
            // The probability that a loss follows a segment that was not lost (see `link::loss`); it may exceed 1 by a
            // rounding error.
            let onset = self.loss / (burst * (1.0 - self.loss));
            if !(1.0..f64::INFINITY).contains(&burst) || !(0.0..=1.0 + 1e-9).contains(&onset) {
                return Err(format!("a loss of {} cannot come in bursts of {burst} segments", self.loss));
            }
        }
        if let Some(trace) = &self.trace {
            let twice = [
                ("rate", trace.sets_rate() && self.rate_bps.is_some()),
                ("delay", trace.sets_delay() && (self.delay_us > 0 || self.jitter_us > 0)),
            ];
            if let Some((name, _)) = twice.iter().find(|(_, twice)| *twice) {
                return Err(format!("the trace sets the {name}, which has a value of its own as well"));
            }
        }
        let Self { jitter_us, delay_us, .. } = self;
        if *jitter_us > *delay_us && !self.jitter_reorder {
            return Err(format!(
                "a jitter of {jitter_us} us with a delay of {delay_us} us would reorder packets"
            ));
        }
        if *jitter_us > delay_us.saturating_mul(MOST_JITTER) {
            return Err(format!(
                "a jitter of {jitter_us} us is more than {MOST_JITTER} times the delay, {delay_us} us"
            ));
        }
        self.check_queue()
    }

    fn check_burst_and_gap(&self) -> Result<(), String> {
        let packet = self.full_packet();
        match (self.rate_burst_bytes, self.reorder_gap) {
            (Some(burst), _) if burst < packet => {
                Err(format!("a burst of {burst} bytes is smaller than one packet, {packet} bytes"))
            }
            (_, Some(0)) => Err("a reorder gap of 0 reorders nothing".to_owned()),
            (_, Some(gap)) if self.reorder == 0.0 => {
                Err(format!("a reorder gap of {gap} needs a share of packets to reorder"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a distribution that is given as quantiles.
fn check_table(values: &[f64]) -> Result<(), String> {
    if values.len() < 2 {
        return Err(format!("a jitter table of {} values is no distribution; give at least 2", values.len()));
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(format!("a jitter table cannot contain {value}"));
    }
    if let Some(pair) = values.windows(2).find(|pair| pair[0] > pair[1]) {
        return Err(format!("a jitter table must ascend, but {} follows {}", pair[1], pair[0]));
    }
    let (mean, deviation) = Distribution::table_moments(values);
    if mean.abs() > TABLE_TOLERANCE || (deviation - 1.0).abs() > TABLE_TOLERANCE {
        return Err(format!(
            "a jitter table must have mean 0 and standard deviation 1, not {mean:.3} and {deviation:.3}"
        ));
    }
    Ok(())
}
