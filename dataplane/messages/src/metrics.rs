//! The counters that a node sends each second: what changed, in columns, because a controller reads a thousand of
//! these messages a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Counters of links since the node started, and their queues at this moment; one entry of each column per link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkColumns {
    /// The neighbours.
    pub remote_node_id: Vec<u64>,
    /// MTU segments sent.
    pub tx_packets: Vec<u64>,
    /// Bytes sent.
    pub tx_bytes: Vec<u64>,
    /// MTU segments received.
    pub rx_packets: Vec<u64>,
    /// Bytes received.
    pub rx_bytes: Vec<u64>,
    /// MTU segments that wait for the serializer or for their delay.
    pub queued_packets: Vec<u64>,
    /// Their bytes.
    pub queued_bytes: Vec<u64>,
}

/// Packets that were dropped on the way to a neighbour, by cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropCounter {
    /// The neighbour; 0 for packets that were dropped before a link was chosen or after they were received.
    pub remote_node_id: u32,
    /// MTU segments by cause.
    pub drops: BTreeMap<String, u64>,
}

/// Counters of the directions of flows that enter or leave the network here, since the flows began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowColumns {
    /// Identifiers of the flows, 16 bytes each.
    pub flow_id: Vec<ByteBuf>,
    /// MTU segments.
    pub packets: Vec<u64>,
    /// Bytes with headers.
    pub size_bytes: Vec<u64>,
}

/// Flows of programs that began at this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AppFlowColumns {
    /// Identifiers of the flows, 16 bytes each.
    pub flow_id: Vec<ByteBuf>,
    /// Protocol, addresses and ports, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
    pub name: Vec<String>,
    /// The nodes to which they go, 0 for none.
    pub dst_node_id: Vec<u64>,
    /// Their first packets, in microseconds since 1970.
    pub start_us: Vec<u64>,
    /// Their last packets, 0 for flows that have not ended.
    pub finish_us: Vec<u64>,
    /// MTU segments sent.
    pub tx_packets: Vec<u64>,
    /// Their bytes with headers.
    pub tx_bytes: Vec<u64>,
    /// MTU segments that came back.
    pub rx_packets: Vec<u64>,
    /// Their bytes with headers.
    pub rx_bytes: Vec<u64>,
    /// Microseconds from the first packet to the first one back, 0 for none yet.
    pub answered_us: Vec<u64>,
}

/// Counters of groups at this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupColumns {
    /// The groups.
    pub group_id: Vec<u64>,
    /// MTU segments sent to neighbours, each copy counted.
    pub tx_packets: Vec<u64>,
    /// Their bytes with headers.
    pub tx_bytes: Vec<u64>,
    /// MTU segments that arrived, from this node or a neighbour.
    pub rx_packets: Vec<u64>,
    /// Their bytes with headers.
    pub rx_bytes: Vec<u64>,
}

/// A lossless session that runs, or ended since the last message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionCounter {
    /// Its number at this node.
    pub session: u64,
    /// `sender` or `receiver`.
    pub role: String,
    /// The node that sends.
    pub source: u32,
    /// `waiting`, `active`, `complete`, `failed`, `timed_out` or `left`.
    pub state: String,
    /// Bytes of payload.
    pub total_bytes: u64,
    /// Bytes of payload that the slowest receiver has.
    pub done_bytes: u64,
    /// Bytes that this node sent for it.
    pub sent_bytes: u64,
    /// Bytes of payload that were sent again.
    pub repair_bytes: u64,
    /// The number of receivers.
    pub receivers: u32,
    /// The smoothed round trip to the farthest receiver in microseconds, 0 if unknown.
    pub rtt_us: u64,
}

/// The counters of a node that changed, read at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
    /// The process, as in `Hello`; the counters of another one began again.
    #[serde(default)]
    pub process: u64,
    /// CPU time of the process in milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
    /// MTU segments from the node's programs.
    #[serde(default)]
    pub packets_out: u64,
    /// Their bytes with headers.
    #[serde(default)]
    pub bytes_out: u64,
    /// MTU segments to the node's programs.
    #[serde(default)]
    pub packets_in: u64,
    /// Their bytes with headers.
    #[serde(default)]
    pub bytes_in: u64,
    /// Flows of which a part is not recorded, because there were too many.
    #[serde(default)]
    pub flows_forgotten: u64,
    /// Packets of flows that are not recorded at all.
    #[serde(default)]
    pub packets_unrecorded: u64,
    /// Links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Box<LinkColumns>>,
    /// Links and causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<Vec<DropCounter>>,
    /// Directions of flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Box<FlowColumns>>,
    /// Flows of programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_flows: Option<Box<AppFlowColumns>>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Box<GroupColumns>>,
    /// Sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionCounter>>,
}
