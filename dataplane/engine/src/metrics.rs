//! What a node reports about itself every second: counters, and the flows and sessions that changed.
//!
//! Unlike [`crate::NodeStats`] it leaves out what is large and rarely needed (histograms, specifications, the history
//! of sessions), so that a thousand nodes can be read each second.

use std::net::IpAddr;

use crate::{FiveTuple, GroupId, Instant, NodeId, RouteId, SessionReport, Traffic};

/// Counters of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkMetrics {
    /// The neighbour.
    pub remote: NodeId,
    /// Packets sent, and those that were dropped before.
    pub tx: Traffic,
    /// Packets received, and those that were dropped after.
    pub rx: Traffic,
    /// MTU segments waiting for the serializer or for their delay.
    pub queued_packets: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// A flow that enters or leaves the overlay at this node; its local end is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMetrics {
    /// The local address; that of the group at a member of a group.
    pub local: IpAddr,
    /// The remote address.
    pub remote: IpAddr,
    /// The node with the remote address, 0 where it belongs to none.
    pub peer: NodeId,
    /// Whether it belongs to a program, and not to the user-space address of the node.
    pub application: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// The local port, 0 where there is none.
    pub local_port: u16,
    /// The remote port, 0 where there is none.
    pub remote_port: u16,
    /// Whether its first packet came from this node.
    pub started_here: bool,
    /// MTU segments that left here.
    pub packets_out: u64,
    /// Their bytes with headers.
    pub bytes_out: u64,
    /// MTU segments that arrived here.
    pub packets_in: u64,
    /// Their bytes with headers.
    pub bytes_in: u64,
    /// When its first packet passed.
    pub first: Instant,
    /// When its last packet passed.
    pub last: Instant,
    /// Nanoseconds from its first packet to the first one of the other direction.
    pub answered_ns: Option<u64>,
    /// Whether it has ended: by FIN or RST, or because it sent nothing for long.
    pub ended: bool,
    /// The explicit route that its packets take from here, 0 for none; 0 where it did not start here.
    pub route: RouteId,
}

impl FlowMetrics {
    /// The packets that leave here.
    #[must_use]
    pub fn outgoing(&self) -> FiveTuple {
        FiveTuple {
            src: self.local,
            dst: self.remote,
            protocol: self.protocol,
            src_port: self.local_port,
            dst_port: self.remote_port,
        }
    }
}

/// Counters of one group at this node. Sessions of the group are included.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct GroupMetrics {
    /// The group.
    pub group_id: GroupId,
    /// MTU segments that arrived here, from this node or a neighbour.
    pub rx_packets: u64,
    /// Their bytes with headers.
    pub rx_bytes: u64,
    /// MTU segments that were sent to neighbours, counted once per copy.
    pub tx_packets: u64,
    /// Their bytes with headers.
    pub tx_bytes: u64,
}

/// What changed at a node, and its counters.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeMetrics {
    /// Its links, by index.
    pub links: Vec<LinkMetrics>,
    /// Packets from the local application.
    pub tun_rx: Traffic,
    /// Packets to the local application.
    pub tun_tx: Traffic,
    /// Packets delivered to receivers.
    pub delivered: Traffic,
    /// Flows that changed since the last report.
    pub flows: Vec<FlowMetrics>,
    /// Flows that are not recorded completely, see [`crate::NodeStats::flows_forgotten`].
    pub flows_forgotten: u64,
    /// Packets of flows that are not recorded, because there were too many.
    pub packets_unrecorded: u64,
    /// Groups that carried packets here.
    pub groups: Vec<GroupMetrics>,
    /// Sessions that run, or ended since the last report.
    pub sessions: Vec<SessionReport>,
}
