//! The state of a node and its links on its shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nm_engine::{Engine, Event, GroupId, LinkId, NodeConfig, NodeId, SessionId, SessionReport};

use crate::runtime::link::handshake::Dialler;
use crate::runtime::link::stream::Stream;
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::{EndAddress, NewNode, NodeKey};
use crate::runtime::setup::{LinkKind, LinkSetup, NodeSink};
use crate::runtime::sinks;
use crate::runtime::tun::NodeTun;

/// "No deadline is armed."
pub const NEVER: u64 = u64::MAX;

/// One node.
pub struct Node {
    pub id: NodeId,
    pub key: NodeKey,
    pub lab: Arc<str>,
    /// What the engine was made from, for the case that it has to be made again.
    pub config: NodeConfig,
    pub engine: Engine,
    pub sink: Arc<dyn NodeSink>,
    pub tun: Option<NodeTun>,
    /// Indexed by the engine's link ids.
    pub links: Vec<Option<LinkEnd>>,
    pub by_remote: BTreeMap<NodeId, LinkId>,
    /// Whether it stands in the list of nodes to look after when the current batch is done.
    pub touched: bool,
    /// Whether it stands in the list of nodes whose device keeps datagrams.
    pub keeps: bool,
    /// Whether its sessions may have something to send.
    pub busy: bool,
    /// What its local sources wait for and until when at most, if they do.
    pub paused: Option<(Pressure, u64)>,
    /// Sessions that have not ended, and groups that the node is a member of: what a new engine has to be told or
    /// others have to be told about.
    pub sessions: BTreeMap<SessionId, Box<SessionReport>>,
    pub memberships: BTreeSet<GroupId>,
    /// Whether it is being taken off the shard.
    pub closing: bool,
    /// The deadlines that the shard has in its heap for it, the earliest last. A new one is added only when it is
    /// earlier than all of them, so that a far deadline stands there once and not once for each near one before it.
    pub armed: Vec<u64>,
}

impl Node {
    pub fn new(new: NewNode, key: NodeKey) -> Self {
        let id = new.config.node_id;
        let mut engine = Engine::new(new.config.clone());
        sinks::equip(&mut engine);
        Self {
            id,
            key,
            lab: new.lab,
            config: new.config,
            engine,
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
        }
    }

    /// Notes what an event says about the node.
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

    /// Puts an end where the fast path finds it.
    pub fn place(&mut self, link: LinkId, end: LinkEnd) {
        let index = link as usize;
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        self.by_remote.insert(end.setup.remote, link);
        self.links[index] = Some(end);
    }
}

/// What makes local sources wait.
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
    /// Differs from every other end's, so that late timers and messages can tell whom they mean.
    pub epoch: u64,
    /// Whether the engine believes that the link is up.
    pub up: bool,
    /// The last reason given to the node's owner, so that a neighbour that stays away is reported once.
    pub said: String,
    /// Failed attempts to dial in a row.
    pub attempts: u32,
    /// Whether the stream stands in the list of those to flush.
    pub dirty: bool,
    /// Whether the epoll set watches for writability.
    pub wants_write: bool,
    /// Whether the shard looks into its shared memory every turn.
    pub hot: bool,
    /// Whether the neighbour's unix socket led nowhere the last time, so that it is TCP's turn.
    pub listener_failed: bool,
    /// Whether the engine was told that the socket queue is full.
    pub congested: bool,
    /// Whether local sources have waited for this link in vain; they do not until it moves again.
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
            said: String::new(),
            attempts: 0,
            dirty: false,
            wants_write: false,
            hot: false,
            listener_failed: false,
            congested: false,
            stalled: false,
            waiters: Vec::new(),
        }
    }

    /// Whether we are the one who dials.
    pub fn dials(&self) -> bool {
        matches!(self.setup.kind, LinkKind::Dial(_))
    }
}

/// Where packets for a link go.
pub enum Path {
    /// Nowhere: the other end has not appeared yet, or is gone.
    Idle,
    /// To a node on the same shard.
    Here { slot: u32, link: LinkId },
    /// To a node on another shard.
    Shard(EndAddress),
    /// A dialled wire whose attempt is not decided.
    Connecting(Wire),
    /// A connected wire in the handshake; the boolean says whether the neighbour has proved itself.
    Handshake(Box<Stream>, Box<Dialler>, bool),
    /// Another process.
    Stream(Box<Stream>),
}

/// Places for nodes.
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
    /// Takes a node in.
    pub fn insert(&mut self, new: NewNode) -> NodeKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let key = NodeKey {
            slot,
            generation: place.generation,
        };
        place.node = Some(Box::new(Node::new(new, key)));
        key
    }

    /// The node in a place.
    pub fn at(&mut self, slot: u32) -> Option<&mut Node> {
        self.slots.get_mut(slot as usize)?.node.as_deref_mut()
    }

    /// The node with that key; nobody when another has moved in since.
    pub fn get(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.at(key.slot).filter(|node| node.key == key)
    }

    /// Gives a place free.
    pub fn remove(&mut self, key: NodeKey) -> Option<Box<Node>> {
        let place = self
            .slots
            .get_mut(key.slot as usize)
            .filter(|place| place.generation == key.generation)?;
        let node = place.node.take()?;
        place.generation = place.generation.wrapping_add(1);
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
