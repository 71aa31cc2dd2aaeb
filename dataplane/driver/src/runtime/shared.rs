//! State shared by shards: mailboxes, the ring for packets that change shards, and the shard of each node.
//!
//! A shard that is awake looks into its own boxes on every turn, so posting to it is a push and nothing else. Only
//! one that sleeps is woken, by its eventfd; the flag that says so is taken down by whoever wakes it, so that a
//! burst costs one system call.

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

/// Packets that may wait for one shard. Sixteen bulk streams' worth of super-packets; what comes beyond is dropped
/// and counted, which is overload of our own and not emulation.
const RING_PACKETS: usize = 1024;

/// Bytes waiting for one shard above which producers stop reading from their devices. About the window that still
/// fits a second-level cache together with its copies; longer queues made a bulk stream slower, not faster.
pub const RING_HIGH_BYTES: usize = 1 << 20;
/// Bytes below which they go on.
pub const RING_LOW_BYTES: usize = 256 << 10;

/// The shard that has the process's listeners.
pub const LISTENING_SHARD: usize = 0;

/// A packet that changes shards.
pub struct Handover {
    pub key: NodeKey,
    pub link: LinkId,
    pub packet: Packet,
}

/// The public side of one shard.
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
    /// That of shard `index` of `count`.
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

    /// What the shard's epoll watches.
    pub fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    /// Posts a message. False when the shard has ended and nobody will read it.
    pub fn post(&self, message: ShardMessage) -> bool {
        self.messages.push(message);
        self.rouse();
        if self.stopped.load(Ordering::SeqCst) {
            // The shard may have looked for the last time before our push: drop what is left, so that whoever
            // waits for an answer learns that none will come.
            while self.messages.pop().is_some() {}
            return false;
        }
        true
    }

    /// Hands a packet over. Gives it back when the ring is full.
    pub fn hand_over(&self, handover: Handover) -> Result<(), Packet> {
        let bytes = handover.packet.len();
        // Counted before it can be taken out, so that the sum never dips below zero.
        self.ring_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(refused) = self.ring.push(handover) {
            self.ring_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused.packet);
        }
        self.rouse();
        Ok(())
    }

    /// Bytes that wait for this shard.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes.load(Ordering::Relaxed)
    }

    /// Asks to be told (by [`take_resumed`](Self::take_resumed) on `who`) when the ring has room again. False when
    /// it has room already: then nobody will tell.
    pub fn tell_when_drained(&self, who: usize) -> bool {
        let mut waiting = lock(&self.waiting);
        if !waiting.contains(&who) {
            waiting.push(who);
        }
        self.anyone_waits.store(true, Ordering::SeqCst);
        // The owner may have emptied the ring and gone to sleep before it could see us in the list.
        fence(Ordering::SeqCst);
        self.ring_bytes() > RING_LOW_BYTES
    }

    /// The owner takes a packet out.
    pub fn take_packet(&self) -> Option<Handover> {
        let handover = self.ring.pop()?;
        self.ring_bytes
            .fetch_sub(handover.packet.len(), Ordering::Relaxed);
        Some(handover)
    }

    /// The owner has taken a batch: tells producers that wait, if there is room again.
    pub fn after_batch(&self, all: &[Arc<Mailbox>]) {
        if !self.anyone_waits.load(Ordering::Relaxed) || self.ring_bytes() > RING_LOW_BYTES {
            return;
        }
        self.anyone_waits.store(false, Ordering::SeqCst);
        for who in lock(&self.waiting).drain(..) {
            all[who].resumed_by[self.index].store(true, Ordering::Relaxed);
            all[who].resumed.store(true, Ordering::Release);
            all[who].rouse();
        }
    }

    /// Whether some ring that this shard waited for has room again.
    pub fn take_resumed(&self) -> bool {
        self.resumed.load(Ordering::Relaxed) && self.resumed.swap(false, Ordering::Acquire)
    }

    /// Whether it is the ring of that shard; to be asked after [`take_resumed`](Self::take_resumed) said yes.
    pub fn take_resumed_by(&self, shard: usize) -> bool {
        self.resumed_by[shard].swap(false, Ordering::Relaxed)
    }

    /// The owner takes a message out.
    pub fn take_message(&self) -> Option<ShardMessage> {
        self.messages.pop()
    }

    /// Announces that the owner is about to sleep. False when something has come in: then it must not.
    pub fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `rouse`: either we see what was pushed, or the producer sees that we sleep.
        fence(Ordering::SeqCst);
        let empty = self.ring.is_empty()
            && self.messages.is_empty()
            && !self.resumed.load(Ordering::Relaxed);
        if !empty {
            self.sleeping.store(false, Ordering::Relaxed);
        }
        empty
    }

    /// The owner is awake again.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether the watchdog found that it does not move.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Notes what the watchdog found, and returns what it had found before.
    pub fn set_stalled(&self, stalled: bool) -> bool {
        self.stalled.swap(stalled, Ordering::Relaxed)
    }

    /// The owner's thread panics.
    pub fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it has.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::SeqCst)
    }

    /// Whether the owner sleeps (as seen by the watchdog).
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// The owner has ended: nothing posted from now on is read.
    pub fn close(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        while self.messages.pop().is_some() {}
        while self.ring.pop().is_some() {}
    }

    fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.wake.raise();
        }
    }
}

/// A node as the rest of the process finds it.
#[derive(Clone)]
pub struct Resident {
    pub shard: usize,
    pub sink: Arc<dyn NodeSink>,
}

/// What a caller must prove to take up a link, and where that link is.
#[derive(Clone)]
pub struct Expected {
    pub shard: usize,
    pub key: NodeKey,
    pub secret: LinkSecret,
    pub sink: Arc<dyn NodeSink>,
}

type Place = (Arc<str>, NodeId);
type EndPlace = (Arc<str>, NodeId, NodeId);

/// Everything that shards share.
pub struct Shared {
    pub mailboxes: Vec<Arc<Mailbox>>,
    residents: Mutex<HashMap<Place, Resident>>,
    ends: Mutex<HashMap<EndPlace, EndAddress>>,
    expected: Mutex<HashMap<EndPlace, Expected>>,
    /// Callers that wait for a link to be made.
    early: AtomicUsize,
    epochs: AtomicU64,
    /// Whether links over unix sockets may go on through shared memory.
    pub shared_memory: bool,
}

impl Shared {
    pub fn new(mailboxes: Vec<Arc<Mailbox>>, shared_memory: bool) -> Arc<Self> {
        Arc::new(Self {
            mailboxes,
            residents: Mutex::default(),
            ends: Mutex::default(),
            expected: Mutex::default(),
            early: AtomicUsize::new(0),
            epochs: AtomicU64::new(1),
            shared_memory,
        })
    }

    /// A number that was never given out before.
    pub fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed)
    }

    /// Claims a node's name in this process. False when it is taken.
    pub fn move_in(&self, lab: &Arc<str>, node: NodeId, resident: Resident) -> bool {
        let mut residents = lock(&self.residents);
        let place = (lab.clone(), node);
        if residents.contains_key(&place) {
            return false;
        }
        residents.insert(place, resident);
        true
    }

    pub fn move_out(&self, lab: &Arc<str>, node: NodeId) {
        lock(&self.residents).remove(&(lab.clone(), node));
    }

    pub fn has_resident(&self, lab: &str, node: NodeId) -> bool {
        lock(&self.residents).contains_key(&(Arc::from(lab), node))
    }

    /// Lets `remote` take up a link to `node`, if it proves to have the key.
    pub fn expect(&self, lab: &Arc<str>, node: NodeId, remote: NodeId, expected: Expected) {
        lock(&self.expected).insert((lab.clone(), node, remote), expected);
        // Whoever counts itself before it looks in vain is seen here; see `incoming_waits`.
        if self.early.load(Ordering::SeqCst) > 0 {
            self.mailboxes[LISTENING_SHARD].post(ShardMessage::Expected {
                lab: lab.clone(),
                node,
                remote,
            });
        }
    }

    /// The link is gone.
    pub fn expect_no_more(&self, lab: &Arc<str>, node: NodeId, remote: NodeId) {
        lock(&self.expected).remove(&(lab.clone(), node, remote));
    }

    /// What `remote` must prove to take up a link to `node`; `None` when there is no such link.
    pub fn expected(&self, lab: &str, node: NodeId, remote: NodeId) -> Option<Expected> {
        let place = (Arc::from(lab), node, remote);
        lock(&self.expected).get(&place).cloned()
    }

    /// A caller is about to wait for its link to be made. To be called before looking for the link in vain.
    pub fn incoming_waits(&self) {
        self.early.fetch_add(1, Ordering::SeqCst);
    }

    /// It waits no longer.
    pub fn incoming_is_done(&self) {
        self.early.fetch_sub(1, Ordering::SeqCst);
    }

    /// For each lab the nodes of one shard, in order, and the sink of the first of them.
    pub fn tenants_of(&self, shard: usize) -> Vec<(Arc<dyn NodeSink>, Vec<NodeId>)> {
        let mut labs: BTreeMap<Arc<str>, BTreeMap<NodeId, Arc<dyn NodeSink>>> = BTreeMap::new();
        for ((lab, node), resident) in lock(&self.residents).iter() {
            if resident.shard == shard {
                let nodes = labs.entry(lab.clone()).or_default();
                nodes.insert(*node, resident.sink.clone());
            }
        }
        labs.into_values()
            .filter_map(|nodes| {
                let sink = nodes.values().next()?.clone();
                Some((sink, nodes.into_keys().collect()))
            })
            .collect()
    }

    /// Makes one end of a memory link known and returns the other, if it is there already.
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

    /// Takes one end back and returns the other, which has to be told.
    pub fn withdraw(&self, lab: &Arc<str>, from: NodeId, to: NodeId) -> Option<EndAddress> {
        let mut ends = lock(&self.ends);
        ends.remove(&(lab.clone(), from, to));
        ends.get(&(lab.clone(), to, from)).copied()
    }
}

/// None of these locks is held across a call that can panic, so a poisoned one still guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
