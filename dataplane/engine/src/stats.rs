//! Counters, and snapshots of them. Packets are always counted in MTU segments.

use std::net::IpAddr;

use crate::{LinkId, LinkMeasurement, LinkSpec, NodeId, SessionReport};

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropCause {
    /// Emulated loss of the link.
    Loss,
    /// The link's queue was at its limit.
    QueueFull,
    /// The link's queue was about to fill: random early detection or CoDel.
    QueueEarly,
    /// No route, a group without a tree at this node, or a packet of a group that returned to its source or by its
    /// only outgoing link.
    NoRoute,
    /// The TTL or the hop limit was exhausted.
    Ttl,
    /// The link was down.
    LinkDown,
    /// The transport of the link had no room: overload of this machine, not emulated.
    Congested,
    /// The packet is malformed.
    Malformed,
    /// Larger than the MTU of the link.
    Mtu,
    /// For the Python API of this node, where no receiver matches the flow.
    NoReceiver,
    /// The receiver's queue was full.
    ReceiverFull,
    /// Neither IPv4 nor IPv6.
    Unsupported,
    /// The UDP checksum of a datagram for this node is wrong.
    Checksum,
    /// The node was paused.
    Paused,
    /// To an IPv6 multicast address: kernels send such packets (neighbour and multicast listener discovery) on every
    /// interface, and the overlay has no use for them.
    Multicast6,
}

impl DropCause {
    /// All causes, in the order of reports.
    pub const ALL: [DropCause; 15] = [
        Self::Loss,
        Self::QueueFull,
        Self::QueueEarly,
        Self::NoRoute,
        Self::Ttl,
        Self::LinkDown,
        Self::Congested,
        Self::Malformed,
        Self::Mtu,
        Self::NoReceiver,
        Self::ReceiverFull,
        Self::Unsupported,
        Self::Checksum,
        Self::Paused,
        Self::Multicast6,
    ];

    /// The stable name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::QueueFull => "queue_full",
            Self::QueueEarly => "queue_early",
            Self::NoRoute => "no_route",
            Self::Ttl => "ttl",
            Self::LinkDown => "link_down",
            Self::Congested => "congested",
            Self::Malformed => "malformed",
            Self::Mtu => "mtu",
            Self::NoReceiver => "no_receiver",
            Self::ReceiverFull => "receiver_full",
            Self::Unsupported => "unsupported",
            Self::Checksum => "checksum",
            Self::Paused => "paused",
            Self::Multicast6 => "multicast6",
        }
    }
}

/// Dropped packets (MTU segments) by cause.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DropCounters([u64; DropCause::ALL.len()]);

impl DropCounters {
    /// Adds `packets` to a cause.
    pub fn add(&mut self, cause: DropCause, packets: u64) {
        self.0[cause as usize] += packets;
    }

    /// Adds the counts of another set to this one and clears the other.
    pub(crate) fn take(&mut self, other: &mut DropCounters) {
        for (own, more) in self.0.iter_mut().zip(&mut other.0) {
            *own += std::mem::take(more);
        }
    }

    /// Packets dropped for one cause.
    #[must_use]
    pub const fn get(&self, cause: DropCause) -> u64 {
        self.0[cause as usize]
    }

    /// Packets dropped for all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every cause with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL.into_iter().map(|cause| (cause, self.get(cause)))
    }
}

/// Packets (MTU segments) that the impairments of a link changed and did not drop.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ImpairedCounters {
    /// Additional copies of packets.
    pub duplicate: u64,
    /// Packets that later ones overtook.
    pub reorder: u64,
    /// Packets with a flipped bit.
    pub corrupt: u64,
    /// Packets that the queue marked: congestion experienced (RFC 3168).
    pub ecn: u64,
}

impl ImpairedCounters {
    /// Every impairment with its count, by the name of the link's key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
            ("ecn", self.ecn),
        ];
        counts.into_iter()
    }

    /// Adds the counts of another set to this one and clears the other.
    pub(crate) fn take(&mut self, other: &mut ImpairedCounters) {
        let Self { duplicate, reorder, corrupt, ecn } = std::mem::take(other);
        self.duplicate += duplicate;
        self.reorder += reorder;
        self.corrupt += corrupt;
        self.ecn += ecn;
    }
}

/// Traffic in one direction.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Frames: a super-packet counts once.
    pub frames: u64,
    /// MTU segments.
    pub packets: u64,
    /// Bytes of those segments, each with its IP and transport headers.
    pub bytes: u64,
    /// Dropped packets.
    pub drops: DropCounters,
}

impl Traffic {
    pub(crate) fn count(&mut self, segments: u32, wire_bytes: u64) {
        self.frames += 1;
        self.packets += u64::from(segments);
        self.bytes += wire_bytes;
    }
}

/// One link of this node.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkStats {
    /// The link's index.
    pub link: LinkId,
    /// The neighbour.
    pub remote: NodeId,
    /// Whether it can carry packets.
    pub up: bool,
    /// Whether its transport is full at the moment.
    pub congested: bool,
    /// Impairments of packets that this node sends.
    pub spec: LinkSpec,
    /// Packets sent (after loss and queue), and packets dropped before transmission.
    pub tx: Traffic,
    /// Of the packets sent or queued, those that impairments changed.
    pub impaired: ImpairedCounters,
    /// Packets received.
    pub rx: Traffic,
    /// What the impairments did to packets that this node sends.
    pub measured: LinkMeasurement,
    /// MTU segments waiting for the serializer or for their delay.
    pub queued_packets: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// One flow that enters or leaves the overlay at this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, 0 where there is none.
    pub src_port: u16,
    /// Destination port, 0 where there is none.
    pub dst_port: u16,
    /// MTU segments.
    pub packets: u64,
    /// Their bytes with headers.
    pub bytes: u64,
}

/// A snapshot of the counters of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStats {
    /// The node.
    pub node_id: NodeId,
    /// Its links, by index.
    pub links: Vec<LinkStats>,
    /// Packets from the local application, and those of them that were dropped before a link was selected.
    pub tun_rx: Traffic,
    /// Packets to the local application.
    pub tun_tx: Traffic,
    /// Packets delivered to receivers, and those that receivers refused.
    pub delivered: Traffic,
    /// Flows that enter or leave here.
    pub flows: Vec<FlowStats>,
    /// Number of flows of which a part is not recorded: their entries were replaced, or they ended in great number.
    pub flows_forgotten: u64,
    /// Sessions, running and recently finished.
    pub sessions: Vec<SessionReport>,
}
