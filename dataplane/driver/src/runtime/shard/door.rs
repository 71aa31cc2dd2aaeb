//! The process's door: who dials in, for which node, and whether the token is right.
//!
//! A caller has a few seconds to greet, with one short message. Only then is its socket handed to the shard of the
//! node that it asked for. Whoever fails is told why and the connection is closed; nothing of it is kept.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nm_engine::Pool;
use nm_kernel::poll::Interest;
use nm_kernel::ring::RingMemory;

use super::timers::Timer;
use super::{Shard, Token};
use crate::runtime::link::frame::{same_secret, Control, Hello, LinkFault};
use crate::runtime::link::stream::{Received, Stream};
use crate::runtime::link::wire::Wire;
use crate::runtime::mail::Letter;

/// Callers that may be greeting at the same time; more wait in the kernel's queue.
const MOST_CALLERS: usize = 1024;
/// Callers taken in per turn.
const CALLERS_PER_TURN: usize = 64;
/// How long a caller may take to greet.
const GREETING_LIMIT_NS: u64 = 5_000_000_000;

/// Where neighbours may come in.
#[derive(Default)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    /// With its path, which goes when we do.
    pub unix: Option<(UnixListener, PathBuf)>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    Tcp,
    Unix,
}

impl Listeners {
    /// Takes in one caller, if somebody waits.
    fn accept(&self, entrance: Entrance) -> Option<Wire> {
        match entrance {
            Entrance::Tcp => {
                let (socket, _) = self.tcp.as_ref()?.accept().ok()?;
                Some(Wire::Tcp(socket))
            }
            Entrance::Unix => {
                let (socket, _) = self.unix.as_ref()?.0.accept().ok()?;
                Some(Wire::Unix(socket))
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.unix {
            // Whoever cleans up the folder may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The listeners and who stands in front of them.
pub struct Door {
    listeners: Listeners,
    callers: Vec<Option<Caller>>,
    present: usize,
}

struct Caller {
    stream: Stream,
    epoch: u64,
}

impl Door {
    pub fn new(listeners: Listeners) -> Self {
        Self {
            listeners,
            callers: Vec::new(),
            present: 0,
        }
    }

    fn admit(&mut self, caller: Caller) -> u32 {
        self.present += 1;
        if let Some(free) = self.callers.iter().position(Option::is_none) {
            self.callers[free] = Some(caller);
            return free as u32;
        }
        self.callers.push(Some(caller));
        (self.callers.len() - 1) as u32
    }

    fn next_place(&self) -> u32 {
        self.callers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.callers.len()) as u32
    }

    fn dismiss(&mut self, index: u32) -> Option<Caller> {
        let caller = self.callers.get_mut(index as usize)?.take()?;
        self.present -= 1;
        Some(caller)
    }
}

impl Shard {
    /// Watches the process's entrances, if they are ours to watch.
    pub(super) fn open_door(&self) -> nm_kernel::Result<()> {
        let watch = |fd, entrance| {
            let token = Token::Listener(entrance).encode();
            self.epoll.add(fd, token, Interest::READ)
        };
        let Listeners { tcp, unix } = &self.door.listeners;
        if let Some(listener) = tcp {
            watch(listener.as_fd(), Entrance::Tcp)?;
        }
        if let Some((listener, _)) = unix {
            watch(listener.as_fd(), Entrance::Unix)?;
        }
        Ok(())
    }

    /// Takes in whoever waits at a listener.
    pub(super) fn answer_door(&mut self, entrance: Entrance) {
        for _ in 0..CALLERS_PER_TURN {
            if self.door.present >= MOST_CALLERS {
                return;
            }
            let Some(wire) = self.door.listeners.accept(entrance) else {
                return;
            };
            let epoch = self.shared.next_epoch();
            let token = Token::Greeting(self.door.next_place()).encode();
            let ready = wire
                .prepare()
                .and_then(|()| self.epoll.add(&wire, token, Interest::READ));
            if ready.is_err() {
                continue;
            }
            let index = self.door.admit(Caller {
                stream: Stream::caller(wire),
                epoch,
            });
            self.timers.add(
                self.now + GREETING_LIMIT_NS,
                Timer::Greeting { index, epoch },
            );
        }
    }

    /// A caller says something.
    pub(super) fn hear_greeting(&mut self, index: u32) {
        let Some(Some(caller)) = self.door.callers.get_mut(index as usize) else {
            return;
        };
        let mut received = std::mem::take(&mut self.received);
        // A greeting is short: whoever sends more than this before we answer is no neighbour of ours.
        let staging = &mut self.staging[..4096];
        let outcome = caller
            .stream
            .read(staging, &mut self.io.pool, &mut received);
        let heard = first_word(&mut received, &mut self.io.pool);
        received.clear();
        self.received = received;
        match (heard, outcome) {
            (Some(Ok(hello)), Ok(_)) => self.let_in(index, &hello),
            (None, Ok(_)) => {}
            (Some(Err(fault)), _) | (_, Err(fault)) => self.turn_away(index, &fault.to_string()),
        }
    }

    pub(super) fn greeting_overdue(&mut self, index: u32, epoch: u64) {
        if matches!(self.door.callers.get(index as usize), Some(Some(caller)) if caller.epoch == epoch)
        {
            self.turn_away(index, "no greeting in time");
        }
    }

    fn let_in(&mut self, index: u32, hello: &Hello) {
        let resident = self.shared.resident(&hello.lab, hello.to);
        // The token is looked at even when there is no such node, so that the time taken does not tell.
        let expected = resident
            .as_ref()
            .map_or("", |resident| resident.token.as_str());
        // A node without a token takes no callers.
        let right = same_secret(expected, &hello.token) && !expected.is_empty();
        match resident.and_then(|resident| resident.key.map(|key| (resident.shard, key))) {
            Some((shard, key)) if right => {
                let Some(caller) = self.door.dismiss(index) else {
                    return;
                };
                let (wire, descriptor) = caller.stream.into_parts();
                if self.epoll.remove(&wire).is_err() {
                    return;
                }
                let wire = match descriptor {
                    Some(descriptor) if self.shared.shared_memory => join(wire, &descriptor),
                    _ => wire,
                };
                self.shared.mails[shard].post(Letter::Adopt {
                    key,
                    from: hello.from,
                    wire,
                });
            }
            Some(_) => self.turn_away(index, "wrong token"),
            None => self.turn_away(
                index,
                &format!("no node {} of lab {} here", hello.to, hello.lab),
            ),
        }
    }

    fn turn_away(&mut self, index: u32, reason: &str) {
        let Some(caller) = self.door.dismiss(index) else {
            return;
        };
        self.mail.counters.greetings_refused.add(1);
        let (wire, _) = caller.stream.into_parts();
        let _ = wire.greet(&Control::Refuse(reason.into()).encode(), None);
    }
}

/// Goes on through the memory that a caller offers; over the socket when it is not what it should be.
fn join(wire: Wire, descriptor: &OwnedFd) -> Wire {
    match RingMemory::take(descriptor.as_fd()) {
        Ok(rings) => wire.share(rings),
        Err(_) => wire,
    }
}

/// The greeting among what a caller sent; an error when it sent anything else.
fn first_word(received: &mut Vec<Received>, pool: &mut Pool) -> Option<Result<Hello, LinkFault>> {
    let mut heard = None;
    for item in received.drain(..) {
        let word = match item {
            Received::Control(Control::Hello(hello)) if heard.is_none() => Ok(hello),
            Received::Control(_) => Err(LinkFault::Protocol("something else than a greeting")),
            Received::Packet(packet) => {
                pool.put(packet);
                Err(LinkFault::Protocol("a packet before the greeting"))
            }
        };
        heard = Some(word);
    }
    heard
}
