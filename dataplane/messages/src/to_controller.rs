//! Messages from a dataplane to the controller; they extend `DataplaneToController` of Nextmini.

use std::collections::BTreeMap;

use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::codec::messages;
use crate::connection::{Ack, Error, Goodbye, Hello};
use crate::flows::{FlowFinished, UserFlowProgress, UserFlowStart};
use crate::max_flows::MaxFlows;
use crate::metrics::{AppFlowColumns, Metrics};
use crate::samples::NodeSample;

messages! {
    /// A message from a dataplane to the controller; the variant's name is its type on the wire.
    ToController {
        Hello, Ack, Error, Goodbye,
        StartUp, LinkState, NodeTopologyReady, Metrics, AppFlowStart, UserFlowStart, UserFlowProgress, RouteAssigned,
        FlowFinished, CreateGroup, JoinGroup, LeaveGroup, SetGroupRoutes, SetGroupRoutesMulti, ComputeGroupRoutes,
        NodeEvent, ProbeResult, LinkMeasurements, NodeSample, MaxFlows,
    }
}

/// A directed edge of a tree.
pub type Edge = (u32, u32);

/// The installed state of a node that reconnects, as versions; all absent for a node that has just started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Have {
    /// The version of the last `InstallRoutes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<u64>,
    /// The version of the last `InstallGroupDirectory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<u64>,
    /// The version of the last `AddNode` or `SetLink` by neighbour.
    #[serde(default)]
    pub links: BTreeMap<u32, u64>,
    /// The version of the last `InstallGroupRoutes` by group.
    #[serde(default)]
    pub trees: BTreeMap<u32, u64>,
}

/// A node registers, or reconnects after a failure of either side; answered by `Ack` and `NodeSettings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartUp {
    /// Nodes with equal names connect to each other by their private address.
    pub private_network_name: String,
    /// `host:port` of the listener for links.
    pub private_network_addr: String,
    /// The same for nodes of other networks; empty when there is none.
    #[serde(default)]
    pub public_network_addr: String,
    /// Whether the node is an external node: a program that the user starts.
    #[serde(default)]
    pub external: bool,
    /// The process, as in `Hello`; a link between two nodes of one process stays in memory.
    #[serde(default)]
    pub process: u64,
    /// MTU of the node's interface in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Its installed state.
    #[serde(default)]
    pub have: Have,
    /// The path of the unix socket that listens for links, for processes that can open it; empty when there is none.
    #[serde(default)]
    pub link_socket: String,
    /// The token of the node. It may be absent for the node that the connection's `Hello` named.
    #[serde(default)]
    pub token: String,
}

fn default_mtu() -> u32 {
    1500
}

/// A link of this node came up or went down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// The neighbour.
    pub remote_node_id: u32,
    /// Whether it is up.
    pub up: bool,
    /// The reason, as text for a person.
    #[serde(default)]
    pub reason: String,
    /// Its transport while it is up: `memory`, `shared`, `unix` or `tcp`.
    #[serde(default)]
    pub kind: String,
}

/// The node has installed its routes, and every link that it was assigned is up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeTopologyReady {}

/// Flows of programs began at this node. The next [`Metrics`] has them as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppFlowStart {
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
    /// The flows.
    pub flows: AppFlowColumns,
}

/// The route that a flow uses, of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteAssignment {
    /// Identifier of the flow, 16 bytes.
    pub flow_id: ByteBuf,
    /// The route.
    pub route_id: u64,
    /// Time in milliseconds since 1970 (Unix time).
    pub time_ms: u64,
}

/// Routes were assigned to flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteAssigned {
    /// The flows.
    pub assignments: Vec<RouteAssignment>,
}

/// Creates a group with this node as its source; a repeated request with the same label returns the same group.
///
/// `Ack.value` is `{group_id, group_ip, src_node_id, label}`; a `GroupCreated` follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateGroup {
    /// Its name, unique in the lab.
    pub label: String,
}

/// Makes this node a member; acknowledged when the membership is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinGroup {
    /// The group.
    pub group_id: u32,
    /// How long to wait for a group that does not exist yet, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Ends the membership of this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: u32,
}

/// Sets the only tree of a group; refused with the reason when the edges are no tree to the members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// Directed edges.
    pub edges: Vec<Edge>,
    /// How long to wait for a group that does not exist yet, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
}

/// One of a group's trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Its number.
    pub tree_id: u16,
    /// Directed edges.
    pub edges: Vec<Edge>,
    /// Its weight in the distribution of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Sets the trees of a group, which replace the previous ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetGroupRoutesMulti {
    /// The group.
    pub group_id: u32,
    /// The trees.
    pub trees: Vec<Tree>,
    /// How long to wait for a group that does not exist yet, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Computes and installs a tree to these receivers; `Ack.value` is the list of its edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// The receivers; absent for all members of the group.
    #[serde(default)]
    pub receivers: Vec<u32>,
    /// The algorithm: `shortest_path`.
    #[serde(default = "default_kind")]
    pub kind: String,
}

fn default_kind() -> String {
    "shortest_path".to_owned()
}

/// An event of a node, for the log of the lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// Its name, such as `offload.fallback`.
    pub name: String,
    /// Its details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// The result of a `ProbeLink`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The neighbour.
    pub remote_node_id: u32,
    /// The probe.
    pub probe_id: u64,
    /// Capacity towards the neighbour in megabits per second; 0 if it could not be measured.
    pub mbps: f64,
    /// Why the probe failed; empty if it did not.
    #[serde(default)]
    pub error: String,
    /// Median of the round trip in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_p50_us: Option<f64>,
    /// Its 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_p99_us: Option<f64>,
    /// Packets that were sent to measure the loss.
    #[serde(default)]
    pub packets_sent: u32,
    /// Those that reached the neighbour.
    #[serde(default)]
    pub packets_received: u32,
    /// Those whose answer came back.
    #[serde(default)]
    pub packets_answered: u32,
    /// Bytes that were sent.
    #[serde(default)]
    pub sent_bytes: u64,
}

/// Smallest value and count of each bucket of a histogram that is not empty.
pub type Buckets = Vec<(u64, u64)>;

/// What a node did to the packets of one link, since the link was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasurement {
    /// The neighbour to which the packets went.
    pub remote_node_id: u32,
    /// MTU segments that passed the impairments.
    pub packets: u64,
    /// Those that were dropped, by cause.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// MTU segments that reached the impairments.
    #[serde(default)]
    pub offered: u64,
    /// How often the specification changed.
    #[serde(default)]
    pub changes: u64,
    /// Delays that were drawn from the distribution of the jitter.
    #[serde(default)]
    pub draws: u64,
    /// Time in nanoseconds during which the serializer was busy, in periods of at least 100 ms.
    #[serde(default)]
    pub busy_ns: u64,
    /// Bytes that it transmitted in those periods.
    #[serde(default)]
    pub busy_bytes: u64,
    /// Delays in nanoseconds.
    #[serde(default)]
    pub delay: Buckets,
    /// Sum of the delays in microseconds.
    #[serde(default)]
    pub delay_sum_us: f64,
    /// Sum of their squares.
    #[serde(default)]
    pub delay_squares_us: f64,
    /// Nanoseconds by which packets were released late.
    #[serde(default)]
    pub late: Buckets,
    /// Their sum in microseconds.
    #[serde(default)]
    pub late_sum_us: f64,
}

/// What a node measured of its links, and what its process took for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasurements {
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
    /// By link; those without packets are left out.
    #[serde(default)]
    pub links: Vec<LinkMeasurement>,
}
