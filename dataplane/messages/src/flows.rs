//! Messages about user-space flows, which the controller requests and whose source reports about them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A user-space flow to run; exactly one of `size_bytes` and `duration_ms` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The controller's number for it, unique in the lab.
    pub controller_id: u64,
    /// Its source node.
    pub src_node_id: u32,
    /// Its destination node.
    pub dst_node_id: u32,
    /// Payload to transfer, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Duration in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Upper limit of the rate at which the source sends payload, in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Its weight where the scheduler of a link knows weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The route that it must use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<u64>,
    /// Its transport: `tcp` or `lossless_unicast`.
    #[serde(default = "default_transport")]
    pub transport: String,
}

fn default_transport() -> String {
    "tcp".to_owned()
}

/// Runs flows; sent to both ends. Safe to repeat: a running flow continues with the rate and weight of the repeated
/// request, and an ended one is reported again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddFlows {
    /// The flows.
    pub flows: Vec<Flow>,
}

/// Stops flows; sent to both ends. Flows that the node does not have are skipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopFlows {
    /// Their numbers, as in [`Flow`].
    pub controller_ids: Vec<u64>,
}

/// A flow that the controller asked for and that has begun: its connection is established.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserFlow {
    /// The controller's number for it.
    pub controller_id: u64,
    /// Identifier of the flow, 16 bytes.
    pub flow_id: ByteBuf,
    /// Time in milliseconds since 1970 (Unix time).
    pub start_ms: u64,
}

/// Flows that the controller asked for began; sent by their source, and again after a reconnect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserFlowStart {
    /// The flows.
    pub flows: Vec<UserFlow>,
}

/// The progress of a flow that the controller asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowProgress {
    /// The controller's number for it.
    pub controller_id: u64,
    /// Bytes of payload that its destination has acknowledged.
    pub size_bytes: u64,
}

/// Progress of this source's flows since the last such message; sent about once per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserFlowProgress {
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
    /// The flows that progressed.
    pub flows: Vec<FlowProgress>,
}

/// A flow that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedFlow {
    /// Identifier of the flow, 16 bytes.
    pub flow_id: ByteBuf,
    /// When it began, or was requested if it never began, in milliseconds since 1970 (Unix time).
    pub start_ms: u64,
    /// When it ended, in milliseconds since 1970 (Unix time).
    pub finish_ms: u64,
    /// Payload in bytes that the destination counted; if it did not answer, the bytes that it had acknowledged.
    #[serde(default)]
    pub size_bytes: u64,
    /// Only for a flow that the controller asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_id: Option<u64>,
    /// Empty when it is complete; otherwise `stopped`, `timed out`, `route is gone`, `refused` or `reset`.
    #[serde(default)]
    pub reason: String,
    /// `start_ms` in microseconds; 0 when unknown.
    #[serde(default)]
    pub start_us: u64,
    /// `finish_ms` in microseconds; 0 when unknown.
    #[serde(default)]
    pub finish_us: u64,
}

/// Flows ended; sent by their source until acknowledged, and again whenever [`AddFlows`] repeats them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowFinished {
    /// The flows.
    pub flows: Vec<FinishedFlow>,
}
