//! Letters to a shard: everything that is not a packet.

use std::sync::mpsc::SyncSender;
use std::sync::Arc;

use nm_engine::{Command, CommandError, CommandOutput, LinkId, NodeConfig, NodeId, NodeStats};

use super::link::wire::Wire;
use super::setup::{LinkSetup, NodeSink};
use super::tun::NodeTun;

/// A node's place on its shard. The generation tells it from whoever had the place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeKey {
    pub slot: u32,
    pub generation: u32,
}

/// One end of a memory link, as the other end has to address it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndAddress {
    pub shard: usize,
    pub key: NodeKey,
    pub link: LinkId,
    /// Differs between two links that have the same place one after the other.
    pub epoch: u64,
}

/// A node on its way to a shard.
pub struct NewNode {
    pub config: NodeConfig,
    pub tun: Option<NodeTun>,
    pub sink: Arc<dyn NodeSink>,
    pub lab: Arc<str>,
}

/// What somebody wants from a shard.
pub enum Letter {
    /// Take in a node.
    AddNode(Box<NewNode>, SyncSender<NodeKey>),
    /// Something for a node that lives there.
    ToNode(NodeKey, Request),
    /// The other end of a memory link has appeared.
    Paired { end: EndAddress, peer: EndAddress },
    /// The other end of a memory link has gone.
    Unpaired {
        end: EndAddress,
        reason: &'static str,
    },
    /// A link was made whose other end dials; some caller may have been early.
    Expected {
        lab: Arc<str>,
        node: NodeId,
        remote: NodeId,
    },
    /// A neighbour in another process has dialled, and proved that it has the link's key.
    Adopt {
        key: NodeKey,
        from: NodeId,
        wire: Wire,
    },
    /// End the thread.
    Stop,
}

/// What somebody wants from a node. A dropped reply means that the node is gone.
pub enum Request {
    Command {
        command: Box<Command>,
        reply: SyncSender<Result<CommandOutput, CommandError>>,
    },
    ConnectLink {
        setup: Box<LinkSetup>,
        reply: SyncSender<Result<(), CommandError>>,
    },
    RemoveLink {
        remote: NodeId,
        reply: SyncSender<Result<(), CommandError>>,
    },
    Stats {
        reply: SyncSender<NodeStats>,
    },
    Close {
        reply: SyncSender<()>,
    },
}
