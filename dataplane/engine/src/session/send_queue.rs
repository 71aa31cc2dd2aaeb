//! The queue of packets that sessions send, and the construction of these packets.

use super::memory::Prefetch;
use super::wire::{tag_of, Header, Message, HEADER, IP_UDP, MIN_MTU};
use crate::wire::{checksum, ip};
use crate::{AddressPlan, NodeId, Packet, Pool, SessionId, VnetHeader, HEADROOM, SESSION_PORT};

/// A queued packet.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub packet: Packet,
    /// The sending session that the bytes are counted for.
    pub session: Option<SessionId>,
}

/// The addressing and numbering of a message.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Envelope {
    /// The destination address.
    pub to: u32,
    /// The transfer number; 0 for a request that concerns no transfer.
    pub number: u64,
    pub round: u8,
    /// See [`Header::index`].
    pub index: u32,
    /// The sending session that the bytes are counted for.
    pub session: Option<SessionId>,
}

/// The addresses of this node, and the queue of packets to send.
#[derive(Debug)]
pub(crate) struct SendQueue {
    pub(super) node_id: NodeId,
    pub(super) addresses: AddressPlan,
    pub(super) mtu: u16,
    pub(super) packets: Vec<Outgoing>,
    body: Vec<u8>,
    /// Prefetches memory that will be read or written next. Computing a digest leaves the memory bus idle, and the
    /// next copy would wait for the memory.
    pub(super) prefetch: Prefetch,
}

impl SendQueue {
    pub(super) fn new(node_id: NodeId, addresses: AddressPlan, mtu: u16) -> Self {
        Self {
            node_id,
            addresses,
            mtu: mtu.max(MIN_MTU),
            packets: Vec::new(),
            body: Vec::new(),
            prefetch: |_, _| {},
        }
    }

    /// Payload bytes of one segment.
    pub(super) fn segment_size(&self) -> usize {
        usize::from(self.mtu) - IP_UDP - HEADER
    }

    pub(super) fn addr(&self, node: NodeId) -> u32 {
        u32::from(self.addresses.node_addr(node))
    }

    /// Builds a packet with a message and queues it.
    pub(super) fn send(&mut self, envelope: Envelope, message: &Message, pool: &mut Pool) {
        let Envelope { to, round, number, index, session } = envelope;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(HEADER, 0);
        let tag = tag_of(number);
        Header { kind: message.kind(), tree: 0, round, tag, index, sequence: 0 }.write(&mut body);
        body.extend_from_slice(&number.to_be_bytes());
        message.write(&mut body);
        let mut packet = pool.get_for(IP_UDP + body.len());
        if let Some(storage) = packet.storage_mut() {
            storage[HEADROOM + IP_UDP..HEADROOM + IP_UDP + body.len()].copy_from_slice(&body);
            let out = &mut storage[HEADROOM..HEADROOM + IP_UDP + body.len()];
            emit_headers(out, self.addr(self.node_id), to);
        }
        packet.set_frame(HEADROOM, IP_UDP + body.len(), VnetHeader::default());
        self.packets.push(Outgoing { packet, session });
        self.body = body;
    }
}

/// Writes IP and UDP headers in front of a session payload. The UDP checksum is zero, which means none (RFC 768):
/// links are memory or TCP, which have their own checksums or need none.
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
