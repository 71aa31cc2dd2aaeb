//! Join datagrams into one super-packet: the reverse of segmentation.
//!
//! A write to a device costs the kernel microseconds for any packet size. Datagrams of one flow that arrive in one
//! batch are therefore written as one super-packet; the kernel segments it before a socket receives it, as for
//! datagrams that its own receive offload joined (`udp_gro_receive` in Linux).

use crate::packet::{Packet, UDP_CHECKSUM};
use crate::pool::Pool;
use crate::vnet::{self, VnetHeader};
use crate::wire::ip;

use super::{patch_checksum, patch_ip, patch_udp, UDP_LENGTH};

/// Most datagrams of one super-packet: the limit of Linux since USO (`UDP_MAX_SEGMENTS`).
const MAX_DATAGRAMS: usize = 64;
/// Largest total length of an IPv4 packet in bytes (RFC 791).
const MAX_LEN: usize = u16::MAX as usize;
const UDP_HEADER: usize = 8;
/// Only "don't fragment" is set: the identification field then has no meaning, and segmentation may assign new values
/// (RFC 6864, section 4.1).
const ATOMIC: [u8; 2] = [0x40, 0];

/// Datagrams of one flow that are joined, in order.
#[derive(Debug, Default)]
pub struct Run {
    head: Option<Packet>,
    /// Payload bytes of every datagram except the last, which may be shorter.
    size: usize,
    count: usize,
    /// The last datagram was shorter than the others, so no other may follow.
    closed: bool,
}

impl Run {
    /// Adds a datagram that continues the run, or starts one.
    ///
    /// # Errors
    ///
    /// Returns the packet when it cannot be added: the run must be taken first, or the packet cannot be joined at
    /// all. It must have been parsed.
    pub fn push(&mut self, packet: Packet, pool: &mut Pool) -> Result<(), Packet> {
        match &mut self.head {
            None => self.begin(packet),
            Some(head) => {
                let size = packet.payload().len();
                let fits = !self.closed
                    && size <= self.size
                    && self.count < MAX_DATAGRAMS
                    && head.len() + size <= MAX_LEN
                    && is_joinable(&packet)
                    && is_same_flow(head, &packet);
                if !fits {
                    return Err(packet);
                }
                append(head, packet.payload(), pool);
                self.count += 1;
                self.closed = size < self.size;
                pool.put(packet);
                Ok(())
            }
        }
    }

    fn begin(&mut self, mut packet: Packet) -> Result<(), Packet> {
        let size = packet.payload().len();
        if size == 0 || !is_joinable(&packet) || packet.storage_mut().is_none() {
            return Err(packet);
        }
        *self = Self { head: Some(packet), size, count: 1, closed: false };
        Ok(())
    }

    /// Whether the run is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Removes and returns the run as one packet: a single datagram unchanged.
    pub fn take(&mut self) -> Option<Packet> {
        let mut head = self.head.take()?;
        if self.count > 1 {
            update_headers(&mut head, self.size);
        }
        Some(head)
    }
}

/// Whether a packet is an unfragmented, atomic IPv4 datagram without options whose checksum is partial.
fn is_joinable(packet: &Packet) -> bool {
    let (meta, vnet, bytes) = (packet.meta(), packet.vnet(), packet.bytes());
    meta.protocol == ip::UDP
        && !meta.v6
        && usize::from(meta.ihl) == ip::HEADER
        && vnet.needs_checksum()
        && !vnet.is_super()
        && usize::from(vnet.csum_start) == ip::HEADER
        && usize::from(vnet.csum_offset) == UDP_CHECKSUM
        && bytes[6..8] == ATOMIC
        && bytes[ip::HEADER + UDP_LENGTH..][..2] == ((bytes.len() - ip::HEADER) as u16).to_be_bytes()
}

/// Whether two datagrams differ in nothing but length, identification and payload.
fn is_same_flow(a: &Packet, b: &Packet) -> bool {
    let (x, y) = (a.bytes(), b.bytes());
    // Type of service; then addresses and ports, which are adjacent without IP options.
    x[1] == y[1] && x[12..24] == y[12..24] && a.remaining_ttl() == b.remaining_ttl()
}

/// Appends payload to a packet that is not shared, in a larger buffer if necessary.
fn append(head: &mut Packet, payload: &[u8], pool: &mut Pool) {
    if !head.extend(payload) {
        let grown = pool.copy_with_headroom(head);
        pool.put(std::mem::replace(head, grown));
        let extended = head.extend(payload);
        debug_assert!(extended, "a large buffer holds any packet");
    }
}

/// Updates the headers for the appended payload.
fn update_headers(head: &mut Packet, size: usize) {
    head.apply_ttl();
    let len = head.len();
    let vnet = VnetHeader {
        gso_type: vnet::GSO_UDP_L4,
        gso_size: size as u16,
        hdr_len: (ip::HEADER + UDP_HEADER) as u16,
        ..head.vnet()
    };
    if let Some(bytes) = head.bytes_mut() {
        patch_ip(&mut bytes[..ip::HEADER], 0, len);
        patch_udp(&mut bytes[ip::HEADER..]);
        patch_checksum(bytes, ip::HEADER, ip::UDP, true);
    }
    head.reparse(vnet);
}
