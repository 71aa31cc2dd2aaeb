//! What happened to a node, kept until somebody asks.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use nm_engine::SessionId;

/// Events kept at most; enough for a burst of a thousand members, and bounded for a program that never looks.
pub const STASH_LIMIT: usize = 4096;

/// Something that happened to this node or that it was told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The controller says that every node is ready.
    TopologyReady,
    /// A group that this node asked for exists.
    GroupCreated {
        /// The group.
        group_id: u32,
        /// Its address.
        group_ip: Ipv4Addr,
        /// The node that sends to it.
        src_node_id: u32,
        /// The name its creator gave it.
        label: String,
    },
    /// A group was taken out of the directory.
    GroupRemoved {
        /// The group.
        group_id: u32,
    },
    /// Routes of a group were installed here.
    GroupRoutesInstalled {
        /// The group.
        group_id: u32,
        /// The root of its trees.
        src_node_id: u32,
        /// How many trees now pass here.
        routes: u32,
    },
    /// This node became a member.
    LocalMemberJoined {
        /// The group.
        group_id: u32,
    },
    /// This node is no member any more.
    LocalMemberLeft {
        /// The group.
        group_id: u32,
    },
    /// Another node joined or left a group of this node's.
    MemberChanged {
        /// The group.
        group_id: u32,
        /// The node.
        node_id: u32,
        /// Whether it joined.
        joined: bool,
    },
    /// Another node's state changed.
    NodeState {
        /// The node.
        node_id: u32,
        /// Its new state.
        state: String,
    },
    /// A link of this node came up or went down.
    LinkState {
        /// The neighbour.
        remote_node_id: u32,
        /// Whether it carries packets.
        up: bool,
        /// Why.
        reason: String,
        /// What carries it while it is up: `memory`, `shared`, `unix` or `tcp`.
        kind: &'static str,
    },
    /// The process has no unix socket for links, though it should; links to other processes go over TCP.
    NoListener {
        /// Why.
        reason: String,
    },
    /// The node's packet engine failed and was started anew: its receivers and sessions are over, and links and routes
    /// come again from the controller.
    EngineRestarted {
        /// What failed.
        reason: String,
    },
    /// A lossless session of this node ended.
    SessionFinished {
        /// The session.
        session_id: SessionId,
        /// How.
        state: &'static str,
    },
    /// A receiver of a session changed its state.
    SessionPeer {
        /// The session.
        session_id: SessionId,
        /// The receiver.
        node_id: u32,
        /// Its state.
        state: &'static str,
    },
    /// The connection to the controller was lost or made again.
    Controller {
        /// Whether there is a connection now.
        connected: bool,
        /// Why.
        reason: String,
    },
}

/// Events in the order in which they happened; the oldest go first when there are too many.
#[derive(Debug, Default)]
pub struct Stash {
    events: VecDeque<NodeEvent>,
    forgotten: u64,
}

impl Stash {
    /// Keeps an event.
    pub fn push(&mut self, event: NodeEvent) {
        if self.events.len() == STASH_LIMIT {
            self.events.pop_front();
            self.forgotten += 1;
        }
        self.events.push_back(event);
    }

    /// Keeps several, or none.
    pub fn extend(&mut self, events: impl IntoIterator<Item = NodeEvent>) {
        events.into_iter().for_each(|event| self.push(event));
    }

    /// Hands out the oldest event.
    pub fn pop(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// How many events went unseen because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_go_first_and_are_counted() {
        let mut stash = Stash::default();
        for group_id in 0..STASH_LIMIT as u32 + 3 {
            stash.push(NodeEvent::LocalMemberJoined { group_id });
        }
        assert_eq!(stash.forgotten(), 3);
        assert_eq!(
            stash.pop(),
            Some(NodeEvent::LocalMemberJoined { group_id: 3 })
        );
    }
}
