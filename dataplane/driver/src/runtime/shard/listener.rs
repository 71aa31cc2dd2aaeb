//! Listeners for links from other processes, and the authentication of incoming connections.
//!
//! An incoming connection has a few seconds for the [handshake](crate::runtime::link::handshake); only then is its
//! socket handed to the shard of the node that it requested. A valid one that is early, because the dialler received
//! its order first, waits within the same limit. A failed one gets a refusal and is closed.
//!
//! Unauthenticated connections get a bounded share of the process's descriptors. When all slots are in use, a new
//! incoming connection replaces the oldest, once this had time enough for a complete handshake; until then the
//! listeners are not watched, so that many connections cost no processor time. The same holds, with a pause, when the
//! kernel has no descriptor or memory left.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsFd;

use nm_engine::NodeId;
use nm_kernel::local::PathListener;
use nm_kernel::poll::Interest;
use nm_kernel::thread;

use super::node::NEVER;
use super::timers::Timer;
use super::{Shard, Token};
use crate::runtime::link::frame::Hello;
use crate::runtime::link::handshake::Acceptor;
use crate::runtime::link::stream::Stream;
use crate::runtime::link::wire::Wire;
use crate::runtime::shared::Expected;

/// Largest number of incoming connections in the handshake; more wait in the kernel's backlog …
const MAX_INCOMING: usize = 1024;
/// … and at most this part of the descriptors that the process may open, so that unauthenticated peers cannot use
/// them all …
const INCOMING_SHARE: u64 = 4;
/// … but never fewer than the neighbours of a small lab.
const MIN_INCOMING: usize = 16;
/// Incoming connections accepted per turn and listener.
const INCOMING_PER_TURN: usize = 64;
/// Time limit of the handshake of an incoming connection.
const HANDSHAKE_LIMIT_NS: u64 = 5_000_000_000;
/// Time for which an incoming connection keeps its slot while others wait. A handshake takes two turns of each side:
/// below a millisecond on an idle machine, some tens on one that is overloaded.
const MIN_SLOT_TIME_NS: u64 = 250_000_000;
/// Pause of the listeners when the kernel has no descriptor or no memory for an incoming connection.
const EXHAUSTED_PAUSE_NS: u64 = 100_000_000;

/// The listeners of the process.
#[derive(Default)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    /// Removes its path when it is dropped, unless another process has replaced it.
    pub unix: Option<PathListener>,
}

/// The kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Tcp,
    Unix,
}

/// The result of one attempt to accept an incoming connection.
enum Accepted {
    Incoming(Wire),
    /// No connection is waiting.
    NoneWaiting,
    /// The connection was closed while it waited.
    Closed,
    /// A connection is waiting, but the kernel has no descriptor or memory for it.
    Exhausted,
}

impl Listeners {
    fn accept(&self, kind: ListenerKind) -> Accepted {
        let accepted = match (kind, &self.tcp, &self.unix) {
            (ListenerKind::Tcp, Some(listener), _) => {
                listener.accept().map(|(socket, _)| Wire::Tcp(socket))
            }
            (ListenerKind::Unix, _, Some(listener)) => {
                listener.accept().map(|(socket, _)| Wire::Unix(socket))
            }
            _ => return Accepted::NoneWaiting,
        };
        match accepted {
            Ok(wire) => Accepted::Incoming(wire),
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &io::Error) -> Accepted {
    match error.kind() {
        ErrorKind::WouldBlock => Accepted::NoneWaiting,
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => Accepted::Closed,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and other errors that an immediate retry would only repeat.
        _ => Accepted::Exhausted,
    }
}

/// The listeners and the incoming connections in the handshake.
pub struct LinkListener {
    listeners: Listeners,
    pub(super) incoming: Vec<Option<Incoming>>,
    free: Vec<u32>,
    /// Incoming connections by their epochs, which only increase: the oldest first.
    by_age: BTreeMap<u64, u32>,
    /// Largest number of incoming connections.
    limit: usize,
    /// Whether the epoll set watches the listeners.
    watching: bool,
    /// When to try the listeners again after the kernel had no descriptor or memory.
    retry_at: Option<u64>,
    /// The deadline of the listeners in the shard's heap.
    pub(super) armed: u64,
    /// When a refused proof was last reported, and how many were not reported since.
    pub(super) reported_at: Option<u64>,
    pub(super) unreported: u64,
}

pub(super) struct Incoming {
    pub stream: Stream,
    epoch: u64,
    since: u64,
    pub stage: Stage,
}

/// The stage of an incoming connection's handshake.
pub(super) enum Stage {
    /// No hello message was received.
    NoHello,
    /// Its hello message names a link that was not added yet.
    WaitingForLink(Hello),
    /// The proof is outstanding.
    Challenged {
        acceptor: Acceptor,
        expected: Expected,
        from: NodeId,
    },
}

impl LinkListener {
    pub fn new(listeners: Listeners) -> Self {
        let share = thread::descriptor_limit().map_or(MAX_INCOMING, |limit| {
            usize::try_from(limit / INCOMING_SHARE).unwrap_or(MAX_INCOMING)
        });
        Self {
            listeners,
            incoming: Vec::new(),
            free: Vec::new(),
            by_age: BTreeMap::new(),
            limit: share.clamp(MIN_INCOMING, MAX_INCOMING),
            watching: true,
            retry_at: None,
            armed: NEVER,
            reported_at: None,
            unreported: 0,
        }
    }

    /// The slot of the next incoming connection.
    fn next_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.incoming.push(None);
            (self.incoming.len() - 1) as u32
        })
    }

    fn insert(&mut self, slot: u32, incoming: Incoming) {
        self.by_age.insert(incoming.epoch, slot);
        self.incoming[slot as usize] = Some(incoming);
    }

    pub(super) fn incoming(&mut self, slot: u32) -> Option<&mut Incoming> {
        self.incoming.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove_incoming(&mut self, slot: u32) -> Option<Incoming> {
        let incoming = self.incoming.get_mut(slot as usize)?.take()?;
        self.by_age.remove(&incoming.epoch);
        self.free.push(slot);
        Some(incoming)
    }

    fn is_full(&self) -> bool {
        self.by_age.len() >= self.limit
    }

    /// The slot and arrival time of the oldest incoming connection.
    fn oldest(&self) -> Option<(u32, u64)> {
        let slot = *self.by_age.first_key_value()?.1;
        let incoming = self.incoming[slot as usize].as_ref()?;
        Some((slot, incoming.since))
    }
}

impl Shard {
    /// Watches the process's listeners, if this shard has them.
    pub(super) fn open_listeners(&self) -> nm_kernel::Result<()> {
        let watch = |fd, kind| {
            let token = Token::Listener(kind).encode();
            self.epoll.add(fd, token, Interest::READ)
        };
        let Listeners { tcp, unix } = &self.listener.listeners;
        if let Some(listener) = tcp {
            watch(listener.as_fd(), ListenerKind::Tcp)?;
        }
        if let Some(listener) = unix {
            watch(listener.as_fd(), ListenerKind::Unix)?;
        }
        Ok(())
    }

    /// Accepts the connections that wait at a listener.
    pub(super) fn accept_incoming(&mut self, kind: ListenerKind) {
        for _ in 0..INCOMING_PER_TURN {
            if self.listener.is_full() && !self.evict_oldest() {
                break;
            }
            match self.listener.listeners.accept(kind) {
                Accepted::Incoming(wire) => self.add_wire(wire),
                Accepted::Closed => {}
                Accepted::NoneWaiting => break,
                Accepted::Exhausted => {
                    self.mailbox.counters.accepts_failed.add(1);
                    self.evict_oldest();
                    self.listener.retry_at = Some(self.now + EXHAUSTED_PAUSE_NS);
                    break;
                }
            }
        }
        self.check_listeners();
    }

    fn add_wire(&mut self, wire: Wire) {
        let slot = self.listener.next_slot();
        let token = Token::Incoming(slot).encode();
        let ready = wire
            .prepare()
            .and_then(|()| self.epoll.add(&wire, token, Interest::READ));
        if ready.is_err() {
            self.listener.free.push(slot);
            return;
        }
        let incoming = Incoming {
            stream: Stream::handshake(wire),
            epoch: self.shared.next_epoch(),
            since: self.now,
            stage: Stage::NoHello,
        };
        self.listener.insert(slot, incoming);
    }

    /// Removes the oldest incoming connection, if its guaranteed time has passed.
    fn evict_oldest(&mut self) -> bool {
        match self.listener.oldest() {
            Some((slot, since)) if since + MIN_SLOT_TIME_NS <= self.now => {
                self.reject(slot, "too many connections are in the handshake");
                true
            }
            _ => false,
        }
    }

    /// Updates the watch on the listeners and their deadline after a change of the incoming connections.
    pub(super) fn check_listeners(&mut self) {
        let listener = &mut self.listener;
        let oldest = listener.oldest().map(|(_, since)| since);
        let room_at = oldest
            .filter(|_| listener.is_full())
            .map(|since| since + MIN_SLOT_TIME_NS)
            .filter(|&at| at > self.now);
        let closed = room_at.is_some() || listener.retry_at.is_some();
        if listener.watching == closed {
            listener.watching = !closed;
            let interest = if closed {
                Interest::NONE
            } else {
                Interest::READ
            };
            let Listeners { tcp, unix } = &listener.listeners;
            // Both are in the set since the start; this cannot fail.
            if let Some(listener) = tcp {
                let token = Token::Listener(ListenerKind::Tcp).encode();
                let _ = self.epoll.modify(listener.as_fd(), token, interest);
            }
            if let Some(listener) = unix {
                let token = Token::Listener(ListenerKind::Unix).encode();
                let _ = self.epoll.modify(listener.as_fd(), token, interest);
            }
        }
        let overdue = oldest.map(|since| since + HANDSHAKE_LIMIT_NS);
        let next = [room_at, listener.retry_at, overdue]
            .into_iter()
            .flatten()
            .min();
        if let Some(at) = next.filter(|&at| at < listener.armed) {
            listener.armed = at;
            self.timers.add(at, Timer::LinkListener);
        }
    }

    /// The listeners' deadline has passed: closes connections that exceeded their limit, or resumes paused listeners.
    pub(super) fn listener_deadline(&mut self, at: u64) {
        if self.listener.armed != at {
            return;
        }
        self.listener.armed = NEVER;
        self.listener.retry_at = self.listener.retry_at.filter(|&at| at > self.now);
        while let Some((slot, since)) = self.listener.oldest() {
            if since + HANDSHAKE_LIMIT_NS > self.now {
                break;
            }
            self.reject(slot, "no handshake in time");
        }
        self.check_listeners();
    }
}
