//! Links to other processes: connect, carry packets, reconnect.

use std::time::Duration;

use nm_engine::{LinkId, NodeId};
use nm_kernel::poll::Interest;
use rand_xoshiro::rand_core::Rng;

use super::node::{LinkEnd, Path, Pressure};
use super::timers::Timer;
use super::{Shard, Token};
use crate::backoff::Backoff;
use crate::runtime::link::frame::{Control, LinkFault};
use crate::runtime::link::stream::{Received, Stream, QUEUE_HIGH_BYTES, QUEUE_LOW_BYTES};
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::NodeKey;
use crate::runtime::setup::LinkKind;
use crate::runtime::shared::Expected;

/// The delays between attempts to dial: a neighbour that restarts is reconnected within two seconds.
const DIAL_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(2),
};

impl Shard {
    /// Accepts connections from the neighbour.
    pub(super) fn expect_incoming(&mut self, key: NodeKey, link: LinkId) {
        let shard = self.index;
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let (lab, id, sink) = (node.lab.clone(), node.id, node.sink.clone());
        let Some(setup) = node.end(link).map(|end| &end.setup) else {
            return;
        };
        let Some(secret) = setup.secret.clone() else {
            return;
        };
        let expected = Expected {
            shard,
            key,
            secret,
            sink,
        };
        self.shared.expect(&lab, id, setup.remote, expected);
    }

    /// A neighbour has dialled, and proved that it has the link's key.
    pub(super) fn adopt(&mut self, key: NodeKey, from: NodeId, wire: Wire) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let accepts = |end: &LinkEnd| end.setup.kind == LinkKind::Accept;
        let link = node.by_remote.get(&from).copied();
        // The link was removed since the lookup: the dialler retries, or the controller removes its end.
        let Some(link) = link.filter(|&link| node.end(link).is_some_and(|end| accepts(end))) else {
            return;
        };
        if node.end(link).is_some_and(|end| end.up) {
            // The earlier connection has ended, although this end has not noticed yet.
            self.fail_link(key, link, LinkFault::Closed);
        }
        self.welcome(key, link, wire);
    }

    fn welcome(&mut self, key: NodeKey, link: LinkId, wire: Wire) {
        let word = Control::Welcome {
            shared: wire.is_shared(),
        };
        match wire.send_handshake(&word.encode(), None) {
            Ok(()) => self.establish(key, link, Stream::new(wire), true),
            Err(error) => self.fail_link(key, link, LinkFault::Io(error.to_string())),
        }
    }

    /// The link is up: packets may be sent.
    pub(super) fn establish(&mut self, key: NodeKey, link: LinkId, stream: Stream, fresh: bool) {
        let token = Token::Link {
            slot: key.slot,
            link,
        }
        .encode();
        let watched = match fresh {
            true => self.epoll.add(stream.wire(), token, Interest::READ),
            false => self.epoll.modify(stream.wire(), token, Interest::READ),
        };
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return;
        };
        let carrier = stream.wire().carrier();
        end.path = Path::Stream(Box::new(stream));
        (end.attempts, end.dirty, end.wants_write) = (0, false, false);
        // The neighbour may have written into shared memory before it could ring the doorbell.
        self.poll_ring(key.slot, link);
        match watched {
            Ok(()) => {
                let reason = format!("connected over {carrier}");
                self.report_link(key, link, Some(carrier), &reason);
            }
            Err(error) => self.fail_link(key, link, LinkFault::Io(error.to_string())),
        }
    }

    /// A link's socket is ready.
    pub(super) fn serve_socket(&mut self, slot: u32, link: LinkId, readable: bool, writable: bool) {
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        let key = node.key;
        match node.end(link).map(|end| &mut end.path) {
            Some(Path::Connecting(_)) => self.send_hello(key, link),
            Some(Path::Handshake(..)) => {
                self.read_handshake(key, link);
                self.settle();
            }
            Some(Path::Stream(stream)) => {
                let shared = stream.wire().is_shared();
                stream.wire_mut().clear_doorbell();
                self.poll_ring(slot, link);
                if readable {
                    self.read_stream(key, link);
                }
                if writable || shared {
                    self.flush_stream(slot, link);
                }
                self.settle();
            }
            _ => {}
        }
    }

    /// Reads a batch and runs each packet to completion. Returns the bytes read.
    pub(super) fn read_stream(&mut self, key: NodeKey, link: LinkId) -> usize {
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return 0;
        };
        let Path::Stream(stream) = &mut end.path else {
            return 0;
        };
        let mut received = std::mem::take(&mut self.received);
        let outcome = stream.read(&mut self.staging, &mut self.io.pool, &mut received);
        self.handle_received(key, link, received, outcome)
    }

    /// Handles the items of one read, up to the first that ends the link. Returns the bytes read.
    pub(super) fn handle_received(
        &mut self,
        key: NodeKey,
        link: LinkId,
        mut received: Vec<Received>,
        outcome: Result<usize, LinkFault>,
    ) -> usize {
        let bytes = *outcome.as_ref().unwrap_or(&0);
        self.mailbox.counters.stream_in_bytes.add(bytes as u64);
        let mut fault = None;
        for item in received.drain(..) {
            match item {
                Received::Packet(packet) if fault.is_none() => self.take_packet(key, link, packet),
                Received::Packet(packet) => self.io.pool.put(packet),
                Received::Control(message) if fault.is_none() => {
                    fault = self.handle_control(key, link, message);
                }
                Received::Control(_) => {}
            }
        }
        self.received = received;
        if let Some(fault) = fault.or(outcome.err()) {
            self.fail_link(key, link, fault);
            return 0;
        }
        bytes
    }

    fn take_packet(&mut self, key: NodeKey, link: LinkId, packet: nm_engine::Packet) {
        let now = self.instant();
        self.running = key.slot;
        match self.nodes.get(key) {
            Some(node) => node.engine.handle_link(now, link, packet, &mut self.io),
            None => return self.io.pool.put(packet),
        }
        self.after_call(key.slot);
        self.run_work();
    }

    /// Handles a message between drivers; returns the fault if it ends the link.
    fn handle_control(
        &mut self,
        key: NodeKey,
        link: LinkId,
        message: Control,
    ) -> Option<LinkFault> {
        match message {
            Control::Refuse(reason) => Some(LinkFault::Refused(reason)),
            Control::Bye(reason) => Some(LinkFault::Goodbye(reason)),
            Control::Challenge(challenge) => self.handle_challenge(key, link, &challenge).err(),
            Control::Welcome { shared } => self.handle_welcome(key, link, shared).err(),
            Control::Hello(_) | Control::Proof(_) => {
                Some(LinkFault::Protocol("an unexpected message"))
            }
        }
    }

    /// Sends what the current batch left in socket queues.
    pub(super) fn flush_dirty(&mut self) {
        while let Some((slot, link)) = self.dirty.pop() {
            self.flush_stream(slot, link);
        }
    }

    pub(super) fn flush_stream(&mut self, slot: u32, link: LinkId) {
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        let key = node.key;
        let Some(end) = node.links.get_mut(link as usize).and_then(Option::as_mut) else {
            return;
        };
        end.dirty = false;
        let Path::Stream(stream) = &mut end.path else {
            return;
        };
        let sent = match stream.flush(&mut self.io.pool) {
            Ok(sent) => sent,
            Err(fault) => return self.fail_link(key, link, fault),
        };
        self.mailbox.counters.stream_out_bytes.add(sent as u64);
        let queued = stream.queued();
        let shared = stream.wire().is_shared();
        if !shared && (queued > 0) != end.wants_write {
            end.wants_write = queued > 0;
            let interest = if end.wants_write {
                Interest::BOTH
            } else {
                Interest::READ
            };
            let token = Token::Link { slot, link }.encode();
            // The descriptor is in the set since the link was established; this cannot fail.
            let _ = self.epoll.modify(stream.wire(), token, interest);
        }
        end.stalled &= sent == 0;
        let may_resume = queued < QUEUE_LOW_BYTES && !end.waiters.is_empty();
        if end.congested && queued < QUEUE_LOW_BYTES {
            end.congested = false;
            node.engine.set_link_congested(link, false);
            self.after_call(slot);
        } else if queued > QUEUE_HIGH_BYTES && !end.stalled {
            self.pause_source(Pressure::Stream { slot, link });
        }
        if may_resume {
            self.resume(Pressure::Stream { slot, link });
        }
        if shared && queued > 0 {
            self.poll_ring(slot, link);
        }
    }

    /// A link was lost or did not come up. The dialling end retries.
    pub(super) fn fail_link(&mut self, key: NodeKey, link: LinkId, fault: LinkFault) {
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return;
        };
        // After a failed unix socket, which belongs to another or no process, TCP is tried next; and after TCP the
        // unix socket.
        end.listener_failed = match &end.path {
            Path::Connecting(wire) => !matches!(wire, Wire::Tcp(_)),
            Path::Handshake(stream, ..) => !matches!(stream.wire(), Wire::Tcp(_)),
            _ => false,
        };
        // Closing the socket removes it from the epoll set.
        end.path = Path::Idle;
        (end.dirty, end.wants_write) = (false, false);
        end.attempts += 1;
        let (dials, attempts, epoch) = (end.dials(), end.attempts, self.shared.next_epoch());
        // A new epoch invalidates timers of the old attempt.
        end.epoch = epoch;
        // Nodes that waited for the removed queue resume; their packets are lost while the link is down.
        self.resume(Pressure::Stream {
            slot: key.slot,
            link,
        });
        self.report_link(key, link, None, &fault.to_string());
        if dials {
            let delay = DIAL_BACKOFF.random_delay(attempts, self.random.next_u64());
            let at = self.now + delay.as_nanos() as u64;
            self.timers.add(at, Timer::Link { key, link, epoch });
        }
    }
}
