//! Counters, and the frozen picture of them that a node shows. Packets are always MTU segments.

use std::net::Ipv4Addr;

use crate::{LinkId, LinkSpec, NodeId, SessionReport};

/// Why a packet did not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropCause {
    /// Drawn by the link's loss.
    Loss,
    /// The link's queue was at its limit.
    QueueFull,
    /// No route, a group without a tree here, or a group's packet from where its tree does not lead.
    NoRoute,
    /// The TTL (or the hop count) was used up.
    Ttl,
    /// The link was down.
    LinkDown,
    /// The link's transport could not take it: overload of our own, not emulated.
    Congested,
    /// Not a packet we can read.
    Malformed,
    /// Larger than the link carries.
    Mtu,
    /// For this node's Python side, where nobody listens to the flow.
    NoReceiver,
    /// The receiver's queue was full.
    ReceiverFull,
    /// Not IPv4, or a kind of traffic the overlay does not carry.
    Unsupported,
}

impl DropCause {
    /// All causes, in the order in which they are shown.
    pub const ALL: [DropCause; 11] = [
        Self::Loss,
        Self::QueueFull,
        Self::NoRoute,
        Self::Ttl,
        Self::LinkDown,
        Self::Congested,
        Self::Malformed,
        Self::Mtu,
        Self::NoReceiver,
        Self::ReceiverFull,
        Self::Unsupported,
    ];

    /// The stable name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::QueueFull => "queue_full",
            Self::NoRoute => "no_route",
            Self::Ttl => "ttl",
            Self::LinkDown => "link_down",
            Self::Congested => "congested",
            Self::Malformed => "malformed",
            Self::Mtu => "mtu",
            Self::NoReceiver => "no_receiver",
            Self::ReceiverFull => "receiver_full",
            Self::Unsupported => "unsupported",
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

    /// Moves the counts of another set into this one.
    pub(crate) fn take(&mut self, other: &mut DropCounters) {
        for (own, more) in self.0.iter_mut().zip(&mut other.0) {
            *own += std::mem::take(more);
        }
    }

    /// What was dropped for one cause.
    #[must_use]
    pub const fn get(&self, cause: DropCause) -> u64 {
        self.0[cause as usize]
    }

    /// What was dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every cause with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL.into_iter().map(|cause| (cause, self.get(cause)))
    }
}

/// What went one way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Hand-overs: super-packets count once.
    pub frames: u64,
    /// MTU segments.
    pub packets: u64,
    /// Bytes of those segments, each with its IP and transport headers.
    pub bytes: u64,
    /// What did not go on.
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
    /// What it does to packets that we send.
    pub spec: LinkSpec,
    /// What we sent (after loss and queue), and what we dropped on the way out.
    pub tx: Traffic,
    /// What arrived.
    pub rx: Traffic,
    /// MTU segments waiting for the serializer or for their delay.
    pub queued_packets: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// One flow that enters or leaves the overlay at this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
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

/// A frozen picture of a node's counters.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStats {
    /// The node.
    pub node_id: NodeId,
    /// Its links, by index.
    pub links: Vec<LinkStats>,
    /// What came from the local application, and what of it was dropped before a link was chosen.
    pub tun_rx: Traffic,
    /// What went to the local application.
    pub tun_tx: Traffic,
    /// What was handed to receivers, and what they refused.
    pub delivered: Traffic,
    /// Flows that enter or leave here.
    pub flows: Vec<FlowStats>,
    /// Flows that no longer fitted the table.
    pub flows_forgotten: u64,
    /// Sessions, running and recently finished.
    pub sessions: Vec<SessionReport>,
}
