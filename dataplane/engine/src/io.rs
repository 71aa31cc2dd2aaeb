//! What goes in and out of the engine besides return values: packets to send, messages to hand over, events.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::{GroupId, LinkId, NodeId, Packet, Pool, ReceiverId, SessionId, SessionReport, SessionState};

/// The effects of one or more calls into the engine, and the pool that its packets come from.
///
/// The driver keeps one per shard, hands it to every call, carries out what it holds, and clears it. The
/// vectors keep their capacity, so a warmed-up driver allocates nothing.
#[derive(Debug)]
pub struct Io {
    /// Where new packets come from and where finished ones go.
    pub pool: Pool,
    /// Packets to hand to a neighbour, in order.
    pub transmits: Vec<(LinkId, Packet)>,
    /// Packets for the local TUN device, in order. Write [`Packet::patched_ip_header`], then the rest.
    pub tun: Vec<Packet>,
    /// Messages for local receivers.
    pub deliveries: Vec<Delivery>,
    /// What the node should know.
    pub events: Vec<Event>,
}

impl Io {
    /// Empty effects around a pool.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            transmits: Vec::with_capacity(256),
            tun: Vec::with_capacity(256),
            deliveries: Vec::with_capacity(256),
            events: Vec::with_capacity(64),
        }
    }

    /// Whether there is nothing to carry out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transmits.is_empty()
            && self.tun.is_empty()
            && self.deliveries.is_empty()
            && self.events.is_empty()
    }
}

/// A message for a receiver that was registered with [`crate::Command::RegisterReceiver`].
#[derive(Debug)]
pub struct Delivery {
    /// Whose message it is.
    pub receiver: ReceiverId,
    /// The packet that carries it; the payload is [`Delivery::payload`]. Dropping it recycles the buffer.
    pub packet: Packet,
    /// Where the payload starts in the packet.
    pub payload_offset: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Sender's address.
    pub src_ip: Ipv4Addr,
    /// The address it was sent to: ours, or a group's.
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

/// The bytes that a session received. Cloning copies no byte.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedBytes(pub Arc<Vec<u8>>);

impl fmt::Debug for ReceivedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Something that happened in the engine and that the node's owner may be waiting for.
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
        /// How many trees now have a route here.
        routes: u32,
    },
    /// A session of this node has begun.
    SessionOpened {
        /// The session.
        session: SessionId,
    },
    /// A session of this node ended, one way or the other. The engine keeps nothing of it that its owner may ask for.
    SessionFinished {
        /// The session, and how it ended: on the sending side `Complete` only when every listed receiver has
        /// confirmed every byte by their digest.
        report: Box<SessionReport>,
        /// What a receiving session got, when it is complete.
        data: Option<ReceivedBytes>,
    },
    /// A receiver of a session of ours changed its state (ready, complete, left, …).
    SessionPeer {
        /// The session.
        session: SessionId,
        /// The receiver.
        node: NodeId,
        /// Its new state.
        state: SessionState,
    },
}
