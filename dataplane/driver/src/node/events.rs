//! Events of a node, buffered until the program reads them.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use nm_engine::SessionId;

/// Largest number of buffered events: enough for a burst of a thousand members, and bounded for a program that never
/// reads them.
pub const EVENT_LIMIT: usize = 4096;

/// An event of this node, or one that the controller reported to it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The controller has reported that every node is ready.
    TopologyReady,
    /// A group that this node requested exists.
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
    /// A group was removed from the directory.
    GroupRemoved {
        /// The group.
        group_id: u32,
    },
    /// Routes of a group were installed here.
    GroupRoutesInstalled {
        /// The group.
        group_id: u32,
        /// How many trees now pass through this node.
        src_node_id: u32,
        /// How many trees now pass here.
        routes: u32,
    },
    /// This node became a member of a group.
    LocalMemberJoined {
        /// The group.
        group_id: u32,
    },
    /// This node is no longer a member of a group.
    LocalMemberLeft {
        /// The group.
        group_id: u32,
    },
    /// Another node joined or left a group that this node owns.
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
        /// Whether the link carries packets.
        up: bool,
        /// The reason.
        reason: String,
        /// The carrier of a link that is up: `memory`, `shared`, `unix` or `tcp`.
        kind: &'static str,
    },
    /// The process could not open its unix socket for links; links to other processes use TCP.
    NoListener {
        /// The reason.
        reason: String,
    },
    /// The node is in max mode, but flows of its programs are not redirected; SOCKS5 works.
    NoRedirect {
        /// The reason.
        reason: String,
    },
    /// The node's packet engine failed and was restarted: its receivers and sessions have ended, and the controller
    /// sends links and routes again.
    EngineRestarted {
        /// What failed.
        reason: String,
    },
    /// A lossless session of this node ended.
    SessionFinished {
        /// The session.
        session_id: SessionId,
        /// Its final state.
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
        /// The reason.
        reason: String,
    },
}

/// Events in order of occurrence; when the buffer is full, the oldest event is dropped.
#[derive(Debug, Default)]
pub struct EventBuffer {
    events: VecDeque<NodeEvent>,
    dropped: u64,
    /// The same for each attached program.
    readers: BTreeMap<u64, VecDeque<NodeEvent>>,
    last_reader: u64,
}

impl EventBuffer {
    /// Appends an event.
    pub fn push(&mut self, event: NodeEvent) {
        for events in self.readers.values_mut() {
            if events.len() == EVENT_LIMIT {
                events.pop_front();
            }
            events.push_back(event.clone());
        }
        if self.events.len() == EVENT_LIMIT {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(event);
    }

    /// Appends any number of events.
    pub fn extend(&mut self, events: impl IntoIterator<Item = NodeEvent>) {
        events.into_iter().for_each(|event| self.push(event));
    }

    /// Adds a reader, which gets every event from now on.
    pub fn subscribe(&mut self) -> u64 {
        self.last_reader += 1;
        self.readers.insert(self.last_reader, VecDeque::new());
        self.last_reader
    }

    /// Removes a reader and its events.
    pub fn unsubscribe(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    /// Removes and returns a reader's oldest event.
    pub fn pop_for(&mut self, reader: u64) -> Option<NodeEvent> {
        self.readers.get_mut(&reader)?.pop_front()
    }

    /// Removes and returns the oldest event.
    pub fn pop(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// How many events were dropped because the buffer was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_drops_the_oldest_events_and_counts_them() {
        let mut buffer = EventBuffer::default();
        for group_id in 0..EVENT_LIMIT as u32 + 3 {
            buffer.push(NodeEvent::LocalMemberJoined { group_id });
        }
        assert_eq!(buffer.dropped(), 3);
        assert_eq!(
            buffer.pop(),
            Some(NodeEvent::LocalMemberJoined { group_id: 3 })
        );
    }

    #[test]
    fn each_reader_gets_the_events_since_it_subscribed() {
        let mut buffer = EventBuffer::default();
        buffer.push(NodeEvent::TopologyReady);
        let reader = buffer.subscribe();
        let event = NodeEvent::GroupRemoved { group_id: 1 };
        buffer.push(event.clone());
        assert_eq!(buffer.pop_for(reader), Some(event));
        assert_eq!(buffer.pop_for(reader), None);
        assert_eq!(buffer.pop(), Some(NodeEvent::TopologyReady));
        for _ in 0..EVENT_LIMIT + 1 {
            buffer.push(NodeEvent::TopologyReady);
        }
        assert_eq!(buffer.readers[&reader].len(), EVENT_LIMIT);
        buffer.unsubscribe(reader);
        assert_eq!(buffer.pop_for(reader), None);
    }
}
