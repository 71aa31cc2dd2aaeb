//! Control messages to a shard: everything that is not a packet.

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
pub enum ShardMessage {
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
    /// A link was made whose other end dials; some incoming connection may have been early.
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

/// Where the answer to a request goes. Whoever asked hears exactly once: with the answer, or with `None` when the node
/// is gone and the request was dropped.
pub struct Reply<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T: Send + 'static> Reply<T> {
    /// Calls `then` with the answer, on the thread that gives it: it must not wait for anything.
    pub fn then(then: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// For somebody who waits on the other end of the channel, or for nobody.
    pub fn to(sender: SyncSender<T>) -> Self {
        Self::then(move |answer| {
            if let Some(answer) = answer {
                // Nobody waits for it any more: the caller gave up or did not care.
                let _ = sender.try_send(answer);
            }
        })
    }
}

impl<T> Reply<T> {
    /// Answers.
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

/// What somebody wants from a node. A dropped reply means that the node is gone.
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
    Stats {
        reply: Reply<NodeStats>,
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
    fn a_request_is_answered_once_whether_there_is_an_answer_or_not() {
        let (heard, hears) = channel();
        let ask = |heard: std::sync::mpsc::Sender<Option<u8>>| {
            Reply::then(move |answer| assert!(heard.send(answer).is_ok()))
        };
        ask(heard.clone()).send(7);
        drop(ask(heard.clone()));
        drop(heard);
        assert_eq!(hears.iter().collect::<Vec<_>>(), [Some(7), None]);
    }
}
