//! Outputs of the engine besides return values: packets to send, messages to deliver, and events.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::{
    GroupId, Instant, LinkId, NodeId, Packet, Pool, ProbeReport, ReceiverId, SessionId, SessionReport,
    SessionState, TapPoint, Tapped,
};

/// Bytes of the largest packet that is copied for a record: a full packet of a usual MTU.
const COPIED: usize = 1600;

/// The outputs of one or more calls to the engine, and the pool that provides its packets.
///
/// The driver keeps one per shard, passes it to every call, executes its contents, and clears it. The vectors keep
/// their capacity, so a driver in steady state allocates nothing.
#[derive(Debug)]
pub struct Io {
    /// The pool that new packets are taken from and finished packets are returned to.
    pub pool: Pool,
    /// Packets to send to neighbours, in order.
    pub transmits: Vec<(LinkId, Packet)>,
    /// Packets for the local TUN device, in order. Write [`Packet::patched_ip_header`], then the remaining bytes.
    pub tun: Vec<Packet>,
    /// Packets for the endpoint behind the user-space address of the node, if [`crate::Engine::set_endpoint`] says that
    /// there is one.
    pub endpoint: Vec<Packet>,
    /// Messages for local receivers.
    pub deliveries: Vec<Delivery>,
    /// Events for the owner of the node.
    pub events: Vec<Event>,
    /// Records of packets, where [`crate::Engine::set_taps`] asks for them.
    pub tapped: Vec<Tapped>,
}

impl Io {
    /// Empty outputs with a pool.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            transmits: Vec::with_capacity(256),
            tun: Vec::with_capacity(256),
            endpoint: Vec::new(),
            deliveries: Vec::with_capacity(256),
            events: Vec::with_capacity(64),
            tapped: Vec::new(),
        }
    }

    /// Whether there is no output to execute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transmits.is_empty()
            && self.tun.is_empty()
            && self.endpoint.is_empty()
            && self.deliveries.is_empty()
            && self.events.is_empty()
            && self.tapped.is_empty()
    }

    /// Records a packet.
    #[cold]
    #[inline(never)]
    pub(crate) fn tap(&mut self, at: Instant, point: TapPoint, packet: &Packet) {
        let count = packet.segments();
        let packet = if packet.len() <= COPIED { self.pool.copy(packet) } else { packet.clone_ref() };
        self.tapped.push(Tapped { at, point, packet, first: 0, count });
    }
}

/// A message for a receiver that was registered with [`crate::Command::RegisterReceiver`].
#[derive(Debug)]
pub struct Delivery {
    /// The receiver that the message is for.
    pub receiver: ReceiverId,
    /// The packet that carries it; the payload is [`Delivery::payload`]. Dropping it recycles the buffer.
    pub packet: Packet,
    /// Offset of the payload in the packet, in bytes.
    pub payload_offset: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Sender's address.
    pub src_ip: Ipv4Addr,
    /// The destination address: this node's, or a group's.
    pub dst_ip: Ipv4Addr,
    /// Sender's UDP port.
    pub src_port: u16,
    /// Receiver's UDP port.
    pub dst_port: u16,
    /// Identifies the flow on this node; equal for equal addresses and ports.
    pub flow_id: u64,
    /// Counts this receiver's messages from 0.
    pub message_id: u64,
}

impl Delivery {
    /// The message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let start = self.payload_offset as usize;
        &self.packet.bytes()[start..start + self.payload_len as usize]
    }
}

/// The bytes that a session received. Cloning does not copy them.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedBytes(pub Arc<Vec<u8>>);

impl fmt::Debug for ReceivedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A change of state in the engine that the owner of the node may wait for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// This node became a member of a group.
    LocalMemberJoined {
        /// The group.
        group_id: GroupId,
    },
    /// This node is no longer a member of a group.
    LocalMemberLeft {
        /// The group.
        group_id: GroupId,
    },
    /// A group entered the directory (or changed).
    GroupInstalled {
        /// The group.
        group_id: GroupId,
        /// Its address.
        group_ip: Ipv4Addr,
        /// The node that sends to it.
        source: NodeId,
        /// The name its creator gave it.
        label: String,
    },
    /// A group left the directory.
    GroupRemoved {
        /// The group.
        group_id: GroupId,
    },
    /// Routes of a group were installed.
    GroupRoutesInstalled {
        /// The group.
        group_id: GroupId,
        /// The root of the trees.
        source: NodeId,
        /// Number of trees with a route at this node.
        routes: u32,
    },
    /// A session of this node has begun.
    SessionOpened {
        /// The session.
        session: SessionId,
    },
    /// A session of this node ended, successfully or not. The event hands over the received data; the engine keeps
    /// none of it.
    SessionFinished {
        /// The session and its result: on the sending side `Complete` only when every listed receiver has confirmed
        /// every byte by the digest.
        report: Box<SessionReport>,
        /// The received bytes of a receiving session that is complete.
        data: Option<ReceivedBytes>,
    },
    /// A receiver of a sending session of this node changed its state (ready, complete, left, …).
    SessionPeer {
        /// The session.
        session: SessionId,
        /// The receiver.
        node: NodeId,
        /// Its new state.
        state: SessionState,
    },
    /// The node was paused or resumed.
    NodePaused {
        /// Whether it is paused now.
        paused: bool,
    },
    /// A link of this node began or ceased to carry packets; one that is removed carries none.
    LinkCarries {
        /// The neighbour.
        remote: NodeId,
        /// Whether it carries packets now.
        carries: bool,
    },
    /// A probe of this node ended, successfully or not.
    ProbeFinished {
        /// The result.
        report: Box<ProbeReport>,
    },
}
