//! What the controller tells a dataplane; Nextmini's `ControllerToDataplane`, grown up.
//!
//! Where a message may concern all nodes of a process at once (`TopologyReady`, `NodeState`,
//! `InstallGroupDirectory`), node 0 in the frame's header means "every node on this connection".
//!
//! Versions are opaque: keep the latest one per thing and show them in `StartUp.have` when coming back.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::codec::messages;
use crate::connection::{Ack, Error, Goodbye, Welcome};

messages! {
    /// A message from the controller to a dataplane; the variant's name is its type on the wire.
    ToNode {
        Welcome, Ack, Error, Goodbye,
        NodeSettings, AddNode, RemoveNode, AddNodeAddress, InstallRoutes, SetLink, AddFlows, TopologyReady,
        AgentWanted,
        GroupCreated, InstallGroupDirectory, InstallGroupRoutes, MemberChanged, NodeState, ProbeLink,
    }
}

/// How this node runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The node.
    pub node_id: u32,
    /// `normal`.
    #[serde(default = "default_mode")]
    pub operating_mode: String,
}

fn default_mode() -> String {
    "normal".to_owned()
}

/// Who the node is: Nextmini's `ControllerToDataplane::StartUp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// The node's number.
    pub node_id: u32,
    /// Of all three address spaces.
    pub net_mask: String,
    /// Node n has this address plus n on its TUN device.
    pub virtual_base_addr: String,
    /// The same for user-space endpoints.
    pub user_space_base_addr: String,
    /// The same for endpoints outside.
    pub external_base_addr: String,
    /// Where group addresses come from.
    pub multicast_pool_base: String,
    /// How many there are.
    pub multicast_pool_mask: String,
    /// Port for flows on demand.
    pub max_server_port: u16,
    /// What links run over.
    pub protocol: String,
    /// How an outgoing link serves its flows.
    pub scheduler_type: String,
    /// The lab's seed.
    pub seed: u64,
    /// How this node runs.
    pub node_spec: NodeSpec,
}

/// What one direction of a link does to packets; an absent field does not touch them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// Bits per second, headers included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Constant one-way delay in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// Probability that an MTU segment is lost, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub loss: Option<f64>,
    /// Room of the queue in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Room of the queue in MTU segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_packets: Option<u64>,
}

fn fraction<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(input)? {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(serde::de::Error::custom(format!(
            "loss is {value}, but a probability lies between 0 and 1"
        ))),
        value => Ok(value),
    }
}

/// There is a link to this neighbour, which has registered; sent to both ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddNode {
    /// The neighbour.
    pub remote_node_id: u32,
    /// Its name.
    pub remote_name: String,
    /// `host:port` to dial; empty when this side does not dial.
    pub remote_addr: String,
    /// The neighbour's process; another number than before means that it was started anew.
    pub remote_process: u64,
    /// The link stays in memory and nobody dials.
    pub same_process: bool,
    /// This side dials; the other accepts.
    pub dial: bool,
    /// What happens to the packets that leave here for there.
    pub link: LinkSpec,
    /// Of all of the above; report it in `Have::links`.
    pub version: u64,
    /// The path of the neighbour's unix socket, to be tried first; empty when there is none. It is the process's
    /// and changes with that alone, so that no version counts it.
    #[serde(default)]
    pub remote_socket: String,
    /// The link's key, 32 bytes, which both ends have and prove to each other. It is the lab's and the pair's and
    /// changes with these alone, so that no version counts it.
    #[serde(default)]
    pub secret: Secret,
}

/// Bytes that open something; not shown in debug output.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub ByteBuf);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

/// There is no link to this node any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// The former neighbour.
    pub remote_node_id: u32,
}

/// Where a node takes flows on demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddNodeAddress {
    /// The node.
    pub remote_node_id: u32,
    /// `host:port`.
    pub remote_max_server_addr: String,
}

/// An explicit route's part at one node; several next hops mean a copy to each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The route.
    pub route_id: u64,
    /// Where it begins.
    pub src_node_id: u32,
    /// Where it ends.
    pub dst_node_id: u32,
    /// Where this node sends its packets.
    pub next_hops: Vec<u32>,
}

/// Change where packets go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallRoutes {
    /// Of the routes after this message.
    pub version: u64,
    /// Next-hop node ids as little-endian `u32`, indexed by destination id, 0 for none; absent when unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<ByteBuf>,
    /// Explicit routes that are new or changed.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Route ids that are gone.
    #[serde(default)]
    pub removed: Vec<u64>,
    /// Forget all explicit routes before applying `routes`.
    #[serde(default)]
    pub reset: bool,
}

impl InstallRoutes {
    /// The next hop for each destination id, 0 for none; nothing when the table stays as it is.
    pub fn next_hops(&self) -> Option<impl ExactSizeIterator<Item = u32> + '_> {
        self.table.as_ref().map(|table| {
            table
                .chunks_exact(4)
                .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        })
    }
}

/// Impair the packets to a neighbour like this from now on; `version` replaces that of `AddNode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetLink {
    /// The neighbour.
    pub remote_node_id: u32,
    /// What happens to the packets that leave here for there.
    pub link: LinkSpec,
    /// Report it in `Have::links`.
    pub version: u64,
}

/// A user-space flow to run; exactly one of `size_bytes` and `duration_ms` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The controller's number for it.
    pub controller_id: u64,
    /// Where it begins.
    pub src_node_id: u32,
    /// Where it ends.
    pub dst_node_id: u32,
    /// Payload to carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// How long to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Its share where flows compete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The route it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<u64>,
    /// `tcp` or `lossless_unicast`.
    #[serde(default = "default_transport")]
    pub transport: String,
}

fn default_transport() -> String {
    "tcp".to_owned()
}

/// Run these flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddFlows {
    /// Which.
    pub flows: Vec<Flow>,
}

/// Every node is ready; traffic may start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopologyReady {}

/// Roles are to run in nodes of this process, and nobody here has offered to run them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentWanted {}

/// The group that this node asked for exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupCreated {
    /// The group.
    pub group_id: u32,
    /// Its address.
    pub group_ip: String,
    /// Its source.
    pub src_node_id: u32,
    /// Its name.
    pub label: String,
}

/// A line of the group directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The group.
    pub group_id: u32,
    /// Its address.
    pub group_ip: String,
    /// Its source.
    pub src_node_id: u32,
    /// Its name.
    pub label: String,
}

/// Groups that are new, and ids of those that are gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallGroupDirectory {
    /// Of the whole directory after this message.
    pub version: u64,
    /// New or changed.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Gone.
    #[serde(default)]
    pub removed: Vec<u32>,
    /// Forget all groups before applying `groups`.
    #[serde(default)]
    pub reset: bool,
}

/// What this node does with a group's packets on one tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRoute {
    /// The tree.
    pub tree_id: u16,
    /// Group id × 65,536 + tree id.
    pub route_id: u64,
    /// A copy to each of these.
    pub next_hops: Vec<u32>,
    /// And one here.
    pub local: bool,
    /// The tree's share of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// All of this node's routes for a group; none means that it has no part in it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// Its source.
    pub src_node_id: u32,
    /// Report it in `Have::trees`.
    pub version: u64,
    /// By tree.
    #[serde(default)]
    pub routes: Vec<GroupRoute>,
}

/// A node joined or left; sent to that node and to the group's source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberChanged {
    /// The group.
    pub group_id: u32,
    /// Who.
    pub node_id: u32,
    /// Joined or left.
    pub joined: bool,
}

/// A node's state changed: `starting`, `ready`, `unreachable`, `stopped` or `vacant`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Who.
    pub node_id: u32,
    /// The new state.
    pub state: String,
}

/// Measure the link to a neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeLink {
    /// The neighbour.
    pub remote_node_id: u32,
    /// The probe.
    pub probe_id: u64,
    /// How much to send.
    pub probe_bytes: u64,
}
