//! What a dataplane tells the controller; Nextmini's `DataplaneToController`, grown up.

use std::collections::BTreeMap;

use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::codec::messages;
use crate::connection::{Ack, Error, Goodbye, Hello};

messages! {
    /// A message from a dataplane to the controller; the variant's name is its type on the wire.
    ToController {
        Hello, Ack, Error, Goodbye,
        StartUp, LinkState, NodeTopologyReady, Metrics, AppFlowStart, UserFlowStart, RouteAssigned, FlowFinished,
        CreateGroup, JoinGroup, LeaveGroup, SetGroupRoutes, SetGroupRoutesMulti, ComputeGroupRoutes, NodeEvent,
        ProbeResult,
    }
}

/// A directed edge of a tree.
pub type Edge = (u32, u32);

/// What a returning node still holds, as versions; all absent for a node that has just started.
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

/// A node registers, or comes back after either side was away; answered by `Ack` and `NodeSettings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartUp {
    /// Nodes that share it reach each other by their private address.
    pub private_network_name: String,
    /// `host:port` where links may be dialled.
    pub private_network_addr: String,
    /// The same for nodes elsewhere; empty when there is none.
    #[serde(default)]
    pub public_network_addr: String,
    /// The node is an external node: a program of the user's own.
    #[serde(default)]
    pub external: bool,
    /// As in `Hello`; equal on two nodes means that a link between them stays in memory.
    #[serde(default)]
    pub process: u64,
    /// Of the node's interface.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// What it still holds.
    #[serde(default)]
    pub have: Have,
    /// The path of a unix socket where links may be dialled by whoever can see it; empty when there is none.
    #[serde(default)]
    pub link_socket: String,
    /// The node's own token. It may be left out by the node that the connection's `Hello` named.
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
    /// Up or down.
    pub up: bool,
    /// Why, for a person.
    #[serde(default)]
    pub reason: String,
    /// What carries it while it is up: `memory`, `shared`, `unix` or `tcp`.
    #[serde(default)]
    pub kind: String,
}

/// The node has installed its routes and every link that it was told of is up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeTopologyReady {}

/// Counters of one link since the node started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkCounter {
    /// The neighbour.
    pub remote_node_id: u32,
    /// Packets sent.
    #[serde(default)]
    pub tx_packets: u64,
    /// Bytes sent.
    #[serde(default)]
    pub tx_bytes: u64,
    /// Packets received.
    #[serde(default)]
    pub rx_packets: u64,
    /// Bytes received.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Packets dropped on the way out, by cause.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}

/// Counters of one flow on one link since the flow began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowCounter {
    /// Sixteen bytes.
    pub flow_id: ByteBuf,
    /// The neighbour that the flow's packets went to.
    pub remote_node_id: u32,
    /// Packets.
    #[serde(default)]
    pub packets: u64,
    /// Bytes.
    #[serde(default)]
    pub size_bytes: u64,
}

/// A batch of measurements, read at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// By link.
    #[serde(default)]
    pub links: Vec<LinkCounter>,
    /// By flow.
    #[serde(default)]
    pub flows: Vec<FlowCounter>,
}

/// A flow of an application, recognised at its first payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppFlow {
    /// Sixteen bytes.
    pub flow_id: ByteBuf,
    /// Where it comes from.
    pub src_node_id: u32,
    /// Where it goes.
    pub dst_node_id: u32,
    /// Milliseconds since 1970.
    pub start_ms: u64,
}

/// Flows of applications began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppFlowStart {
    /// Which.
    pub appflows: Vec<AppFlow>,
}

/// A flow that the controller asked for and that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserFlow {
    /// The controller's number for it.
    pub controller_id: u64,
    /// Sixteen bytes.
    pub flow_id: ByteBuf,
    /// Milliseconds since 1970.
    pub start_ms: u64,
}

/// Flows that the controller asked for began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserFlowStart {
    /// Which.
    pub flows: Vec<UserFlow>,
}

/// Which of several routes a flow took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteAssignment {
    /// Sixteen bytes.
    pub flow_id: ByteBuf,
    /// The route.
    pub route_id: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

/// Flows were given routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteAssigned {
    /// Which.
    pub assignments: Vec<RouteAssignment>,
}

/// A flow that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedFlow {
    /// Sixteen bytes.
    pub flow_id: ByteBuf,
    /// Milliseconds since 1970.
    pub start_ms: u64,
    /// Milliseconds since 1970.
    pub finish_ms: u64,
    /// Payload carried.
    #[serde(default)]
    pub size_bytes: u64,
    /// Only for a flow that the controller asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_id: Option<u64>,
}

/// Flows ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowFinished {
    /// Which.
    pub flows: Vec<FinishedFlow>,
}

/// Make a group with this node as its source; again with the same label: the same group.
///
/// `Ack.value` is `{group_id, group_ip, src_node_id, label}`; a `GroupCreated` comes as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateGroup {
    /// Its name, unique in the lab.
    pub label: String,
}

/// Become a member; acknowledged when the membership is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinGroup {
    /// The group.
    pub group_id: u32,
    /// How long to wait for a group that does not exist yet.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Stop being a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: u32,
}

/// Give a group one tree; refused with the reason when it is none to the members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// Directed edges.
    pub edges: Vec<Edge>,
    /// How long to wait for a group that does not exist yet.
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
    /// Its share of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Give a group several trees, replacing those it had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetGroupRoutesMulti {
    /// The group.
    pub group_id: u32,
    /// The trees.
    pub trees: Vec<Tree>,
    /// How long to wait for a group that does not exist yet.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Compute a tree to these receivers and install it; `Ack.value` is the list of its edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// None means the group's members.
    #[serde(default)]
    pub receivers: Vec<u32>,
    /// `shortest_path`.
    #[serde(default = "default_kind")]
    pub kind: String,
}

fn default_kind() -> String {
    "shortest_path".to_owned()
}

/// Something worth remembering happened in a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// What, such as `offload.fallback`.
    pub name: String,
    /// Facts about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// What a `ProbeLink` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The neighbour.
    pub remote_node_id: u32,
    /// The probe.
    pub probe_id: u64,
    /// Megabits per second.
    pub mbps: f64,
}
