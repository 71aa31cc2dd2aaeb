//! The counters that a node sends each second: what changed, as lists of numbers, because a controller reads a thousand
//! of these messages a second, and checks a list at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Numbers of a link in [`Metrics::links`]: the neighbour, packets and bytes sent, packets and bytes received, packets
/// and bytes in the queue.
pub const LINK_NUMBERS: usize = 7;
/// Numbers of a flow of programs in [`AppFlowColumns::numbers`].
pub const APP_FLOW_NUMBERS: usize = 9;
/// Numbers of a group in [`Metrics::groups`]: the group, packets and bytes sent, packets and bytes received.
pub const GROUP_NUMBERS: usize = 5;

/// Packets that were dropped on the way to a neighbour, by cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropCounter {
    /// The neighbour; 0 for packets that were dropped before a link was chosen or after they were received.
    pub remote_node_id: u32,
    /// MTU segments by cause.
    pub drops: BTreeMap<String, u64>,
}

/// Flows of programs that began at this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AppFlowColumns {
    /// Identifiers of the flows, 16 bytes each, one after the other.
    pub flow_ids: ByteBuf,
    /// Protocol, addresses and ports of each, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
    pub names: Vec<String>,
    /// [`APP_FLOW_NUMBERS`] of each: the node to which it goes (0 for none), its first packet and, when it has ended,
    /// its last one (in microseconds since 1970, else 0), MTU segments sent, their bytes with headers, MTU segments
    /// that came back, their bytes, microseconds from the first packet to the first one back (0 for none yet), the
    /// explicit route that its packets take (0 for none).
    pub numbers: Vec<u64>,
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

/// The counters of a node that changed, read at one time; those of another process began again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
    /// CPU time of the node's process in milliseconds; MTU segments from the node's programs and their bytes with headers;
    /// MTU segments to the node's programs and their bytes; flows of which a part is not recorded, because there were
    /// too many; packets of flows that are not recorded at all.
    pub totals: Vec<u64>,
    /// Links: [`LINK_NUMBERS`] of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<u64>,
    /// Links and causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<Vec<DropCounter>>,
    /// Directions of flows that enter or leave the network here: identifiers, 16 bytes each, one after the other.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub flow_ids: ByteBuf,
    /// MTU segments and bytes of each since it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<u64>,
    /// Flows of programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_flows: Option<Box<AppFlowColumns>>,
    /// Groups: [`GROUP_NUMBERS`] of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u64>,
    /// Sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionCounter>>,
}

fn is_empty(bytes: &ByteBuf) -> bool {
    bytes.is_empty()
}
