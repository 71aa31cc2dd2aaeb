//! A shard: one thread, one epoll set, one buffer pool, and the nodes assigned to it.
//!
//! Each turn handles messages, packets from other shards, deadlines and sessions, then polls epoll for ready
//! descriptors. Each packet runs to completion: the effects of one engine are the input of the next, through an
//! explicit queue ([`packets`]), until only device writes and link queues are left. No step handles more than a
//! bounded batch, so that neither a busy device nor a long transfer delays the others.
//!
//! ```text
//!   messages ─┐                          ┌─▶ TUN writes
//!   ring ────┤                          ├─▶ other shards' rings
//!   timers ──┼─▶ engine ─▶ work queue ──┼─▶ link sockets
//!   sessions ┤      ▲          │        └─▶ the node's owner
//!   TUN ─────┤      └──────────┘
//!   sockets ─┤
//!   memory ──┘  (shared with other processes)
//! ```

mod dialling;
mod flows;
mod incoming;
mod links;
mod listener;
mod memory;
mod messages;
mod node;
mod packets;
mod recovery;
mod rings;
mod streams;
mod timers;
mod wakeup;

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use nm_engine::{Depot, Instant, Io, LinkId, Packet, Pool};
use nm_kernel::poll::{Epoll, Interest, ReadyList};
use nm_kernel::thread;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::SplitMix64;

pub use self::listener::Listeners;
use self::listener::{LinkListener, ListenerKind};
use self::node::Slots;
use self::recovery::Restart;
use self::timers::{Timer, Timers};
use self::wakeup::WakeUps;
use super::device_writes::DeviceWrites;
use super::link::stream::{Received, STAGING};
use super::mailbox::NodeKey;
use super::shared::{Mailbox, Shared};

/// Events taken from epoll at once.
const EVENTS: usize = 64;
/// Messages handled per turn. The start of a lab causes a dozen per node; packets wait meanwhile.
const MESSAGES_PER_TURN: usize = 64;
/// Packets taken from the ring per turn.
const RING_PER_TURN: usize = 128;
/// Super-packets that sessions send per turn: about a megabyte.
const SESSION_PACKETS_PER_TURN: usize = 16;
/// Deadlines served per turn.
const TIMERS_PER_TURN: usize = 256;

/// The slot number of no node.
const NO_SLOT: u32 = u32::MAX;

/// A packet between two nodes of this shard.
struct Work {
    slot: u32,
    link: LinkId,
    packet: Packet,
}

/// The meaning of a descriptor in the epoll set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Wake,
    Listener(ListenerKind),
    Incoming(u32),
    Tun { slot: u32, queue: u32 },
    Link { slot: u32, link: LinkId },
}

impl Token {
    /// Four bits of kind, 28 of slot, 32 of detail.
    fn encode(self) -> u64 {
        let (kind, slot, detail) = match self {
            Self::Wake => (0u64, 0, 0),
            Self::Listener(ListenerKind::Tcp) => (1, 0, 0),
            Self::Listener(ListenerKind::Unix) => (1, 1, 0),
            Self::Incoming(index) => (2, index, 0),
            Self::Tun { slot, queue } => (3, slot, queue),
            Self::Link { slot, link } => (4, slot, link),
        };
        kind << 60 | u64::from(slot) << 32 | u64::from(detail)
    }

    fn decode(raw: u64) -> Option<Self> {
        let (slot, detail) = ((raw >> 32) as u32 & 0x0fff_ffff, raw as u32);
        match raw >> 60 {
            0 => Some(Self::Wake),
            1 if slot == 0 => Some(Self::Listener(ListenerKind::Tcp)),
            1 => Some(Self::Listener(ListenerKind::Unix)),
            2 => Some(Self::Incoming(slot)),
            3 => Some(Self::Tun {
                slot,
                queue: detail,
            }),
            4 => Some(Self::Link { slot, link: detail }),
            _ => None,
        }
    }
}

/// The thread's state.
pub struct Shard {
    index: usize,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    epoll: Epoll,
    nodes: Slots,
    io: Io,
    /// Packets to be written to devices at the end of the current batch.
    writes: DeviceWrites,
    now: u64,
    work: VecDeque<Work>,
    /// Nodes whose engine was called in the current batch.
    touched: Vec<u32>,
    /// Nodes whose device keeps datagrams until the current batch is done.
    keeping: Vec<u32>,
    /// Nodes whose sessions may have something to send, in round-robin order.
    busy: VecDeque<u32>,
    /// Nodes whose local sources wait for the ring of another shard, by shard.
    ring_waiters: Vec<Vec<NodeKey>>,
    /// Streams with something new to send.
    dirty: Vec<(u32, LinkId)>,
    /// Links through shared memory that are checked every turn, until there is nothing to do and the shard sleeps.
    polled: Vec<(u32, LinkId)>,
    /// The node whose device or session the current work came from.
    source: Option<u32>,
    /// Rings for which local sources have waited until their time limit.
    stalled_rings: Vec<bool>,
    timers: Timers,
    wakeups: WakeUps,
    staging: Box<[u8]>,
    received: Vec<Received>,
    listener: LinkListener,
    /// Spreads attempts to dial over time.
    random: SplitMix64,
    stopping: bool,
    /// The slot of the node whose engine, device or owner is running, or [`NO_SLOT`].
    running: u32,
    /// Whether the last round ended in a panic, and the times of the panics of the last minute.
    panicked: bool,
    panics: Vec<u64>,
    /// Nodes to restart.
    restarts: Vec<Restart>,
    /// Ends of memory links to check again after a panic.
    idle_ends: Vec<(NodeKey, LinkId)>,
}

impl Shard {
    /// A shard without nodes. The shard that gets the listeners accepts the process's incoming connections.
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        depot: Arc<Depot>,
        listeners: Listeners,
        batched_writes: bool,
    ) -> nm_kernel::Result<Self> {
        let mailbox = shared.mailboxes[index].clone();
        let epoll = Epoll::new()?;
        epoll.add(mailbox.wake_fd(), Token::Wake.encode(), Interest::READ)?;
        let stalled_rings = vec![false; shared.mailboxes.len()];
        let shard = Self {
            index,
            mailbox,
            epoll,
            nodes: Slots::default(),
            // 256 buffers are 17 MB, reached only when that much is in use.
            io: Io::new(Pool::new(depot, 256)),
            writes: DeviceWrites::new(batched_writes),
            now: thread::monotonic_ns(),
            work: VecDeque::with_capacity(256),
            touched: Vec::with_capacity(64),
            keeping: Vec::with_capacity(64),
            busy: VecDeque::with_capacity(64),
            ring_waiters: vec![Vec::new(); shared.mailboxes.len()],
            dirty: Vec::with_capacity(64),
            polled: Vec::with_capacity(64),
            source: None,
            stalled_rings,
            timers: Timers::default(),
            wakeups: WakeUps::default(),
            staging: vec![0; STAGING].into_boxed_slice(),
            received: Vec::with_capacity(256),
            listener: LinkListener::new(listeners),
            random: SplitMix64::seed_from_u64(thread::random_u64()?),
            stopping: false,
            running: NO_SLOT,
            panicked: false,
            panics: Vec::new(),
            restarts: Vec::new(),
            idle_ends: Vec::new(),
            shared,
        };
        shard.open_listeners()?;
        Ok(shard)
    }

    /// The shard's mailbox.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        self.mailbox.clone()
    }

    /// Runs until it receives the message to end. A panic drops the current work and restarts the node that caused
    /// it; see [`recovery`].
    pub fn run(mut self) {
        let mut ready = ReadyList::with_capacity(EVENTS);
        while !self.stopping {
            match panic::catch_unwind(AssertUnwindSafe(|| self.round(&mut ready))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => recovery::epoll_broken(self.index, &error),
                Err(_) => self.contain_or_end(),
            }
        }
        for key in self.nodes.keys() {
            if panic::catch_unwind(AssertUnwindSafe(|| self.close_node(key))).is_err() {
                self.contain_or_end();
            }
        }
    }

    fn contain_or_end(&mut self) {
        // After a panic during the handling of a panic the state cannot be trusted.
        if panic::catch_unwind(AssertUnwindSafe(|| self.contain())).is_err() {
            recovery::end_after_second_panic(self.index);
        }
    }

    /// One turn, and the descriptors that are ready.
    fn round(&mut self, ready: &mut ReadyList) -> io::Result<()> {
        self.running = NO_SLOT;
        if std::mem::take(&mut self.panicked) {
            self.recover();
        }
        self.turn();
        self.wait(ready)?;
        for index in 0..ready.len() {
            let event = ready.get(index);
            self.dispatch(event);
        }
        Ok(())
    }

    /// All work that does not come from epoll.
    fn turn(&mut self) {
        self.now = thread::monotonic_ns();
        self.mailbox.counters.turns.add(1);
        self.handle_messages();
        self.take_from_ring();
        if self.mailbox.take_resumed() {
            self.rings_have_room();
        }
        self.serve_rings();
        self.serve_deadlines();
        self.run_sessions();
        self.mailbox
            .counters
            .buffers_allocated
            .set(self.io.pool.allocated());
    }

    /// Sleeps until there is work. Fails only when the epoll set itself is broken.
    fn wait(&mut self, ready: &mut ReadyList) -> io::Result<()> {
        let mut timeout = self.poll_timeout();
        if timeout != Some(0) {
            if self.request_ring_wakeups() && self.mailbox.prepare_sleep() {
                self.mailbox.counters.sleeps.add(1);
            } else {
                timeout = Some(0);
            }
        }
        // While there is work the clock is read once.
        let asleep_since = (timeout != Some(0)).then(thread::monotonic_ns);
        let outcome = self.epoll.wait(ready, timeout);
        self.mailbox.awake();
        self.now = thread::monotonic_ns();
        match (asleep_since, timeout) {
            (None, _) => {}
            (Some(since), Some(asked)) if ready.is_empty() => {
                self.wakeups.slept(since.saturating_add(asked), self.now);
            }
            // Packets count from the time at which they were sent, not from the wake-up.
            (Some(since), _) => self.now = self.wakeups.event_time(since, self.now),
        }
        outcome
    }

    /// How long to sleep; 0 while there is work.
    fn poll_timeout(&mut self) -> Option<u64> {
        if !self.busy.is_empty() || self.stopping {
            return Some(0);
        }
        let (at, is_link) = self.timers.next()?;
        let now = thread::monotonic_ns();
        Some(if is_link {
            self.wakeups.sleep_time(now, at)
        } else {
            at.saturating_sub(now)
        })
    }

    fn dispatch(&mut self, event: nm_kernel::poll::Ready) {
        match Token::decode(event.token) {
            Some(Token::Wake) => self.mailbox.wake_fd().clear(),
            Some(Token::Listener(kind)) => self.accept_incoming(kind),
            Some(Token::Incoming(slot)) => self.handle_incoming(slot),
            Some(Token::Tun { slot, queue }) => self.read_tun(slot, queue),
            Some(Token::Link { slot, link }) => {
                self.serve_socket(slot, link, event.readable, event.writable)
            }
            None => {}
        }
    }

    fn handle_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.mailbox.take_message() else {
                return;
            };
            self.handle_message(message);
            self.settle();
        }
    }

    fn serve_deadlines(&mut self) {
        for _ in 0..TIMERS_PER_TURN {
            let Some((at, timer)) = self.timers.take_due(self.now) else {
                return;
            };
            match timer {
                Timer::Node(key) => self.serve_node_deadline(key, at),
                Timer::Link { key, link, epoch } => self.link_deadline(key, link, epoch),
                Timer::LinkListener => self.listener_deadline(at),
                Timer::Pause(key) => self.end_pause(key, at),
            }
            self.settle();
        }
    }

    fn instant(&self) -> Instant {
        Instant(self.now)
    }
}

impl Drop for Shard {
    /// Also after a panic: no thread must wait for a reply of a thread that has ended.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unchanged_by_encoding_and_decoding() {
        let all = [
            Token::Wake,
            Token::Listener(ListenerKind::Tcp),
            Token::Listener(ListenerKind::Unix),
            Token::Incoming(9),
            Token::Tun {
                slot: 0x0fff_ffff,
                queue: 3,
            },
            Token::Link {
                slot: 70_000,
                link: u32::MAX,
            },
        ];
        for token in all {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}
