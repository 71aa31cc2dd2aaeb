//! Dial a neighbour in another process, and do the dialler's side of the handshake.

use std::io::ErrorKind;
use std::net::SocketAddr;

use nm_engine::LinkId;
use nm_kernel::poll::Interest;
use nm_kernel::ring::RingMemory;
use nm_kernel::{local, socket, thread};

use super::node::{LinkEnd, Path};
use super::timers::Timer;
use super::{Shard, Token};
use crate::runtime::link::frame::{Challenge, LinkFault, SECRET_BYTES};
use crate::runtime::link::handshake::Dialler;
use crate::runtime::link::stream::Stream;
use crate::runtime::link::wire::Wire;
use crate::runtime::mailbox::NodeKey;
use crate::runtime::setup::LinkKind;

/// Time limit of an attempt, from the first packet of the connection to the welcome.
const ANSWER_LIMIT_NS: u64 = 5_000_000_000;

impl Shard {
    /// Starts an attempt to connect to the neighbour.
    pub(super) fn dial(&mut self, key: NodeKey, link: LinkId) {
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return;
        };
        let LinkKind::Dial(address) = end.setup.kind else {
            return;
        };
        let epoch = end.epoch;
        let token = Token::Link {
            slot: key.slot,
            link,
        }
        .encode();
        match open_wire(end, address) {
            Ok(wire) => {
                if let Err(error) = self.epoll.add(&wire, token, Interest::WRITE) {
                    return self.fail_link(key, link, LinkFault::Io(error.to_string()));
                }
                end.path = Path::Connecting(wire);
                self.timers
                    .add(self.now + ANSWER_LIMIT_NS, Timer::Link { key, link, epoch });
            }
            Err(error) => self.fail_link(key, link, LinkFault::Io(error)),
        }
    }

    /// A link's timer: dials again, or ends an attempt that was not answered in time.
    pub(super) fn link_deadline(&mut self, key: NodeKey, link: LinkId, epoch: u64) {
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return;
        };
        if end.epoch != epoch {
            return;
        }
        match end.path {
            Path::Idle => self.dial(key, link),
            Path::Connecting(_) | Path::Handshake(..) => {
                self.fail_link(key, link, LinkFault::Timeout)
            }
            _ => {}
        }
    }

    /// The dialled socket is connected or has failed: sends the hello message.
    pub(super) fn send_hello(&mut self, key: NodeKey, link: LinkId) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let (lab, from) = (node.lab.to_string(), node.id);
        let Some(end) = node.end(link) else { return };
        let Path::Connecting(wire) = std::mem::replace(&mut end.path, Path::Idle) else {
            return;
        };
        let Some(secret) = end.setup.secret.clone() else {
            return;
        };
        let remote = end.setup.remote;
        let mut nonce = [0; SECRET_BYTES];
        let drawn = thread::random_bytes(&mut nonce);
        let (dialler, hello) = Dialler::new(secret, lab, from, remote, nonce);
        let token = Token::Link {
            slot: key.slot,
            link,
        }
        .encode();
        let handle_hello = wire
            .connect_outcome()
            .map_err(|e| e.to_string())
            .and_then(|()| drawn.map_err(|e| e.to_string()))
            .and_then(|()| wire.prepare().map_err(|e| e.to_string()))
            .and_then(|()| {
                wire.send_handshake(&hello.encode(), None)
                    .map_err(|e| e.to_string())
            })
            .and_then(|()| {
                self.epoll
                    .modify(&wire, token, Interest::READ)
                    .map_err(|e| e.to_string())
            });
        // Failures from here on must record which transport was tried.
        let stream = Box::new(Stream::handshake(wire));
        end.path = Path::Handshake(stream, Box::new(dialler), false);
        if let Err(reason) = handle_hello {
            self.fail_link(key, link, LinkFault::Io(reason));
        }
    }

    /// Reads the acceptor's messages during the handshake, and the bytes after its welcome.
    pub(super) fn read_handshake(&mut self, key: NodeKey, link: LinkId) {
        let mut received = std::mem::take(&mut self.received);
        let outcome = match self.nodes.get(key).and_then(|node| node.end(link)) {
            Some(LinkEnd {
                path: Path::Handshake(stream, ..),
                ..
            }) => stream.read(&mut self.staging, &mut self.io.pool, &mut received),
            _ => Ok(0),
        };
        self.handle_received(key, link, received, outcome);
    }

    /// Handles the challenge: verifies the acceptor, and only then sends the dialler's proof, with the memory to
    /// share.
    pub(super) fn handle_challenge(
        &mut self,
        key: NodeKey,
        link: LinkId,
        challenge: &Challenge,
    ) -> Result<(), LinkFault> {
        let may_share = self.shared.shared_memory;
        let path = self.nodes.get(key).and_then(|node| node.end(link));
        let Some(Path::Handshake(stream, dialler, proven)) = path.map(|end| &mut end.path) else {
            return Err(LinkFault::Protocol("an unexpected message"));
        };
        if std::mem::replace(proven, true) {
            return Err(LinkFault::Protocol("a second challenge"));
        }
        let proof = dialler.answer(challenge)?;
        // Without memory to share the link stays on the socket.
        let offer = match stream.wire() {
            Wire::Unix(_) if may_share => RingMemory::make().ok(),
            _ => None,
        };
        let descriptor = offer.map(|(out, back, descriptor)| {
            stream.offer((out, back));
            descriptor
        });
        stream
            .wire()
            .send_handshake(&proof.encode(), descriptor.as_ref())
            .map_err(|error| LinkFault::Io(error.to_string()))
    }

    /// Handles the welcome: the link is up.
    pub(super) fn handle_welcome(
        &mut self,
        key: NodeKey,
        link: LinkId,
        shared: bool,
    ) -> Result<(), LinkFault> {
        let Some(end) = self.nodes.get(key).and_then(|node| node.end(link)) else {
            return Ok(());
        };
        match std::mem::replace(&mut end.path, Path::Idle) {
            Path::Handshake(stream, _, true) if shared => {
                let stream = stream.share().ok_or(LinkFault::Protocol(
                    "a welcome to memory that was not offered",
                ))?;
                self.establish(key, link, stream, false);
                Ok(())
            }
            Path::Handshake(stream, _, true) => {
                self.establish(key, link, *stream, false);
                Ok(())
            }
            other @ Path::Handshake(..) => {
                end.path = other;
                Err(LinkFault::Protocol("a welcome without a proof"))
            }
            other => {
                end.path = other;
                Err(LinkFault::Protocol("a second welcome"))
            }
        }
    }
}

/// Dials the neighbour's unix socket if there is one that can be reached, and its TCP address otherwise.
fn open_wire(end: &mut LinkEnd, address: SocketAddr) -> Result<Wire, String> {
    if let Some(socket) = end.setup.socket.as_deref().filter(|_| !end.listener_failed) {
        match local::connect(socket) {
            Ok(stream) => return Ok(Wire::Unix(stream)),
            // The socket's backlog is full: try it again later, because a link over TCP would stay on TCP.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("too many connections at {}", socket.display()));
            }
            // The socket is on another machine, not visible here, or its process has ended.
            Err(_) => {}
        }
    }
    socket::connect(address)
        .map(Wire::Tcp)
        .map_err(|error| error.to_string())
}
