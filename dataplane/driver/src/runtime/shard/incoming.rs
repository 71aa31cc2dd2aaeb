//! The handshake of incoming connections: accepted, refused, or kept until their link is added.

use std::os::fd::{AsFd, OwnedFd};

use nm_engine::{NodeId, Pool};
use nm_kernel::ring::RingMemory;
use nm_kernel::thread;

use super::listener::{Incoming, Stage};
use super::Shard;
use crate::runtime::link::frame::{Control, Hello, LinkFault, Proof};
use crate::runtime::link::handshake::{Acceptor, SECRET_BYTES};
use crate::runtime::link::stream::Received;
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::ShardMessage;
use crate::runtime::shared::Expected;

/// Shortest interval between reports of refused proofs to a node's sink; those between are counted.
const TELL_REFUSED_EVERY_NS: u64 = 10_000_000_000;

impl Shard {
    /// An incoming connection is readable.
    pub(super) fn handle_incoming(&mut self, place: u32) {
        let Some(incoming) = self.listener.incoming(place) else {
            return;
        };
        let mut received = std::mem::take(&mut self.received);
        // Handshake messages are short: a peer that sends more than this before the reply is not a valid neighbour.
        let staging = &mut self.staging[..4096];
        let outcome = incoming
            .stream
            .read(staging, &mut self.io.pool, &mut received);
        let heard = only_message(&mut received, &mut self.io.pool);
        self.received = received;
        match (heard, outcome) {
            (Some(Ok(message)), Ok(_)) => self.handle_incoming_message(place, message),
            (None, Ok(_)) => {}
            (Some(Err(fault)), _) | (_, Err(fault)) => self.turn_away(place, &fault.to_string()),
        }
        self.check_listeners();
    }

    fn handle_incoming_message(&mut self, place: u32, message: Control) {
        let Some(incoming) = self.listener.incoming(place) else {
            return;
        };
        match (&incoming.stage, message) {
            (Stage::Silent, Control::Hello(hello)) => self.greeted(place, hello),
            (Stage::Challenged { .. }, Control::Proof(proof)) => self.let_in(place, &proof),
            _ => {
                let fault = LinkFault::Protocol("a message out of turn");
                self.turn_away(place, &fault.to_string());
            }
        }
    }

    fn greeted(&mut self, place: u32, hello: Hello) {
        if !self.shared.has_resident(&hello.lab, hello.to) {
            let reason = format!("no node {} of lab {} here", hello.to, hello.lab);
            return self.turn_away(place, &reason);
        }
        // Counted before the lookup, so that a link added meanwhile sends a message to this shard.
        self.shared.incoming_waits();
        match self.shared.expected(&hello.lab, hello.to, hello.from) {
            Some(expected) => {
                self.shared.incoming_is_done();
                self.challenge(place, &hello, expected);
            }
            None => {
                if let Some(incoming) = self.listener.incoming(place) {
                    incoming.stage = Stage::Early(hello);
                }
            }
        }
    }

    /// A link was added that an incoming connection may have waited for.
    pub(super) fn link_expected(&mut self, lab: &str, node: NodeId, remote: NodeId) {
        let waits = |incoming: &Incoming| match &incoming.stage {
            Stage::Early(hello) => (hello.to, hello.from) == (node, remote) && hello.lab == lab,
            _ => false,
        };
        let incoming = self.listener.incoming.iter().enumerate();
        let places: Vec<u32> = incoming
            .filter(|(_, incoming)| incoming.as_ref().is_some_and(waits))
            .map(|(place, _)| place as u32)
            .collect();
        for place in places {
            let Some(expected) = self.shared.expected(lab, node, remote) else {
                return;
            };
            let Some(incoming) = self.listener.incoming(place) else {
                continue;
            };
            if let Stage::Early(hello) = std::mem::replace(&mut incoming.stage, Stage::Silent) {
                self.shared.incoming_is_done();
                self.challenge(place, &hello, expected);
            }
        }
        self.check_listeners();
    }

    fn challenge(&mut self, place: u32, hello: &Hello, expected: Expected) {
        let mut nonce = [0; SECRET_BYTES];
        let drawn = thread::random_bytes(&mut nonce);
        let Some(incoming) = self.listener.incoming(place) else {
            return;
        };
        let (acceptor, message) = Acceptor::new(&expected.secret, hello, nonce);
        incoming.stage = Stage::Challenged {
            acceptor,
            expected,
            from: hello.from,
        };
        incoming.stream.expect_descriptor();
        let sent = incoming.stream.wire().greet(&message.encode(), None);
        if drawn.is_err() || sent.is_err() {
            self.turn_away(place, "no challenge could be made");
        }
    }

    fn let_in(&mut self, place: u32, proof: &Proof) {
        let Some(incoming) = self.listener.incoming(place) else {
            return;
        };
        let Stage::Challenged {
            acceptor,
            expected,
            from,
        } = &incoming.stage
        else {
            return;
        };
        let (shard, key, from) = (expected.shard, expected.key, *from);
        if !acceptor.verify(proof) {
            let sink = expected.sink.clone();
            self.turn_away(place, "wrong proof");
            if let Some(times) = self.may_tell() {
                sink.incoming_refused(from, times);
            }
            return;
        }
        let Some(incoming) = self.listener.dismiss(place) else {
            return;
        };
        let (wire, descriptor) = incoming.stream.into_parts();
        if self.epoll.remove(&wire).is_err() {
            return;
        }
        let wire = match descriptor {
            Some(descriptor) if self.shared.shared_memory => join(wire, &descriptor),
            _ => wire,
        };
        self.shared.mailboxes[shard].post(ShardMessage::Adopt { key, from, wire });
    }

    /// The number of refused proofs to report now, if the interval has passed.
    fn may_tell(&mut self) -> Option<u64> {
        self.listener.untold += 1;
        let recent = |at: u64| at + TELL_REFUSED_EVERY_NS > self.now;
        if self.listener.told.is_some_and(recent) {
            return None;
        }
        self.listener.told = Some(self.now);
        Some(std::mem::take(&mut self.listener.untold))
    }

    pub(super) fn turn_away(&mut self, place: u32, reason: &str) {
        let Some(incoming) = self.listener.dismiss(place) else {
            return;
        };
        if matches!(incoming.stage, Stage::Early(_)) {
            self.shared.incoming_is_done();
        }
        self.mailbox.counters.greetings_refused.add(1);
        let (wire, _) = incoming.stream.into_parts();
        let _ = wire.greet(&Control::Refuse(reason.into()).encode(), None);
    }
}

/// Switches to the memory that an incoming connection offers; stays on the socket when the memory is invalid.
fn join(wire: Wire, descriptor: &OwnedFd) -> Wire {
    match RingMemory::take(descriptor.as_fd()) {
        Ok(rings) => wire.share(rings),
        Err(_) => wire,
    }
}

/// The message that an incoming connection sent; an error when it sent more than one, because each requires a reply.
fn only_message(
    received: &mut Vec<Received>,
    pool: &mut Pool,
) -> Option<Result<Control, LinkFault>> {
    let mut heard = None;
    for item in received.drain(..) {
        heard = Some(match item {
            Received::Control(message) if heard.is_none() => Ok(message),
            Received::Control(_) => Err(LinkFault::Protocol("a message out of turn")),
            Received::Packet(packet) => {
                pool.put(packet);
                Err(LinkFault::Protocol("a packet before the handshake"))
            }
        });
    }
    heard
}
