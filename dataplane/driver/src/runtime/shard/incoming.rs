//! The handshake of incoming connections: accepted, refused, or kept until their link is added.

use std::os::fd::{AsFd, OwnedFd};

use nm_engine::{NodeId, Pool};
use nm_kernel::ring::RingMemory;
use nm_kernel::thread;

use super::listener::{Incoming, Stage};
use super::Shard;
use crate::runtime::link::frame::{Control, Hello, LinkFault, Proof, SECRET_BYTES};
use crate::runtime::link::handshake::Acceptor;
use crate::runtime::link::stream::Received;
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::ShardMessage;
use crate::runtime::shared::Expected;

/// Shortest interval between reports of refused proofs to a node's sink; those between are counted.
const REPORT_REFUSED_EVERY_NS: u64 = 10_000_000_000;

impl Shard {
    /// An incoming connection is readable.
    pub(super) fn handle_incoming(&mut self, slot: u32) {
        let Some(incoming) = self.listener.incoming(slot) else {
            return;
        };
        let mut received = std::mem::take(&mut self.received);
        // Handshake messages are short: a peer that sends more than this before the reply is not a valid neighbour.
        let staging = &mut self.staging[..4096];
        let outcome = incoming
            .stream
            .read(staging, &mut self.io.pool, &mut received);
        let only = only_message(&mut received, &mut self.io.pool);
        self.received = received;
        match (only, outcome) {
            (Some(Ok(message)), Ok(_)) => self.handle_incoming_message(slot, message),
            (None, Ok(_)) => {}
            (Some(Err(fault)), _) | (_, Err(fault)) => self.reject(slot, &fault.to_string()),
        }
        self.check_listeners();
    }

    fn handle_incoming_message(&mut self, slot: u32, message: Control) {
        let Some(incoming) = self.listener.incoming(slot) else {
            return;
        };
        match (&incoming.stage, message) {
            (Stage::NoHello, Control::Hello(hello)) => self.handle_hello(slot, hello),
            (Stage::Challenged { .. }, Control::Proof(proof)) => self.handle_proof(slot, &proof),
            _ => {
                let fault = LinkFault::Protocol("an unexpected message");
                self.reject(slot, &fault.to_string());
            }
        }
    }

    fn handle_hello(&mut self, slot: u32, hello: Hello) {
        if !self.shared.has_node(&hello.lab, hello.to) {
            let reason = format!("no node {} of lab {} here", hello.to, hello.lab);
            return self.reject(slot, &reason);
        }
        // Counted before the lookup, so that a link added meanwhile sends a message to this shard.
        self.shared.count_waiting();
        match self.shared.expected(&hello.lab, hello.to, hello.from) {
            Some(expected) => {
                self.shared.uncount_waiting();
                self.challenge(slot, &hello, expected);
            }
            None => {
                if let Some(incoming) = self.listener.incoming(slot) {
                    incoming.stage = Stage::WaitingForLink(hello);
                }
            }
        }
    }

    /// A link was added that an incoming connection may have waited for.
    pub(super) fn link_expected(&mut self, lab: &str, node: NodeId, remote: NodeId) {
        let waits = |incoming: &Incoming| match &incoming.stage {
            Stage::WaitingForLink(hello) => {
                (hello.to, hello.from) == (node, remote) && hello.lab == lab
            }
            _ => false,
        };
        let incoming = self.listener.incoming.iter().enumerate();
        let slots: Vec<u32> = incoming
            .filter(|(_, incoming)| incoming.as_ref().is_some_and(waits))
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in slots {
            let Some(expected) = self.shared.expected(lab, node, remote) else {
                return;
            };
            let Some(incoming) = self.listener.incoming(slot) else {
                continue;
            };
            if let Stage::WaitingForLink(hello) =
                std::mem::replace(&mut incoming.stage, Stage::NoHello)
            {
                self.shared.uncount_waiting();
                self.challenge(slot, &hello, expected);
            }
        }
        self.check_listeners();
    }

    fn challenge(&mut self, slot: u32, hello: &Hello, expected: Expected) {
        let mut nonce = [0; SECRET_BYTES];
        let drawn = thread::random_bytes(&mut nonce);
        let Some(incoming) = self.listener.incoming(slot) else {
            return;
        };
        let (acceptor, message) = Acceptor::new(&expected.secret, hello, nonce);
        incoming.stage = Stage::Challenged {
            acceptor,
            expected,
            from: hello.from,
        };
        incoming.stream.expect_descriptor();
        let sent = incoming
            .stream
            .wire()
            .send_handshake(&message.encode(), None);
        if drawn.is_err() || sent.is_err() {
            self.reject(slot, "no challenge could be made");
        }
    }

    fn handle_proof(&mut self, slot: u32, proof: &Proof) {
        let Some(incoming) = self.listener.incoming(slot) else {
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
            self.reject(slot, "wrong proof");
            if let Some(times) = self.refusals_to_report() {
                sink.incoming_refused(from, times);
            }
            return;
        }
        let Some(incoming) = self.listener.remove_incoming(slot) else {
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
    fn refusals_to_report(&mut self) -> Option<u64> {
        self.listener.unreported += 1;
        let recent = |at: u64| at + REPORT_REFUSED_EVERY_NS > self.now;
        if self.listener.reported_at.is_some_and(recent) {
            return None;
        }
        self.listener.reported_at = Some(self.now);
        Some(std::mem::take(&mut self.listener.unreported))
    }

    pub(super) fn reject(&mut self, slot: u32, reason: &str) {
        let Some(incoming) = self.listener.remove_incoming(slot) else {
            return;
        };
        if matches!(incoming.stage, Stage::WaitingForLink(_)) {
            self.shared.uncount_waiting();
        }
        self.mailbox.counters.handshakes_refused.add(1);
        let (wire, _) = incoming.stream.into_parts();
        let _ = wire.send_handshake(&Control::Refuse(reason.into()).encode(), None);
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
    let mut only = None;
    for item in received.drain(..) {
        only = Some(match item {
            Received::Control(message) if only.is_none() => Ok(message),
            Received::Control(_) => Err(LinkFault::Protocol("an unexpected message")),
            Received::Packet(packet) => {
                pool.put(packet);
                Err(LinkFault::Protocol("a packet before the handshake"))
            }
        });
    }
    only
}
