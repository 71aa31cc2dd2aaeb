//! Commands to the engine, their results, and the errors that refuse them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use thiserror::Error;

use crate::{
    AddressPlan, FiveTuple, GroupId, LinkId, LinkSpec, NodeId, Pin, ProbeOrder, ReceiverId, RouteId,
    RoutedFlows, SessionId, SessionReport, TreeId,
};

/// Bytes that another owner holds and that the engine only reads: a Python buffer, a mapped file, a vector.
#[derive(Clone)]
pub struct SharedBytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl SharedBytes {
    /// Wraps an owner. No copy.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(owner))
    }

    /// Wraps an owner that is shared already. No copy.
    #[must_use]
    pub fn from_arc(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Self(owner)
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.as_slice().len())
    }
}

/// One explicit route of a pair of nodes, as installed at this node.
///
/// A pair may have several routes, of which the first node chooses one for each flow. With several next hops a copy is
/// sent to each (a route may be a directed acyclic graph).
#[derive(Debug, Clone, PartialEq)]
pub struct PairRoute {
    /// Source of the packets.
    pub src: NodeId,
    /// Their destination.
    pub dst: NodeId,
    /// Its number, the same at every node; not 0.
    pub id: RouteId,
    /// Its share of the flows of the pair is this by the sum of the weights of all their routes; positive and finite.
    pub weight: f64,
    /// The neighbours to which this node sends a copy.
    pub next_hops: Vec<NodeId>,
}

/// An entry of the group directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// The group.
    pub group_id: GroupId,
    /// Its address.
    pub group_ip: Ipv4Addr,
    /// The node that sends to it.
    pub source: NodeId,
    /// The name its creator gave it.
    pub label: String,
}

/// This node's forwarding entry in one multicast tree of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRoute {
    /// The tree. Packets use the tree with the lowest id; striping over several trees is not implemented.
    pub tree_id: TreeId,
    /// The children in the tree; each is sent a copy.
    pub next_hops: Vec<NodeId>,
    /// Whether the controller counted this node among the members when it computed the tree. Local delivery follows
    /// the node's own membership and receivers, which are at least as recent.
    pub local: bool,
}

/// The destination of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A node; the address is chosen by the [`AddressPlan`].
    Node(NodeId),
    /// A group's address.
    Group(Ipv4Addr),
}

/// The destination of a flow that is not carried as packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopTarget {
    /// An address; the node that it belongs to, or is behind, is the exit.
    Address(IpAddr),
    /// The exit.
    Node(NodeId),
}

/// The flow that a receiver matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowFilter {
    /// The sending node.
    pub src_node: NodeId,
    /// `None` matches packets sent to this node, `Some` those sent to that group.
    pub group: Option<Ipv4Addr>,
    /// Sender's UDP port.
    pub src_port: u16,
    /// Destination UDP port at this node.
    pub dst_port: u16,
}

/// A request to the engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Replaces the address plan (the controller's reply to the registration may contain one). Output: `Done`.
    Configure {
        /// The new plan.
        addresses: AddressPlan,
    },
    /// Adds the link to a neighbour, or updates it. A new link starts in state down. Output: `Link`.
    AddLink {
        /// The neighbour.
        remote: NodeId,
        /// Its name; the random streams of the link are derived from it.
        remote_name: String,
        /// Impairments of the packets that this node sends on the link.
        spec: LinkSpec,
    },
    /// Replaces the impairments of a link while it carries packets. Output: `Done`.
    SetLink {
        /// The neighbour.
        remote: NodeId,
        /// The whole new specification.
        spec: LinkSpec,
    },
    /// Pauses the node, or resumes it: until then it drops every packet that arrives or is sent, and no timer runs.
    /// Packets in the queues of its links leave afterwards. Output: `Done`.
    SetPaused {
        /// Whether it shall be paused.
        paused: bool,
    },
    /// Removes a link; packets in its queue are dropped and counted. Output: `Done`.
    RemoveLink {
        /// The neighbour.
        remote: NodeId,
    },
    /// Installs routes. Output: `Done`.
    InstallRoutes {
        /// Next-hop node per destination id, 0 = none. `None` leaves the forwarding table unchanged.
        table: Option<Vec<NodeId>>,
        /// Explicit routes to add or replace, by (src, dst, id).
        routes: Vec<PairRoute>,
        /// Pairs whose explicit routes are removed before `routes` are added.
        removed: Vec<(NodeId, NodeId)>,
    },
    /// Adds or replaces pins by their numbers, and removes others. Output: `Done`.
    SetPins {
        /// New or changed pins. One whose route does not exist here has no effect until it does.
        pins: Vec<Pin>,
        /// The numbers of those to remove; unknown ones are skipped.
        removed: Vec<u64>,
    },
    /// Lists the flows for which this node chose an explicit route. Output: `RoutedFlows`.
    RoutedFlows {
        /// The most flows to list.
        limit: usize,
    },
    /// Adds groups to the directory and removes groups from it. Output: `Done`.
    InstallGroups {
        /// New or changed entries.
        groups: Vec<GroupInfo>,
        /// Groups to remove.
        removed: Vec<GroupId>,
    },
    /// Replaces this node's routes of a group. An empty list removes them. Output: `Done`.
    InstallGroupRoutes {
        /// The group.
        group_id: GroupId,
        /// The source of the group, the root of its trees.
        source: NodeId,
        /// One entry per tree that contains this node.
        routes: Vec<GroupRoute>,
    },
    /// Makes this node a member of a group; no effect when it is one already. Output: `Done`.
    JoinGroup {
        /// The group.
        group_id: GroupId,
    },
    /// Ends the membership; receiving sessions of the group notify their sender. Output: `Done`.
    LeaveGroup {
        /// The group.
        group_id: GroupId,
    },
    /// Delivers matching UDP packets to a receiver instead of TUN. Output: `Receiver`.
    RegisterReceiver {
        /// The flow.
        filter: FlowFilter,
    },
    /// Closes a receiver. Output: `Done`.
    CloseReceiver {
        /// The receiver.
        receiver: ReceiverId,
    },
    /// Sends one UDP packet; it is accepted whole or refused. Output: `Sent`.
    SendMessage {
        /// The destination.
        target: Target,
        /// `None`: the node's client port.
        src_port: Option<u16>,
        /// `None`: the node's server port.
        dst_port: Option<u16>,
        /// The message, at most [`crate::MAX_MESSAGE`] bytes.
        payload: SharedBytes,
    },
    /// Starts a lossless transfer. Output: `Session`.
    SendData {
        /// A group's address or a node's.
        dest: Ipv4Addr,
        /// The receivers; each must receive every byte.
        receivers: Vec<NodeId>,
        /// The data.
        data: SharedBytes,
    },
    /// Prepares to receive a lossless transfer: accepts the next offer of `source` to `dest` that no other call has
    /// accepted. Several calls accept offers in the order of the calls. Output: `Session`.
    ReceiveData {
        /// The destination address of the transfer: a group's, or this node's.
        dest: Ipv4Addr,
        /// The sending node.
        source: NodeId,
        /// Capacity of the receive buffer in bytes.
        expected_bytes: u64,
    },
    /// Reads the progress of a session. Output: `Report`.
    SessionReport {
        /// The session.
        session: SessionId,
    },
    /// Cancels a session immediately and notifies its peers; a session that has ended is not changed. Output: `Done`.
    CancelSession {
        /// The session.
        session: SessionId,
    },
    /// Finds the next node of a flow that is not carried as packets; a link that is down is no next hop. Output: `Hop`.
    FindHop {
        /// The node at which the flow entered.
        src: NodeId,
        /// Where it goes.
        target: HopTarget,
        /// Its addresses and ports, which select one of several routes.
        flow: FiveTuple,
        /// The route that its first node has chosen, 0 for the table; `None` at its first node.
        route: Option<RouteId>,
    },
    /// Ends the wait of sessions for a node that the controller has reported as gone. Output: `Done`.
    NodeGone {
        /// The node.
        node: NodeId,
        /// The reason, as shown in session reports.
        reason: String,
    },
    /// Measures a link; [`crate::Event::ProbeFinished`] has the result. Output: `Done`.
    ProbeLink {
        /// The neighbour.
        remote: NodeId,
        /// What to do.
        order: ProbeOrder,
    },
}

/// The result of a [`Command`].
#[derive(Debug)]
#[non_exhaustive]
pub enum CommandOutput {
    /// The command was executed.
    Done,
    /// The link's index.
    Link(LinkId),
    /// The receiver's id.
    Receiver(ReceiverId),
    /// Bytes sent.
    Sent(usize),
    /// The session's id.
    Session(SessionId),
    /// The next node of a flow.
    Hop {
        /// The node at which it leaves; 0 for the nearest uplink.
        exit: NodeId,
        /// The neighbour on the way there; `None` when this node is the exit.
        next: Option<NodeId>,
        /// The route of the flow, 0 for the table.
        route: RouteId,
    },
    /// The progress of a session.
    Report(Box<SessionReport>),
    /// Flows and their routes.
    RoutedFlows(RoutedFlows),
}

/// Why a [`Command`] was refused. The state of the engine is unchanged.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The node is no neighbour.
    #[error("node {0} is no neighbour of this node")]
    UnknownLink(NodeId),
    /// No such group in the directory.
    #[error("group {0} is unknown here")]
    UnknownGroup(GroupId),
    /// No group has that address.
    #[error("no group has the address {0}")]
    UnknownGroupAddress(Ipv4Addr),
    /// The address is neither a node's nor a group's.
    #[error("{0} is neither a node's address nor a group's")]
    UnknownAddress(IpAddr),
    /// No route to the node.
    #[error("no route to node {0}")]
    NoRoute(NodeId),
    /// This node has no route of the group that starts here.
    #[error("no routes of group {0} are installed here")]
    NoGroupRoutes(GroupId),
    /// The message does not fit one packet.
    #[error("a message of {len} bytes is larger than the largest, {max} bytes")]
    MessageTooLarge {
        /// The requested length in bytes.
        len: usize,
        /// The largest length in bytes.
        max: usize,
    },
    /// Another receiver matches that flow already.
    #[error(
        "a receiver for the flow from node {src_node}, port {src_port}, to port {dst_port} exists already"
    )]
    ReceiverExists {
        /// The sending node.
        src_node: NodeId,
        /// Its UDP port.
        src_port: u16,
        /// Destination port at this node.
        dst_port: u16,
    },
    /// No such receiver.
    #[error("receiver {0} is unknown or closed")]
    UnknownReceiver(ReceiverId),
    /// No such session, or its report was discarded.
    #[error("session {0} is unknown here")]
    UnknownSession(SessionId),
    /// The data of a transfer is empty.
    #[error("the buffer is empty")]
    EmptyBuffer,
    /// The list of receivers is empty.
    #[error("no receivers are listed")]
    NoReceivers,
    /// A receiver is listed twice, is the sender itself, or does not have the destination address.
    #[error("node {0} cannot be a receiver of this transfer: {1}")]
    BadReceiver(NodeId, &'static str),
    /// The data exceeds the range of segment numbers or offsets.
    #[error("a transfer of {len} bytes exceeds the largest, {max} bytes")]
    TooLarge {
        /// The requested length in bytes.
        len: u64,
        /// The largest length in bytes.
        max: u64,
    },
    /// The receive buffer could not be allocated.
    #[error("no memory for {0} bytes")]
    OutOfMemory(u64),
    /// An argument is out of range, such as a field of a link specification.
    #[error("{0}")]
    Invalid(String),
}

impl CommandError {
    /// A stable identifier for scripts and for the Python error tree.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        match self {
            Self::UnknownLink(_) => "engine.unknown_link",
            Self::UnknownGroup(_) => "engine.unknown_group",
            Self::UnknownGroupAddress(_) => "engine.unknown_group_address",
            Self::UnknownAddress(_) => "engine.unknown_address",
            Self::NoRoute(_) => "engine.no_route",
            Self::NoGroupRoutes(_) => "engine.no_group_routes",
            Self::MessageTooLarge { .. } => "engine.message_too_large",
            Self::ReceiverExists { .. } => "engine.receiver_exists",
            Self::UnknownReceiver(_) => "engine.unknown_receiver",
            Self::UnknownSession(_) => "engine.unknown_session",
            Self::EmptyBuffer => "engine.empty_buffer",
            Self::NoReceivers => "engine.no_receivers",
            Self::BadReceiver(..) => "engine.bad_receiver",
            Self::TooLarge { .. } => "engine.too_large",
            Self::OutOfMemory(_) => "engine.out_of_memory",
            Self::Invalid(_) => "engine.invalid",
        }
    }
}
