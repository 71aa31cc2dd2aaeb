//! Control messages to a shard: everything that is not a packet.

use std::sync::mpsc::SyncSender;
use std::sync::Arc;

use nm_engine::{
    Command, CommandError, CommandOutput, LinkId, NodeConfig, NodeId, NodeMetrics, NodeStats,
};
use nm_flows::FlowSpec;

use super::link::wire::Wire;
use super::setup::{LinkSetup, NodeSink};
use super::tap::Tap;
use super::tun::NodeTun;

/// A node's slot on its shard. The generation distinguishes it from earlier nodes in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeKey {
    pub slot: u32,
    pub generation: u32,
}

/// One end of a memory link, as the other end addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndAddress {
    pub shard: usize,
    pub key: NodeKey,
    pub link: LinkId,
    /// Distinguishes two links that use the same slot one after the other.
    pub epoch: u64,
}

/// A node to add to a shard.
pub struct NewNode {
    pub config: NodeConfig,
    pub tun: Option<NodeTun>,
    pub sink: Arc<dyn NodeSink>,
    pub lab: Arc<str>,
}

/// A message to a shard.
pub enum ShardMessage {
    /// Add a node.
    AddNode(Box<NewNode>, SyncSender<NodeKey>),
    /// A request for a node of the shard.
    ToNode(NodeKey, Request),
    /// The other end of a memory link was added.
    Paired { end: EndAddress, peer: EndAddress },
    /// The other end of a memory link was removed.
    Unpaired {
        end: EndAddress,
        reason: &'static str,
    },
    /// A link was added whose other end dials; an incoming connection may already wait for it.
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

/// The recipient of the result of a request. It is called exactly once: with the result, or with `None` when the node
/// is closed and the request was dropped.
pub struct Reply<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T: Send + 'static> Reply<T> {
    /// Calls `then` with the result, on the thread that sends it: it must not block.
    pub fn then(then: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// Sends the result to a channel, whose receiver may have been dropped.
    pub fn to(sender: SyncSender<T>) -> Self {
        Self::then(move |answer| {
            if let Some(answer) = answer {
                // The receiver was dropped: the caller gave up or ignores the result.
                let _ = sender.try_send(answer);
            }
        })
    }
}

impl<T> Reply<T> {
    /// Delivers the result.
    pub fn send(mut self, answer: T) {
        if let Some(then) = self.0.take() {
            then(Some(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(None);
        }
    }
}

/// What to do with user-space flows.
pub enum FlowOrder {
    /// Run these.
    Add(Vec<FlowSpec>),
    /// Stop these.
    Stop(Vec<u64>),
    /// The topology is ready, so that flows may begin.
    Start,
}

/// A request to a node. A dropped reply means that the node is closed.
pub enum Request {
    Command {
        command: Box<Command>,
        reply: Reply<Result<CommandOutput, CommandError>>,
    },
    ConnectLink {
        setup: Box<LinkSetup>,
        reply: Reply<Result<(), CommandError>>,
    },
    RemoveLink {
        remote: NodeId,
        reply: Reply<Result<(), CommandError>>,
    },
    Flows {
        order: FlowOrder,
        reply: Reply<Result<(), CommandError>>,
    },
    Stats {
        reply: Reply<NodeStats>,
    },
    /// The counters, and what changed since the last such request.
    Collect {
        reply: Reply<NodeMetrics>,
    },
    /// Pass records of packets to a tap, or no longer.
    Tap {
        tap: Arc<Tap>,
        on: bool,
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_reply_is_called_exactly_once_also_when_it_is_dropped() {
        let (sender, results) = channel();
        let ask = |sender: std::sync::mpsc::Sender<Option<u8>>| {
            Reply::then(move |answer| assert!(sender.send(answer).is_ok()))
        };
        ask(sender.clone()).send(7);
        drop(ask(sender.clone()));
        drop(sender);
        assert_eq!(results.iter().collect::<Vec<_>>(), [Some(7), None]);
    }
}
