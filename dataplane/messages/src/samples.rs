//! Samples of a node's counters; `SampleNodes` asks for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters of one link since it was made, and its queue at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkSample {
    /// The neighbour to which the packets went.
    pub remote_node_id: u32,
    /// MTU segments that passed the impairments.
    pub packets: u64,
    /// Their bytes with headers.
    pub bytes: u64,
    /// MTU segments that wait for the serializer or for their delay.
    #[serde(default)]
    pub queued_packets: u64,
    /// Their bytes.
    #[serde(default)]
    pub queued_bytes: u64,
    /// Sum of the delays in microseconds.
    #[serde(default)]
    pub delay_sum_us: f64,
    /// MTU segments that were dropped, by cause.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}

/// Counters of one flow where it enters or leaves the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowSample {
    /// Protocol, addresses and ports, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
    pub flow: String,
    /// MTU segments.
    pub packets: u64,
    /// Their bytes with headers.
    pub bytes: u64,
}

/// Counters of a node and of its links, without histograms; small enough to be read every second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
    /// The process, as in `Hello`.
    pub process: u64,
    /// CPU time of the process in milliseconds.
    pub cpu_ms: u64,
    /// The thread of the process that carries the node.
    pub shard: u32,
    /// Packets that this thread dropped because a ring, a socket or a TUN queue was full.
    pub overload_drops: u64,
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
    /// MTU segments that were dropped before a link was chosen or at a receiver, by cause.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// By link; those without packets are left out.
    #[serde(default)]
    pub links: Vec<LinkSample>,
    /// The flows with the most bytes that enter or leave here.
    #[serde(default)]
    pub flows: Vec<FlowSample>,
}
