//! Messages from the controller to a dataplane; they extend `ControllerToDataplane` of Nextmini.
//!
//! In messages that may concern all nodes of a process (`TopologyReady`, `NodeState`, `InstallGroupDirectory`), node
//! 0 in the header of the frame means "every node on this connection".
//!
//! Versions are opaque: a node stores the latest one per item and reports it in `StartUp.have` when it reconnects.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::codec::messages;
use crate::connection::{Ack, Error, Goodbye, Welcome};
use crate::flows::{AddFlows, StopFlows};
use crate::link::LinkSpec;

messages! {
    /// A message from the controller to a dataplane; the variant's name is its type on the wire.
    ToNode {
        Welcome, Ack, Error, Goodbye,
        NodeSettings, AddNode, RemoveNode, AddNodeAddress, InstallRoutes, SetLink, AddFlows, StopFlows, TopologyReady,
        AgentWanted,
        GroupCreated, InstallGroupDirectory, InstallGroupRoutes, MemberChanged, NodeState, ProbeLink,
        MeasureLinks, SampleNodes, ListFlowRoutes,
    }
}

/// The mode of this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The node.
    pub node_id: u32,
    /// The mode: `normal`.
    #[serde(default = "default_mode")]
    pub operating_mode: String,
}

fn default_mode() -> String {
    "normal".to_owned()
}

/// The settings of a node: `ControllerToDataplane::StartUp` of Nextmini.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// The id of the node.
    pub node_id: u32,
    /// Network mask of all three address ranges.
    pub net_mask: String,
    /// Base of the addresses on TUN devices: node n has this address plus n.
    pub virtual_base_addr: String,
    /// The same for user-space endpoints of the Python API.
    pub user_space_base_addr: String,
    /// The same for endpoints outside of the lab.
    pub external_base_addr: String,
    /// First address of the pool of group addresses.
    pub multicast_pool_base: String,
    /// Mask of the pool of group addresses.
    pub multicast_pool_mask: String,
    /// Port for flows on demand.
    pub max_server_port: u16,
    /// The transport of links.
    pub protocol: String,
    /// The scheduler of flows on an outgoing link.
    pub scheduler_type: String,
    /// The lab's seed.
    pub seed: u64,
    /// The mode of this node.
    pub node_spec: NodeSpec,
}

/// Adds the link to a neighbour that has registered; sent to both ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddNode {
    /// The neighbour.
    pub remote_node_id: u32,
    /// Its name.
    pub remote_name: String,
    /// `host:port` to connect to; empty when this side does not connect.
    pub remote_addr: String,
    /// The neighbour's process; a changed number means that it was restarted.
    pub remote_process: u64,
    /// Whether both ends are in one process, so that the link stays in memory and neither connects.
    pub same_process: bool,
    /// Whether this side connects; the other one accepts.
    pub dial: bool,
    /// Impairments of the packets that this node sends to the neighbour.
    pub link: LinkSpec,
    /// Version of all fields above; reported in `Have::links`.
    pub version: u64,
    /// The path of the neighbour's unix socket, to be tried first; empty when there is none. It only changes with the
    /// neighbour's process, so the version does not cover it.
    #[serde(default)]
    pub remote_socket: String,
    /// The link's key of 32 bytes, whose possession both ends prove to each other. It is constant for a lab and a
    /// pair of nodes, so the version does not cover it.
    #[serde(default)]
    pub secret: Secret,
    /// Whether this direction was taken down: all packets to the neighbour are dropped, while the link stays.
    #[serde(default)]
    pub down: bool,
}

/// Secret bytes; hidden in debug output.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub ByteBuf);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

/// Removes the link to a neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// The former neighbour.
    pub remote_node_id: u32,
}

/// The address at which a node accepts flows on demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddNodeAddress {
    /// The node.
    pub remote_node_id: u32,
    /// `host:port`.
    pub remote_max_server_addr: String,
}

/// The entry of an explicit route at one node; with several next hops a copy is sent to each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The route.
    pub route_id: u64,
    /// Its source node.
    pub src_node_id: u32,
    /// Its destination node.
    pub dst_node_id: u32,
    /// The next hops of this node.
    pub next_hops: Vec<u32>,
    /// Its share of the flows of its pair, by the sum of the weights of all routes of the pair; positive.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

fn default_weight() -> f64 {
    1.0
}

/// Flows of a pair of nodes that shall take a certain route; sent to the source. Absent fields match every value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// The pin.
    pub pin_id: u64,
    /// Source of the flows.
    pub src_node_id: u32,
    /// Their destination.
    pub dst_node_id: u32,
    /// The route.
    pub route_id: u64,
    /// The number of the protocol above IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// The source's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// The destination's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_port: Option<u16>,
}

/// Changes the forwarding table and explicit routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallRoutes {
    /// Version of the routes after this message.
    pub version: u64,
    /// Next-hop node ids as little-endian `u32`, indexed by destination id, 0 for none; absent when unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<ByteBuf>,
    /// Explicit routes that are new or changed.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Ids of removed routes.
    #[serde(default)]
    pub removed: Vec<u64>,
    /// Whether to remove all explicit routes and pins before adding those of this message.
    #[serde(default)]
    pub reset: bool,
    /// Pins that are new or changed.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Numbers of removed pins.
    #[serde(default)]
    pub removed_pins: Vec<u64>,
}

impl InstallRoutes {
    /// The next hop for each destination id, 0 for none; `None` when the table is unchanged.
    pub fn next_hops(&self) -> Option<impl ExactSizeIterator<Item = u32> + '_> {
        self.table.as_ref().map(|table| {
            table
                .chunks_exact(4)
                .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        })
    }
}

/// Changes the impairments of the packets to a neighbour; `version` replaces that of `AddNode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetLink {
    /// The neighbour.
    pub remote_node_id: u32,
    /// Impairments of the packets that this node sends to the neighbour.
    pub link: LinkSpec,
    /// Its version, reported in `Have::links`.
    pub version: u64,
    /// As in [`AddNode`].
    #[serde(default)]
    pub down: bool,
}

/// Every node is ready; traffic may start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopologyReady {}

/// Requests an agent: roles are to run in nodes of this process, which has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentWanted {}

/// A group that this node requested exists.
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

/// An entry of the group directory.
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

/// Adds groups to the directory and removes groups from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallGroupDirectory {
    /// Version of the directory after this message.
    pub version: u64,
    /// New or changed groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Ids of removed groups.
    #[serde(default)]
    pub removed: Vec<u32>,
    /// Whether to remove all groups before adding `groups`.
    #[serde(default)]
    pub reset: bool,
}

/// The forwarding entry of this node for one tree of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRoute {
    /// The tree.
    pub tree_id: u16,
    /// Group id × 65,536 + tree id.
    pub route_id: u64,
    /// The neighbours to which a copy is sent.
    pub next_hops: Vec<u32>,
    /// Whether a copy is delivered locally.
    pub local: bool,
    /// The weight of the tree in the distribution of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// All forwarding entries of this node for a group; an empty list removes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstallGroupRoutes {
    /// The group.
    pub group_id: u32,
    /// Its source.
    pub src_node_id: u32,
    /// Its version, reported in `Have::trees`.
    pub version: u64,
    /// One entry per tree.
    #[serde(default)]
    pub routes: Vec<GroupRoute>,
}

/// A node joined or left a group; sent to that node and to the source of the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberChanged {
    /// The group.
    pub group_id: u32,
    /// The node.
    pub node_id: u32,
    /// Whether it joined; otherwise it left.
    pub joined: bool,
}

/// A node's state changed: `starting`, `ready`, `unreachable`, `stopped` or `vacant`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node.
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
    /// The most bytes to send.
    pub probe_bytes: u64,
    /// How long it may take, in milliseconds.
    #[serde(default = "default_probe_ms")]
    pub time_ms: u32,
    /// Whether to measure the transport below the impairments of the link.
    #[serde(default)]
    pub below: bool,
}

const fn default_probe_ms() -> u32 {
    3_000
}

/// Send a `LinkMeasurements` for each node concerned; acknowledged behind the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasureLinks {}

/// Send a `NodeSample` for each node concerned; acknowledged behind the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleNodes {}

/// List the flows for which this node, their first one, chose an explicit route. `Ack.value` is
/// `{flows: [[flow, route_id, by, idle_ms], …], known, forgotten}`, the latest flows first, where `by` is `only`,
/// `hash`, `pin` or `fallback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListFlowRoutes {
    /// The most flows to list.
    pub limit: u32,
}
