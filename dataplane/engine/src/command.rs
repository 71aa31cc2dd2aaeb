//! What the node's owner may ask of the engine, and what it answers.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use thiserror::Error;

use crate::{AddressPlan, GroupId, LinkId, LinkSpec, NodeId, ReceiverId, SessionId, SessionReport, TreeId};

/// Bytes that somebody else owns and that the engine only reads: a Python buffer, a mapped file, a vector.
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

/// One of the explicit routes of a pair of nodes, as this node has to know it.
///
/// A pair may have several routes; a flow takes number `hash(flow) % of` at every node on the way, so all nodes
/// must be told the same `of`. Several next hops make a copy for each (a route may be a DAG).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairRoute {
    /// Source of the packets.
    pub src: NodeId,
    /// Their destination.
    pub dst: NodeId,
    /// Number of this route among the pair's, from 0.
    pub index: u32,
    /// How many routes the pair has in the whole network.
    pub of: u32,
    /// The neighbours that get a copy here.
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

/// This node's place in one tree of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRoute {
    /// The tree. Packets use the lowest one until striping over trees exists.
    pub tree_id: TreeId,
    /// The children.
    pub next_hops: Vec<NodeId>,
    /// Whether the tree's maker counts this node among the members. Delivery itself follows the node's own
    /// membership and receivers, which are never older than what the maker knew.
    pub local: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A node; the address is chosen by the [`AddressPlan`].
    Node(NodeId),
    /// A group's address.
    Group(Ipv4Addr),
}

/// Which flow a receiver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowFilter {
    /// The sending node.
    pub src_node: NodeId,
    /// `None`: what was sent to this node. `Some`: what was sent to that group.
    pub group: Option<Ipv4Addr>,
    /// Sender's UDP port.
    pub src_port: u16,
    /// Our UDP port.
    pub dst_port: u16,
}

/// A request to the engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Replaces the address plan (the controller's start-up answer may bring it). Answer: `Done`.
    Configure {
        /// The new plan.
        addresses: AddressPlan,
    },
    /// Makes the link to a neighbour known, or changes what is known. Starts down. Answer: `Link`.
    AddLink {
        /// The neighbour.
        remote: NodeId,
        /// Its name; the link's random streams derive from it.
        remote_name: String,
        /// What the link does to packets that we send.
        spec: LinkSpec,
    },
    /// Changes what a link does, live. Answer: `Done`.
    SetLink {
        /// The neighbour.
        remote: NodeId,
        /// The whole new specification.
        spec: LinkSpec,
    },
    /// Forgets a link; packets in its queue are dropped and counted. Answer: `Done`.
    RemoveLink {
        /// The neighbour.
        remote: NodeId,
    },
    /// Installs routes. Answer: `Done`.
    InstallRoutes {
        /// Next-hop node per destination id, 0 = none. `None` leaves the table as it is.
        table: Option<Vec<NodeId>>,
        /// Explicit routes to add or replace, by (src, dst, index).
        routes: Vec<PairRoute>,
        /// Pairs whose explicit routes go away before `routes` are added.
        removed: Vec<(NodeId, NodeId)>,
    },
    /// Adds groups to the directory and takes some out. Answer: `Done`.
    InstallGroups {
        /// New or changed entries.
        groups: Vec<GroupInfo>,
        /// Entries that are gone.
        removed: Vec<GroupId>,
    },
    /// Replaces this node's routes of a group. An empty list removes them. Answer: `Done`.
    InstallGroupRoutes {
        /// The group.
        group_id: GroupId,
        /// The root.
        source: NodeId,
        /// One entry per tree that passes here.
        routes: Vec<GroupRoute>,
    },
    /// Makes this node a member of a group (twice is once). Answer: `Done`.
    JoinGroup {
        /// The group.
        group_id: GroupId,
    },
    /// Ends the membership; receiving sessions of the group tell their sender. Answer: `Done`.
    LeaveGroup {
        /// The group.
        group_id: GroupId,
    },
    /// Hands matching UDP packets to a receiver instead of TUN. Answer: `Receiver`.
    RegisterReceiver {
        /// The flow.
        filter: FlowFilter,
    },
    /// Ends a receiver. Answer: `Done`.
    CloseReceiver {
        /// The receiver.
        receiver: ReceiverId,
    },
    /// Sends one UDP packet, whole or not at all. Answer: `Sent`.
    SendMessage {
        /// Where to.
        target: Target,
        /// `None`: the node's client port.
        src_port: Option<u16>,
        /// `None`: the node's server port.
        dst_port: Option<u16>,
        /// The message, at most [`crate::MAX_MESSAGE`] bytes.
        payload: SharedBytes,
    },
    /// Starts a lossless transfer. Answer: `Session`.
    SendData {
        /// A group's address or a node's.
        dest: Ipv4Addr,
        /// Every receiver that must get every byte.
        receivers: Vec<NodeId>,
        /// The data.
        data: SharedBytes,
    },
    /// Prepares to receive a lossless transfer: takes the next offer of `source` to `dest` that no other call has
    /// taken. Several calls take offers in the order in which they were made. Answer: `Session`.
    ReceiveData {
        /// The address that the sender sends to: a group's, or ours.
        dest: Ipv4Addr,
        /// The sending node.
        source: NodeId,
        /// How many bytes we can take.
        expected_bytes: u64,
    },
    /// Asks how a session stands. Answer: `Report`.
    SessionReport {
        /// The session.
        session: SessionId,
    },
    /// Ends a session at once and tells its peers; one that has ended stays as it is. Answer: `Done`.
    CancelSession {
        /// The session.
        session: SessionId,
    },
    /// The controller says that a node is gone: sessions stop waiting for it. Answer: `Done`.
    NodeGone {
        /// The node.
        node: NodeId,
        /// Why, for the reports.
        reason: String,
    },
}

/// The answer to a [`Command`].
#[derive(Debug)]
#[non_exhaustive]
pub enum CommandOutput {
    /// Carried out.
    Done,
    /// The link's index.
    Link(LinkId),
    /// The receiver's id.
    Receiver(ReceiverId),
    /// Bytes sent.
    Sent(usize),
    /// The session's id.
    Session(SessionId),
    /// How a session stands.
    Report(Box<SessionReport>),
}

/// Why a [`Command`] was refused. Nothing was changed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No link to that node.
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
    UnknownAddress(Ipv4Addr),
    /// No route to the node.
    #[error("no route to node {0}")]
    NoRoute(NodeId),
    /// The group has no tree that starts here.
    #[error("no routes of group {0} are installed here")]
    NoGroupRoutes(GroupId),
    /// The message does not fit one packet.
    #[error("a message of {len} bytes is larger than the largest, {max} bytes")]
    MessageTooLarge {
        /// What was asked.
        len: usize,
        /// What is possible.
        max: usize,
    },
    /// Somebody listens to that flow already.
    #[error(
        "a receiver for the flow from node {src_node}, port {src_port}, to port {dst_port} exists already"
    )]
    ReceiverExists {
        /// The sending node.
        src_node: NodeId,
        /// Its port.
        src_port: u16,
        /// Our port.
        dst_port: u16,
    },
    /// No such receiver.
    #[error("receiver {0} is unknown or closed")]
    UnknownReceiver(ReceiverId),
    /// No such session, or its record has gone.
    #[error("session {0} is unknown here")]
    UnknownSession(SessionId),
    /// A transfer of nothing.
    #[error("the buffer is empty")]
    EmptyBuffer,
    /// A transfer to nobody.
    #[error("no receivers are listed")]
    NoReceivers,
    /// A receiver is listed twice, or is the sender itself.
    #[error("node {0} cannot be a receiver of this transfer: {1}")]
    BadReceiver(NodeId, &'static str),
    /// More than the protocol can number.
    #[error("{len} bytes are more than one session carries, {max} bytes")]
    TooLarge {
        /// What was asked.
        len: u64,
        /// What is possible.
        max: u64,
    },
    /// The sink could not be allocated.
    #[error("no memory for {0} bytes")]
    OutOfMemory(u64),
    /// A link specification or another argument that cannot be.
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
