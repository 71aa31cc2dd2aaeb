//! State shared by shards: mailboxes, the ring for packets that change shards, and the shard of each node.
//!
//! A shard that is awake checks its queues on every turn, so posting to it is only a push. A sleeping shard is woken
//! by its eventfd; the waking thread clears the flag that says that it sleeps, so that a burst costs one system call.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{fence, AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_queue::{ArrayQueue, SegQueue};
use nm_engine::{LinkId, NodeId, Packet};
use nm_kernel::poll::EventFd;

use super::link::handshake::LinkSecret;
use super::mailbox::{EndAddress, NodeKey, ShardMessage};
use super::setup::NodeSink;
use super::stats::ShardCounters;

/// Packets that may wait for one shard: super-packets of sixteen bulk streams. Packets beyond that are dropped and
/// counted; such a drop means that the machine is overloaded and is not part of the emulation.
const RING_PACKETS: usize = 1024;

/// Bytes waiting for one shard above which producers stop reading from their devices. About the window that still
/// fits a second-level cache together with its copies; longer queues made a bulk stream slower, not faster.
pub const RING_HIGH_BYTES: usize = 1 << 20;
/// Bytes below which they resume.
pub const RING_LOW_BYTES: usize = 256 << 10;

/// The shard that watches the process's listeners.
pub const LISTENING_SHARD: usize = 0;

/// A packet handed over to another shard.
pub struct Handover {
    pub key: NodeKey,
    pub link: LinkId,
    pub packet: Packet,
}

/// The queues and flags of one shard that other threads use.
pub struct Mailbox {
    pub index: usize,
    messages: SegQueue<ShardMessage>,
    ring: ArrayQueue<Handover>,
    ring_bytes: AtomicUsize,
    waiting: Mutex<Vec<usize>>,
    anyone_waits: AtomicBool,
    wake: EventFd,
    sleeping: AtomicBool,
    stalled: AtomicBool,
    stopped: AtomicBool,
    resumed: AtomicBool,
    /// The shards whose rings have room again, by number.
    resumed_by: Vec<AtomicBool>,
    /// Panics of the shard's thread, counted before they unwind.
    panics: AtomicU64,
    pub counters: ShardCounters,
}

impl Mailbox {
    /// The mailbox of shard `index` of `count`.
    pub fn new(index: usize, count: usize) -> nm_kernel::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            index,
            messages: SegQueue::new(),
            ring: ArrayQueue::new(RING_PACKETS),
            ring_bytes: AtomicUsize::new(0),
            waiting: Mutex::default(),
            anyone_waits: AtomicBool::new(false),
            wake: EventFd::new()?,
            sleeping: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
            resumed_by: (0..count).map(|_| AtomicBool::new(false)).collect(),
            panics: AtomicU64::new(0),
            counters: ShardCounters::default(),
        }))
    }

    /// The descriptor in the shard's epoll set.
    pub fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    /// Posts a message. False when the shard has ended and will not read it.
    pub fn post(&self, message: ShardMessage) -> bool {
        self.messages.push(message);
        self.wake_owner();
        if self.stopped.load(Ordering::SeqCst) {
            // The shard may have emptied the queue for the last time before this push: drop what is left, so that a
            // caller that waits for a reply learns that none will come.
            while self.messages.pop().is_some() {}
            return false;
        }
        true
    }

    /// Hands a packet over. Returns it when the ring is full.
    pub fn hand_over(&self, handover: Handover) -> Result<(), Packet> {
        let bytes = handover.packet.len();
        // Counted before the packet can be taken, so that the sum never drops below zero.
        self.ring_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(refused) = self.ring.push(handover) {
            self.ring_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused.packet);
        }
        self.wake_owner();
        Ok(())
    }

    /// Bytes that wait for this shard.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes.load(Ordering::Relaxed)
    }

    /// Requests a notification of shard `shard` (see [`take_resumed`](Self::take_resumed)) when the ring has room
    /// again. False when it already has room: then there will be no notification.
    pub fn notify_when_drained(&self, shard: usize) -> bool {
        let mut waiting = lock(&self.waiting);
        if !waiting.contains(&shard) {
            waiting.push(shard);
        }
        self.anyone_waits.store(true, Ordering::SeqCst);
        // The owner may have emptied the ring and gone to sleep before this entry was visible to it.
        fence(Ordering::SeqCst);
        self.ring_bytes() > RING_LOW_BYTES
    }

    /// Takes a packet out; for the owner.
    pub fn take_packet(&self) -> Option<Handover> {
        let handover = self.ring.pop()?;
        self.ring_bytes
            .fetch_sub(handover.packet.len(), Ordering::Relaxed);
        Some(handover)
    }

    /// Notifies waiting producers if there is room again; for the owner, after it has taken a batch.
    pub fn after_batch(&self, all: &[Arc<Mailbox>]) {
        if !self.anyone_waits.load(Ordering::Relaxed) || self.ring_bytes() > RING_LOW_BYTES {
            return;
        }
        self.anyone_waits.store(false, Ordering::SeqCst);
        for shard in lock(&self.waiting).drain(..) {
            all[shard].resumed_by[self.index].store(true, Ordering::Relaxed);
            all[shard].resumed.store(true, Ordering::Release);
            all[shard].wake_owner();
        }
    }

    /// Whether a ring that this shard waited for has room again.
    pub fn take_resumed(&self) -> bool {
        self.resumed.load(Ordering::Relaxed) && self.resumed.swap(false, Ordering::Acquire)
    }

    /// Whether it is the ring of that shard; to be called after [`take_resumed`](Self::take_resumed) returned true.
    pub fn take_resumed_by(&self, shard: usize) -> bool {
        self.resumed_by[shard].swap(false, Ordering::Relaxed)
    }

    /// Takes a message out; for the owner.
    pub fn take_message(&self) -> Option<ShardMessage> {
        self.messages.pop()
    }

    /// Announces that the owner is about to sleep. False when an item has arrived: then it must not sleep.
    pub fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake_owner`: either the owner sees the pushed item, or the producer sees the flag.
        fence(Ordering::SeqCst);
        let empty = self.ring.is_empty()
            && self.messages.is_empty()
            && !self.resumed.load(Ordering::Relaxed);
        if !empty {
            self.sleeping.store(false, Ordering::Relaxed);
        }
        empty
    }

    /// Announces that the owner is awake again.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether the watchdog found the owner stalled.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Records whether the owner is stalled, and returns the previous value.
    pub fn set_stalled(&self, stalled: bool) -> bool {
        self.stalled.swap(stalled, Ordering::Relaxed)
    }

    /// Counts a panic of the owner's thread.
    pub fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
    }

    /// Number of panics of the owner's thread.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::SeqCst)
    }

    /// Whether the owner sleeps; for the watchdog.
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// Marks the owner as ended: messages posted from now on are not read.
    pub fn close(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        while self.messages.pop().is_some() {}
        while self.ring.pop().is_some() {}
    }

    fn wake_owner(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.wake.raise();
        }
    }
}

/// The location of a node in this process.
#[derive(Clone)]
pub struct LocalNode {
    pub shard: usize,
    pub sink: Arc<dyn NodeSink>,
}

/// The key that an incoming connection must prove to have for a link, and the location of that link.
#[derive(Clone)]
pub struct Expected {
    pub shard: usize,
    pub key: NodeKey,
    pub secret: LinkSecret,
    pub sink: Arc<dyn NodeSink>,
}

type NodeName = (Arc<str>, NodeId);
type EndName = (Arc<str>, NodeId, NodeId);

/// The state that all shards share.
pub struct Shared {
    pub mailboxes: Vec<Arc<Mailbox>>,
    nodes: Mutex<HashMap<NodeName, LocalNode>>,
    ends: Mutex<HashMap<EndName, EndAddress>>,
    expected: Mutex<HashMap<EndName, Expected>>,
    /// Incoming connections that wait for their link to be added.
    waiting_incoming: AtomicUsize,
    epochs: AtomicU64,
    /// Whether links over unix sockets may switch to shared memory.
    pub shared_memory: bool,
}

impl Shared {
    pub fn new(mailboxes: Vec<Arc<Mailbox>>, shared_memory: bool) -> Arc<Self> {
        Arc::new(Self {
            mailboxes,
            nodes: Mutex::default(),
            ends: Mutex::default(),
            expected: Mutex::default(),
            waiting_incoming: AtomicUsize::new(0),
            epochs: AtomicU64::new(1),
            shared_memory,
        })
    }

    /// A number that was never returned before.
    pub fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a node of this process. False when its number is in use.
    pub fn add_node(&self, lab: &Arc<str>, node: NodeId, local_node: LocalNode) -> bool {
        let mut nodes = lock(&self.nodes);
        let name = (lab.clone(), node);
        if nodes.contains_key(&name) {
            return false;
        }
        nodes.insert(name, local_node);
        true
    }

    pub fn remove_node(&self, lab: &Arc<str>, node: NodeId) {
        lock(&self.nodes).remove(&(lab.clone(), node));
    }

    pub fn has_node(&self, lab: &str, node: NodeId) -> bool {
        lock(&self.nodes).contains_key(&(Arc::from(lab), node))
    }

    /// Accepts connections from `remote` for a link to `node` that prove to have the key.
    pub fn expect(&self, lab: &Arc<str>, node: NodeId, remote: NodeId, expected: Expected) {
        lock(&self.expected).insert((lab.clone(), node, remote), expected);
        // Pairs with `count_waiting`: a connection that is counted before its lookup fails is seen here.
        if self.waiting_incoming.load(Ordering::SeqCst) > 0 {
            self.mailboxes[LISTENING_SHARD].post(ShardMessage::Expected {
                lab: lab.clone(),
                node,
                remote,
            });
        }
    }

    /// The link was removed.
    pub fn forget_expected(&self, lab: &Arc<str>, node: NodeId, remote: NodeId) {
        lock(&self.expected).remove(&(lab.clone(), node, remote));
    }

    /// The key and location of the link from `remote` to `node`; `None` when there is no such link.
    pub fn expected(&self, lab: &str, node: NodeId, remote: NodeId) -> Option<Expected> {
        let name = (Arc::from(lab), node, remote);
        lock(&self.expected).get(&name).cloned()
    }

    /// Counts an incoming connection that may wait for its link. To be called before the lookup of the link.
    pub fn count_waiting(&self) {
        self.waiting_incoming.fetch_add(1, Ordering::SeqCst);
    }

    /// Uncounts an incoming connection.
    pub fn uncount_waiting(&self) {
        self.waiting_incoming.fetch_sub(1, Ordering::SeqCst);
    }

    /// For each lab the nodes of one shard, in order, and the sink of the first of them.
    pub fn nodes_of(&self, shard: usize) -> Vec<(Arc<dyn NodeSink>, Vec<NodeId>)> {
        let mut labs: BTreeMap<Arc<str>, BTreeMap<NodeId, Arc<dyn NodeSink>>> = BTreeMap::new();
        for ((lab, node), local_node) in lock(&self.nodes).iter() {
            if local_node.shard == shard {
                let nodes = labs.entry(lab.clone()).or_default();
                nodes.insert(*node, local_node.sink.clone());
            }
        }
        labs.into_values()
            .filter_map(|nodes| {
                let sink = nodes.values().next()?.clone();
                Some((sink, nodes.into_keys().collect()))
            })
            .collect()
    }

    /// Registers one end of a memory link and returns the other, if it is registered already.
    pub fn offer(
        &self,
        lab: &Arc<str>,
        from: NodeId,
        to: NodeId,
        end: EndAddress,
    ) -> Option<EndAddress> {
        let mut ends = lock(&self.ends);
        ends.insert((lab.clone(), from, to), end);
        ends.get(&(lab.clone(), to, from)).copied()
    }

    /// Unregisters one end and returns the other, which must be notified.
    pub fn withdraw(&self, lab: &Arc<str>, from: NodeId, to: NodeId) -> Option<EndAddress> {
        let mut ends = lock(&self.ends);
        ends.remove(&(lab.clone(), from, to));
        ends.get(&(lab.clone(), to, from)).copied()
    }
}

/// These locks are not held across calls that can panic, so the data behind a poisoned one is valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
