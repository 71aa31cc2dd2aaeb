//! The process's listeners: who dials in, for which link, and whether the caller has the link's key.
//!
//! A caller has a few seconds for the [handshake](crate::runtime::link::handshake); only then is its socket handed to
//! the shard of the node that it asked for. One that is right but early, because the controller told the dialler first,
//! waits within the same limit. Whoever fails is told that it did, and nothing of it is kept.
//!
//! Callers that have proved nothing get a bounded share of the process's descriptors. When all places are taken, a
//! new caller takes that of the oldest, once this had time enough for an honest handshake; until then the listeners
//! are not watched, so that a crowd costs no processor time. The same holds, with a pause, when the kernel has no
//! descriptor or memory left.

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

/// Callers that may be in the handshake at the same time; more wait in the kernel's queue …
const MOST_CALLERS: usize = 1024;
/// … and at most this part of the descriptors that the process may open, so that strangers cannot take them all …
const CALLERS_SHARE: u64 = 4;
/// … but never fewer than a small lab's neighbours.
const FEWEST_CALLERS: usize = 16;
/// Callers taken in per turn and listener.
const CALLERS_PER_TURN: usize = 64;
/// How long a caller may take for the handshake.
const HANDSHAKE_LIMIT_NS: u64 = 5_000_000_000;
/// How long a caller keeps its place at least while others want it. A handshake takes two turns of each side: below a
/// millisecond on an idle machine, some tens on one that is overloaded.
const LEAST_STAY_NS: u64 = 250_000_000;
/// How long to leave the listeners alone when the kernel has no descriptor or no memory for a caller.
const EXHAUSTED_PAUSE_NS: u64 = 100_000_000;

/// Where neighbours may come in.
#[derive(Default)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    /// Removes its path when it goes, unless that is another's by then.
    pub unix: Option<PathListener>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    Tcp,
    Unix,
}

/// What became of one attempt to take a caller in.
enum Accepted {
    Caller(Wire),
    /// Nobody waits any more.
    Nobody,
    /// One that left while it waited.
    Gone,
    /// Somebody waits, but the kernel cannot give us the socket now.
    Exhausted,
}

impl Listeners {
    fn accept(&self, entrance: Entrance) -> Accepted {
        let accepted = match (entrance, &self.tcp, &self.unix) {
            (Entrance::Tcp, Some(listener), _) => {
                listener.accept().map(|(socket, _)| Wire::Tcp(socket))
            }
            (Entrance::Unix, _, Some(listener)) => {
                listener.accept().map(|(socket, _)| Wire::Unix(socket))
            }
            _ => return Accepted::Nobody,
        };
        match accepted {
            Ok(wire) => Accepted::Caller(wire),
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &io::Error) -> Accepted {
    match error.kind() {
        ErrorKind::WouldBlock => Accepted::Nobody,
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => Accepted::Gone,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever else would only be repeated at once.
        _ => Accepted::Exhausted,
    }
}

/// The listeners and who is in the handshake.
pub struct Door {
    listeners: Listeners,
    pub(super) callers: Vec<Option<Caller>>,
    free: Vec<u32>,
    /// Callers by their epochs, which only grow: the oldest first.
    by_age: BTreeMap<u64, u32>,
    /// How many may be here.
    most: usize,
    /// Whether the epoll set watches the listeners.
    watching: bool,
    /// When to try the listeners again after the kernel could not give us a socket.
    retry_at: Option<u64>,
    /// The deadline that the shard has in its heap for us.
    pub(super) armed: u64,
    /// When a refused proof was told last, and how many were not told since.
    pub(super) told: Option<u64>,
    pub(super) untold: u64,
}

pub(super) struct Caller {
    pub stream: Stream,
    epoch: u64,
    since: u64,
    pub stage: Stage,
}

/// How far a caller has come.
pub(super) enum Stage {
    /// It has not greeted.
    Silent,
    /// Its greeting names a link that its node was not told of yet.
    Early(Hello),
    /// It has to prove that it has the key.
    Challenged {
        acceptor: Acceptor,
        expected: Expected,
        from: NodeId,
    },
}

impl Door {
    pub fn new(listeners: Listeners) -> Self {
        let share = thread::descriptor_limit().map_or(MOST_CALLERS, |limit| {
            usize::try_from(limit / CALLERS_SHARE).unwrap_or(MOST_CALLERS)
        });
        Self {
            listeners,
            callers: Vec::new(),
            free: Vec::new(),
            by_age: BTreeMap::new(),
            most: share.clamp(FEWEST_CALLERS, MOST_CALLERS),
            watching: true,
            retry_at: None,
            armed: NEVER,
            told: None,
            untold: 0,
        }
    }

    /// The place of the next caller.
    fn next_place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.callers.push(None);
            (self.callers.len() - 1) as u32
        })
    }

    fn admit(&mut self, place: u32, caller: Caller) {
        self.by_age.insert(caller.epoch, place);
        self.callers[place as usize] = Some(caller);
    }

    pub(super) fn caller(&mut self, place: u32) -> Option<&mut Caller> {
        self.callers.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn dismiss(&mut self, place: u32) -> Option<Caller> {
        let caller = self.callers.get_mut(place as usize)?.take()?;
        self.by_age.remove(&caller.epoch);
        self.free.push(place);
        Some(caller)
    }

    fn is_full(&self) -> bool {
        self.by_age.len() >= self.most
    }

    /// The place of the oldest caller, and since when it is here.
    fn oldest(&self) -> Option<(u32, u64)> {
        let place = *self.by_age.first_key_value()?.1;
        let caller = self.callers[place as usize].as_ref()?;
        Some((place, caller.since))
    }
}

impl Shard {
    /// Watches the process's listeners, if they are ours to watch.
    pub(super) fn open_door(&self) -> nm_kernel::Result<()> {
        let watch = |fd, entrance| {
            let token = Token::Listener(entrance).encode();
            self.epoll.add(fd, token, Interest::READ)
        };
        let Listeners { tcp, unix } = &self.door.listeners;
        if let Some(listener) = tcp {
            watch(listener.as_fd(), Entrance::Tcp)?;
        }
        if let Some(listener) = unix {
            watch(listener.as_fd(), Entrance::Unix)?;
        }
        Ok(())
    }

    /// Takes in whoever waits at a listener.
    pub(super) fn answer_door(&mut self, entrance: Entrance) {
        for _ in 0..CALLERS_PER_TURN {
            if self.door.is_full() && !self.make_room() {
                break;
            }
            match self.door.listeners.accept(entrance) {
                Accepted::Caller(wire) => self.take_in(wire),
                Accepted::Gone => {}
                Accepted::Nobody => break,
                Accepted::Exhausted => {
                    self.mail.counters.accepts_failed.add(1);
                    self.make_room();
                    self.door.retry_at = Some(self.now + EXHAUSTED_PAUSE_NS);
                    break;
                }
            }
        }
        self.tend_door();
    }

    fn take_in(&mut self, wire: Wire) {
        let place = self.door.next_place();
        let token = Token::Greeting(place).encode();
        let ready = wire
            .prepare()
            .and_then(|()| self.epoll.add(&wire, token, Interest::READ));
        if ready.is_err() {
            self.door.free.push(place);
            return;
        }
        let caller = Caller {
            stream: Stream::handshake(wire),
            epoch: self.shared.next_epoch(),
            since: self.now,
            stage: Stage::Silent,
        };
        self.door.admit(place, caller);
    }

    /// Gives the place of the oldest caller free, if it had its time.
    fn make_room(&mut self) -> bool {
        match self.door.oldest() {
            Some((place, since)) if since + LEAST_STAY_NS <= self.now => {
                self.turn_away(place, "too many others are in the handshake");
                true
            }
            _ => false,
        }
    }

    /// Brings the watch on the listeners and our deadline up to date with who is here.
    pub(super) fn tend_door(&mut self) {
        let door = &mut self.door;
        let oldest = door.oldest().map(|(_, since)| since);
        let room_at = oldest
            .filter(|_| door.is_full())
            .map(|since| since + LEAST_STAY_NS)
            .filter(|&at| at > self.now);
        let closed = room_at.is_some() || door.retry_at.is_some();
        if door.watching == closed {
            door.watching = !closed;
            let interest = if closed {
                Interest::NONE
            } else {
                Interest::READ
            };
            let Listeners { tcp, unix } = &door.listeners;
            // Both are in the set since the start; this cannot fail.
            if let Some(listener) = tcp {
                let token = Token::Listener(Entrance::Tcp).encode();
                let _ = self.epoll.modify(listener.as_fd(), token, interest);
            }
            if let Some(listener) = unix {
                let token = Token::Listener(Entrance::Unix).encode();
                let _ = self.epoll.modify(listener.as_fd(), token, interest);
            }
        }
        let overdue = oldest.map(|since| since + HANDSHAKE_LIMIT_NS);
        let next = [room_at, door.retry_at, overdue]
            .into_iter()
            .flatten()
            .min();
        if let Some(at) = next.filter(|&at| at < door.armed) {
            door.armed = at;
            self.timers.add(at, Timer::Door);
        }
    }

    /// Our deadline has come: callers have had their time, or the listeners theirs to rest.
    pub(super) fn door_deadline(&mut self, at: u64) {
        if self.door.armed != at {
            return;
        }
        self.door.armed = NEVER;
        self.door.retry_at = self.door.retry_at.filter(|&at| at > self.now);
        while let Some((place, since)) = self.door.oldest() {
            if since + HANDSHAKE_LIMIT_NS > self.now {
                break;
            }
            self.turn_away(place, "no handshake in time");
        }
        self.tend_door();
    }
}
