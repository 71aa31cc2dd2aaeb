//! What callers say in the handshake, and what becomes of them: let in, turned away, or kept until their link is made.

use std::os::fd::{AsFd, OwnedFd};

use nm_engine::{NodeId, Pool};
use nm_kernel::ring::RingMemory;
use nm_kernel::thread;

use super::door::{Caller, Stage};
use super::Shard;
use crate::runtime::link::frame::{Control, Hello, LinkFault, Proof};
use crate::runtime::link::handshake::{Acceptor, SECRET_BYTES};
use crate::runtime::link::stream::Received;
use crate::runtime::link::wire::Wire;
use crate::runtime::mail::Letter;
use crate::runtime::shared::Expected;

/// How often at most a refused proof is told to the node's owner; the others are counted.
const TELL_REFUSED_EVERY_NS: u64 = 10_000_000_000;

impl Shard {
    /// A caller says something.
    pub(super) fn hear_caller(&mut self, place: u32) {
        let Some(caller) = self.door.caller(place) else {
            return;
        };
        let mut received = std::mem::take(&mut self.received);
        // Its messages are short: whoever sends more than this before we answer is no neighbour of ours.
        let staging = &mut self.staging[..4096];
        let outcome = caller
            .stream
            .read(staging, &mut self.io.pool, &mut received);
        let heard = only_message(&mut received, &mut self.io.pool);
        self.received = received;
        match (heard, outcome) {
            (Some(Ok(message)), Ok(_)) => self.answer_caller(place, message),
            (None, Ok(_)) => {}
            (Some(Err(fault)), _) | (_, Err(fault)) => self.turn_away(place, &fault.to_string()),
        }
        self.tend_door();
    }

    fn answer_caller(&mut self, place: u32, message: Control) {
        let Some(caller) = self.door.caller(place) else {
            return;
        };
        match (&caller.stage, message) {
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
        // Counted before we look, so that a link that is made meanwhile is told to us.
        self.shared.caller_waits();
        match self.shared.expected(&hello.lab, hello.to, hello.from) {
            Some(expected) => {
                self.shared.caller_waits_no_more();
                self.challenge(place, &hello, expected);
            }
            None => {
                if let Some(caller) = self.door.caller(place) {
                    caller.stage = Stage::Early(hello);
                }
            }
        }
    }

    /// A link was made that some caller may have waited for.
    pub(super) fn link_expected(&mut self, lab: &str, node: NodeId, remote: NodeId) {
        let waits = |caller: &Caller| match &caller.stage {
            Stage::Early(hello) => (hello.to, hello.from) == (node, remote) && hello.lab == lab,
            _ => false,
        };
        let callers = self.door.callers.iter().enumerate();
        let places: Vec<u32> = callers
            .filter(|(_, caller)| caller.as_ref().is_some_and(waits))
            .map(|(place, _)| place as u32)
            .collect();
        for place in places {
            let Some(expected) = self.shared.expected(lab, node, remote) else {
                return;
            };
            let Some(caller) = self.door.caller(place) else {
                continue;
            };
            if let Stage::Early(hello) = std::mem::replace(&mut caller.stage, Stage::Silent) {
                self.shared.caller_waits_no_more();
                self.challenge(place, &hello, expected);
            }
        }
        self.tend_door();
    }

    fn challenge(&mut self, place: u32, hello: &Hello, expected: Expected) {
        let mut nonce = [0; SECRET_BYTES];
        let drawn = thread::random_bytes(&mut nonce);
        let Some(caller) = self.door.caller(place) else {
            return;
        };
        let (acceptor, message) = Acceptor::new(&expected.secret, hello, nonce);
        caller.stage = Stage::Challenged {
            acceptor,
            expected,
            from: hello.from,
        };
        caller.stream.expect_descriptor();
        let sent = caller.stream.wire().greet(&message.encode(), None);
        if drawn.is_err() || sent.is_err() {
            self.turn_away(place, "no challenge could be made");
        }
    }

    fn let_in(&mut self, place: u32, proof: &Proof) {
        let Some(caller) = self.door.caller(place) else {
            return;
        };
        let Stage::Challenged {
            acceptor,
            expected,
            from,
        } = &caller.stage
        else {
            return;
        };
        let (shard, key, from) = (expected.shard, expected.key, *from);
        if !acceptor.verify(proof) {
            let sink = expected.sink.clone();
            self.turn_away(place, "wrong proof");
            if let Some(times) = self.may_tell() {
                sink.caller_refused(from, times);
            }
            return;
        }
        let Some(caller) = self.door.dismiss(place) else {
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
        self.shared.mails[shard].post(Letter::Adopt { key, from, wire });
    }

    /// How many refused proofs to tell of now, if it is time to.
    fn may_tell(&mut self) -> Option<u64> {
        self.door.untold += 1;
        let recent = |at: u64| at + TELL_REFUSED_EVERY_NS > self.now;
        if self.door.told.is_some_and(recent) {
            return None;
        }
        self.door.told = Some(self.now);
        Some(std::mem::take(&mut self.door.untold))
    }

    pub(super) fn turn_away(&mut self, place: u32, reason: &str) {
        let Some(caller) = self.door.dismiss(place) else {
            return;
        };
        if matches!(caller.stage, Stage::Early(_)) {
            self.shared.caller_waits_no_more();
        }
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

/// The message that a caller sent; an error when it sent more than one, because each waits for our answer.
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
