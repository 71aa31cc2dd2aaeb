//! Packets that sessions send, and how they are built.

use super::wire::{Header, Message};
use super::Prefetch;
use crate::wire::{checksum, ip};
use crate::{AddressPlan, NodeId, Packet, Pool, SessionId, VnetHeader, HEADROOM, SESSION_PORT};

/// Bytes of IP and UDP header.
pub(super) const IP_UDP: usize = 28;

/// Segments of sessions are never smaller, whatever the MTU says: every IPv4 link carries this much (RFC 791).
pub(super) const LEAST_MTU: u16 = 576;

/// A packet that a session wants to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub packet: Packet,
    /// The sending session whose bytes these are.
    pub session: Option<SessionId>,
}

/// What goes around a message.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Envelope {
    /// The address it goes to.
    pub to: u32,
    /// The transfer; none for a question that is about no transfer.
    pub number: u64,
    pub round: u8,
    pub offset: u64,
    /// The sending session whose bytes these are.
    pub session: Option<SessionId>,
}

/// Who we are, and what is to be sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(super) node_id: NodeId,
    pub(super) addresses: AddressPlan,
    pub(super) mtu: u16,
    pub(super) queue: Vec<Outgoing>,
    body: Vec<u8>,
    /// For memory that will soon be read or written. The digest of a packet leaves memory idle, and the copy of the
    /// next one would wait for it.
    pub(super) prefetch: Prefetch,
}

impl Outbox {
    pub(super) fn new(node_id: NodeId, addresses: AddressPlan, mtu: u16) -> Self {
        Self {
            node_id,
            addresses,
            mtu: mtu.max(LEAST_MTU),
            queue: Vec::new(),
            body: Vec::new(),
            prefetch: |_, _| {},
        }
    }

    /// Payload bytes of one segment.
    pub(super) fn unit(&self) -> usize {
        usize::from(self.mtu) - IP_UDP - super::wire::HEADER
    }

    pub(super) fn addr(&self, node: NodeId) -> u32 {
        u32::from(self.addresses.node_addr(node))
    }

    /// Queues a message.
    pub(super) fn send(&mut self, envelope: Envelope, message: &Message, pool: &mut Pool) {
        let Envelope { to, round, number, offset, session } = envelope;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(super::wire::HEADER, 0);
        Header { kind: message.kind(), round, tag: super::tag_of(number), offset }.write(&mut body);
        body.extend_from_slice(&number.to_be_bytes());
        message.write(&mut body);
        let mut packet = pool.get_for(IP_UDP + body.len());
        if let Some(storage) = packet.storage_mut() {
            storage[HEADROOM + IP_UDP..HEADROOM + IP_UDP + body.len()].copy_from_slice(&body);
            let out = &mut storage[HEADROOM..HEADROOM + IP_UDP + body.len()];
            emit_headers(out, self.addr(self.node_id), to);
        }
        packet.set_frame(HEADROOM, IP_UDP + body.len(), VnetHeader::default());
        self.queue.push(Outgoing { packet, session });
        self.body = body;
    }
}

/// Writes IP and UDP headers in front of a session payload. There is no UDP checksum (zero means none, RFC 768):
/// links are memory or TCP, which have their own.
pub(super) fn emit_headers(packet: &mut [u8], from: u32, to: u32) {
    let len = packet.len();
    ip::emit(packet, from, to, ip::UDP, len as u16);
    let udp = &mut packet[ip::HEADER..];
    udp[0..2].copy_from_slice(&SESSION_PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&SESSION_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&((len - ip::HEADER) as u16).to_be_bytes());
    udp[6..8].fill(0);
    debug_assert_eq!(checksum::of(&packet[..ip::HEADER]), 0);
}
