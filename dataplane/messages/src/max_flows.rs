//! Messages about flows that nodes in max mode carry.

use serde::{Deserialize, Serialize};

/// A flow that entered at this node, with what is known of it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaxFlow {
    /// Its number, random.
    pub flow_id: u64,
    /// How it entered: `socks5` or `redirected`.
    pub entry: String,
    /// `host:port` of its client.
    pub client: String,
    /// `host:port` of its destination, as the client named it.
    pub destination: String,
    /// When its destination was known, in microseconds since 1970 (Unix time).
    pub start_us: u64,
    /// The nodes that it passes, this one first; empty when it was not connected.
    #[serde(default)]
    pub route: Vec<u32>,
    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_us: Option<u64>,
    /// Bytes from the client.
    #[serde(default)]
    pub bytes_out: u64,
    /// Bytes to the client.
    #[serde(default)]
    pub bytes_in: u64,
    /// Why it failed or was reset; empty when it runs or ended in order.
    #[serde(default)]
    pub reason: String,
}

/// Flows in max mode began, progressed or ended; the beginning and the end are sent until acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaxFlows {
    /// The flows.
    pub flows: Vec<MaxFlow>,
}
