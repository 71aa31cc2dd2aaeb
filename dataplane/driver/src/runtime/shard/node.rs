//! The state of a node and its links on its shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nm_engine::{Engine, Event, GroupId, LinkId, NodeConfig, NodeId, SessionId, SessionReport};
use nm_flows::Endpoint;

use crate::runtime::link::handshake::Dialler;
use crate::runtime::link::stream::Stream;
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::{EndAddress, NewNode, NodeKey};
use crate::runtime::setup::{LinkKind, LinkSetup, NodeSink};
use crate::runtime::sinks;
use crate::runtime::tap::{self, Tap};
use crate::runtime::tun::NodeTun;

/// The value of a deadline that is not armed.
pub const NEVER: u64 = u64::MAX;

/// One node.
pub struct Node {
    pub id: NodeId,
    pub key: NodeKey,
    pub lab: Arc<str>,
    /// The engine's configuration, for a restart of the engine.
    pub config: NodeConfig,
    pub engine: Engine,
    /// The user-space endpoint, from its first use on, and whether its flows may begin.
    pub endpoint: Option<Box<Endpoint>>,
    pub flows_started: bool,
    pub sink: Arc<dyn NodeSink>,
    pub tun: Option<NodeTun>,
    /// Indexed by the engine's link ids.
    pub links: Vec<Option<LinkEnd>>,
    pub by_remote: BTreeMap<NodeId, LinkId>,
    /// Whether it is in the list of nodes to settle at the end of the current batch.
    pub touched: bool,
    /// Whether it is in the list of nodes whose device keeps datagrams.
    pub keeps: bool,
    /// Whether its sessions or flows may have something to send.
    pub busy: bool,
    /// The queue that its local sources wait for, and the latest end of that wait.
    pub paused: Option<(Pressure, u64)>,
    /// Sessions that have not ended, and groups that the node is a member of: the state that a restarted engine or
    /// its peers need.
    pub sessions: BTreeMap<SessionId, Box<SessionReport>>,
    pub memberships: BTreeSet<GroupId>,
    /// Whether it is being removed from the shard.
    pub closing: bool,
    /// The node's deadlines in the shard's heap, the earliest last. A new one is added only when it is earlier than
    /// all of them, so that a far deadline is in the heap once and not once for each nearer one before it.
    pub armed: Vec<u64>,
    /// The captures of its packets.
    pub taps: Vec<Arc<Tap>>,
}

impl Node {
    pub fn new(new: NewNode, key: NodeKey) -> Self {
        let id = new.config.node_id;
        let mut engine = Engine::new(new.config.clone());
        sinks::install_allocator(&mut engine);
        engine.set_endpoint(true);
        Self {
            id,
            key,
            lab: new.lab,
            config: new.config,
            engine,
            endpoint: None,
            flows_started: false,
            sink: new.sink,
            tun: new.tun,
            links: Vec::new(),
            by_remote: BTreeMap::new(),
            touched: false,
            keeps: false,
            busy: false,
            paused: None,
            sessions: BTreeMap::new(),
            memberships: BTreeSet::new(),
            closing: false,
            armed: Vec::with_capacity(4),
            taps: Vec::new(),
        }
    }

    /// Adds or removes a capture.
    pub fn set_tap(&mut self, tap: Arc<Tap>, on: bool) {
        self.taps.retain(|each| !Arc::ptr_eq(each, &tap));
        if on {
            self.taps.push(tap);
        }
        self.engine.set_taps(&tap::points(&self.taps));
    }

    /// Updates the node's state after an event.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::LocalMemberJoined { group_id } => drop(self.memberships.insert(*group_id)),
            Event::LocalMemberLeft { group_id } => drop(self.memberships.remove(group_id)),
            Event::SessionFinished { report, .. } => drop(self.sessions.remove(&report.session)),
            _ => {}
        }
    }

    /// The end with that id, if there is one.
    pub fn end(&mut self, link: LinkId) -> Option<&mut LinkEnd> {
        self.links.get_mut(link as usize)?.as_mut()
    }

    /// Stores an end under its id.
    pub fn store(&mut self, link: LinkId, end: LinkEnd) {
        let index = link as usize;
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        self.by_remote.insert(end.setup.remote, link);
        self.links[index] = Some(end);
    }
}

/// The queue that makes local sources wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The socket queue of a link of a node of this shard.
    Stream { slot: u32, link: LinkId },
    /// The ring of another shard.
    Ring { shard: usize },
}

/// One end of a link.
pub struct LinkEnd {
    pub setup: LinkSetup,
    pub path: Path,
    /// Differs from every other end's, so that late timers and messages are recognised.
    pub epoch: u64,
    /// Whether the engine considers the link up.
    pub up: bool,
    /// The last reason reported to the node's sink, so that an unreachable neighbour is reported once.
    pub reported: String,
    /// Consecutive failed attempts to dial.
    pub attempts: u32,
    /// Whether the stream is in the list of those to flush.
    pub dirty: bool,
    /// Whether the epoll set watches for writability.
    pub wants_write: bool,
    /// Whether the shard checks its shared memory every turn.
    pub polled: bool,
    /// Whether the last attempt over the neighbour's unix socket failed, so that TCP is next.
    pub listener_failed: bool,
    /// Whether the full socket queue was reported to the engine.
    pub congested: bool,
    /// Whether local sources have waited for this link until their time limit; they do not wait until it sends again.
    pub stalled: bool,
    /// Nodes whose local sources wait for this link.
    pub waiters: Vec<NodeKey>,
}

impl LinkEnd {
    pub fn new(setup: LinkSetup, epoch: u64) -> Self {
        Self {
            setup,
            path: Path::Idle,
            epoch,
            up: false,
            reported: String::new(),
            attempts: 0,
            dirty: false,
            wants_write: false,
            polled: false,
            listener_failed: false,
            congested: false,
            stalled: false,
            waiters: Vec::new(),
        }
    }

    /// Whether this end dials.
    pub fn dials(&self) -> bool {
        matches!(self.setup.kind, LinkKind::Dial(_))
    }
}

/// The destination of a link's packets.
pub enum Path {
    /// None: the other end was not added yet, or was removed.
    Idle,
    /// To a node on the same shard.
    Here { slot: u32, link: LinkId },
    /// A node on another shard.
    Shard(EndAddress),
    /// A dialled wire that is not connected yet.
    Connecting(Wire),
    /// A connected wire in the handshake; the boolean is true when the neighbour has proved itself.
    Handshake(Box<Stream>, Box<Dialler>, bool),
    /// Another process.
    Stream(Box<Stream>),
}

/// Slots for nodes.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    node: Option<Box<Node>>,
}

impl Slots {
    /// Adds a node.
    pub fn insert(&mut self, new: NewNode) -> NodeKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        let key = NodeKey {
            slot,
            generation: entry.generation,
        };
        entry.node = Some(Box::new(Node::new(new, key)));
        key
    }

    /// The node in a slot.
    pub fn at(&mut self, slot: u32) -> Option<&mut Node> {
        self.slots.get_mut(slot as usize)?.node.as_deref_mut()
    }

    /// The node with that key; `None` when another node has the slot since.
    pub fn get(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.at(key.slot).filter(|node| node.key == key)
    }

    /// Frees a slot.
    pub fn remove(&mut self, key: NodeKey) -> Option<Box<Node>> {
        let entry = self
            .slots
            .get_mut(key.slot as usize)
            .filter(|entry| entry.generation == key.generation)?;
        let node = entry.node.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(node)
    }

    /// The keys of all nodes.
    pub fn keys(&self) -> Vec<NodeKey> {
        self.slots
            .iter()
            .filter_map(|slot| slot.node.as_ref().map(|node| node.key))
            .collect()
    }
}
