//! One IP packet, or one super-packet that represents many segments.
//!
//! A packet is a view into a pooled buffer, with its virtio header and the header fields that every hop needs, parsed
//! once. Hops never write to the buffer: TTL decrements are counted beside it and applied when the packet is written
//! to a device or a socket ([`Packet::patched_ip_header`]). All copies of a multicast packet can therefore share one
//! buffer.

mod parse;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub(crate) use self::parse::{Meta, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::buffer::{self, Buffer, HEADROOM};
use crate::vnet::VnetHeader;
use crate::wire::{ip, ip6, PacketError};
use crate::{RouteId, SESSION_PORT};

/// Bytes of the longest IPv4 header (RFC 791, section 3.1). That of IPv6 has 40; extension headers are not changed.
pub const MAX_IP_HEADER: usize = 60;

/// One IP packet or super-packet. See the module's documentation.
#[derive(Debug)]
pub struct Packet {
    buffer: Option<Arc<Buffer>>,
    offset: u32,
    len: u32,
    meta: Meta,
    vnet: VnetHeader,
    hops: u16,
    spent: u8,
    route: RouteId,
}

impl Packet {
    pub(crate) fn empty(buffer: Arc<Buffer>) -> Self {
        Self {
            buffer: Some(buffer),
            offset: HEADROOM as u32,
            len: 0,
            meta: Meta::default(),
            vnet: VnetHeader::default(),
            hops: 0,
            spent: 0,
            route: 0,
        }
    }

    /// The IP packet as stored in the buffer, with the TTL that it had when it entered the engine.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let start = self.offset as usize;
        &self.storage()[start..start + self.len as usize]
    }

    /// The same for writing; `None` while the buffer is shared. Parsed fields are not updated.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let (start, len) = (self.offset as usize, self.len as usize);
        self.storage_mut().map(|storage| &mut storage[start..start + len])
    }

    /// The whole buffer, to be filled by a reader; `None` while it is shared. Follow with [`Packet::set_frame`].
    ///
    /// By convention the IP packet starts at [`HEADROOM`], so a virtio header read in front of it starts at `HEADROOM
    /// - VnetHeader::LEN`.
    pub fn storage_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(self.buffer.as_mut()?).map(Buffer::bytes_mut)
    }

    /// Sets the position of the IP packet in the buffer. Parsed fields of earlier content are reset.
    ///
    /// # Panics
    ///
    /// When the frame exceeds the buffer.
    pub fn set_frame(&mut self, offset: usize, len: usize, vnet: VnetHeader) {
        assert!(offset + len <= self.capacity(), "a frame exceeds its buffer");
        self.offset = offset as u32;
        self.len = len as u32;
        self.vnet = vnet;
        self.meta = Meta::default();
        self.hops = 0;
        self.spent = 0;
        self.route = 0;
    }

    /// Copies an IP packet into the buffer, behind the headroom. `None` when it is shared or too small.
    pub fn fill(&mut self, packet: &[u8], vnet: VnetHeader) -> Option<()> {
        let target = self.storage_mut()?.get_mut(HEADROOM..HEADROOM + packet.len())?;
        target.copy_from_slice(packet);
        self.set_frame(HEADROOM, packet.len(), vnet);
        Some(())
    }

    /// Another reference to the same buffer.
    #[must_use]
    pub fn clone_ref(&self) -> Packet {
        Packet { buffer: self.buffer.clone(), ..*self }
    }

    /// Length of the IP packet in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the packet has no bytes yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of the whole buffer in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage().len()
    }

    /// The virtio header that belongs to the packet.
    #[must_use]
    pub const fn vnet(&self) -> VnetHeader {
        self.vnet
    }

    /// Number of relays that forwarded the packet, in this process and, where links transmit the hop count, before.
    #[must_use]
    pub const fn hops(&self) -> u16 {
        self.hops
    }

    /// Sets the hop count of a packet that was received from a link. Call after [`Packet::set_frame`].
    pub fn set_hops(&mut self, hops: u16) {
        self.hops = hops;
    }

    /// The explicit route that the first node of the packet chose for it; 0 for none.
    #[must_use]
    pub const fn route(&self) -> RouteId {
        self.route
    }

    /// Sets the route of a packet that was received from a link, or the one that a local packet prefers. Call after
    /// [`Packet::set_frame`].
    pub fn set_route(&mut self, route: RouteId) {
        self.route = route;
    }

    /// Number of MTU segments that the packet represents (1 until an engine has parsed it).
    #[must_use]
    pub fn segments(&self) -> u32 {
        u32::from(self.meta.segments.max(1))
    }

    /// Bytes of these segments on a wire: the payload once, headers for each segment.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        if self.meta.ihl == 0 {
            return u64::from(self.len);
        }
        u64::from(self.meta.wire)
    }

    /// Writes the IP header for transmission: TTL reduced by the relays passed, checksum updated (RFC 1624, eqn 3).
    ///
    /// Returns its length; the rest of the packet follows at this offset in [`Packet::bytes`]. Returns 0 when no
    /// engine has parsed the packet: its header is then sent unchanged.
    pub fn patched_ip_header(&self, out: &mut [u8; MAX_IP_HEADER]) -> usize {
        let len = self.meta.own_header();
        out[..len].copy_from_slice(&self.bytes()[..len]);
        if self.spent > 0 && len > 0 {
            ip::reduce_ttl(&mut out[..len], self.spent);
        }
        len
    }

    /// Writes the header of [`Packet::patched_ip_header`] into the buffer. False while the buffer is shared.
    pub fn apply_ttl(&mut self) -> bool {
        let (spent, len) = (self.spent, self.meta.own_header());
        if spent == 0 {
            return true;
        }
        let Some(bytes) = self.bytes_mut() else {
            return false;
        };
        ip::reduce_ttl(&mut bytes[..len], spent);
        self.meta.ttl -= spent;
        self.spent = 0;
        true
    }

    /// Parses the packet once; later calls cost a comparison.
    ///
    /// All input from outside is checked here: afterwards every offset in the packet and in its virtio header lies
    /// inside the packet, and later stages do not check again. The virtio header is rewritten to contain only checked
    /// fields (`hdr_len` is computed, fields without meaning are zero), because it is passed on to devices and
    /// neighbours.
    ///
    /// `mtu` (bytes) determines the number of fragments as which a message that exceeds it counts.
    ///
    /// # Errors
    ///
    /// When the bytes are no IP packet, or length and segmentation fields contradict each other.
    pub fn parse(&mut self, mtu: u16) -> Result<(), PacketError> {
        if self.meta.ihl != 0 {
            return Ok(());
        }
        let (meta, vnet) = parse::parse(self.bytes(), self.vnet, mtu)?;
        self.meta = meta;
        self.vnet = vnet;
        self.len = u32::from(meta.total);
        Ok(())
    }

    pub(crate) const fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) const fn remaining_ttl(&self) -> u8 {
        self.meta.ttl - self.spent
    }

    /// Counts one hop and decrements the TTL if `take_ttl` is set. False when the TTL or the hop limit is exhausted:
    /// the packet must not be forwarded.
    pub(crate) fn count_hop(&mut self, take_ttl: bool) -> bool {
        if take_ttl {
            if self.remaining_ttl() <= 1 {
                return false;
            }
            self.spent += 1;
        }
        self.hops = self.hops.saturating_add(1);
        self.hops < MAX_HOPS
    }

    /// Whether the transport understands marks of congestion, or the packet already has one (RFC 3168, section 5).
    pub(crate) fn is_ecn_capable(&self) -> bool {
        ip::ecn(self.bytes()) != 0
    }

    /// Marks the packet: congestion experienced. Its buffer must not be shared.
    pub(crate) fn mark_congestion(&mut self) {
        let len = self.meta.own_header();
        if let Some(bytes) = self.bytes_mut() {
            ip::mark_congestion(&mut bytes[..len]);
        }
    }

    /// The bytes behind the IP and transport headers.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes()[usize::from(self.meta.header)..]
    }

    /// Removes the bytes behind a UDP datagram inside its IP packet, as a host does before delivery. False when the
    /// UDP length contradicts the packet. The length field of a super-packet covers all its datagrams or one,
    /// depending on its origin, and is not checked.
    pub(crate) fn trim_to_datagram(&mut self) -> bool {
        if self.vnet.is_super() {
            return true;
        }
        let (ihl, all) = (usize::from(self.meta.ihl), usize::from(self.meta.header));
        let stated = &self.bytes()[ihl + UDP_LENGTH..ihl + UDP_LENGTH + 2];
        let end = ihl + usize::from(u16::from_be_bytes([stated[0], stated[1]]));
        if end < all || end > self.len() {
            return false;
        }
        self.len = end as u32;
        true
    }

    /// Both addresses in 64 bits; those of IPv6 as a hash.
    pub(crate) fn ends(&self) -> u64 {
        if !self.meta.v6 {
            return u64::from(self.meta.src) << 32 | u64::from(self.meta.dst);
        }
        let halves = |address: u128| [(address >> 64) as u64, address as u64];
        let words = [halves(ip6::source(self.bytes())), halves(ip6::destination(self.bytes()))];
        words.as_flattened().iter().fold(0, |hash, &word| crate::rng::mix(hash ^ word))
    }

    /// Source and destination address.
    pub(crate) fn addresses(&self) -> (IpAddr, IpAddr) {
        if self.meta.v6 {
            let of = |address| IpAddr::V6(Ipv6Addr::from_bits(address));
            return (of(ip6::source(self.bytes())), of(ip6::destination(self.bytes())));
        }
        let of = |address| IpAddr::V4(Ipv4Addr::from_bits(address));
        (of(self.meta.src), of(self.meta.dst))
    }

    /// The differentiated services code point, 0 to 63.
    pub(crate) fn dscp(&self) -> u8 {
        ip::dscp(self.bytes())
    }

    /// Bytes of the longest segment with its headers.
    fn segment_len(&self) -> usize {
        if self.vnet.is_super() {
            let all = usize::from(self.meta.header) + usize::from(self.vnet.gso_size);
            return all.min(self.len());
        }
        self.len()
    }

    /// Whether the packet is too long for a link with this MTU; then the MTU as it applies to the packet.
    ///
    /// Links provide every IPv6 packet with its least MTU (RFC 8200, section 5). Messages and packets of sessions pass
    /// any link, as if they were fragmented and put together again below IP: a receiver of theirs is no host that would
    /// put fragments together, and their senders do not know the path of a group.
    pub(crate) fn exceeds(&self, mtu: u16) -> Option<u16> {
        let limit = if self.meta.v6 { mtu.max(ip6::MIN_MTU) } else { mtu };
        if self.segment_len() <= usize::from(limit) {
            return None;
        }
        let own = !self.meta.v6
            && self.meta.protocol == ip::UDP
            && (self.bytes()[4..8] == [0; 4] || self.ports() == (SESSION_PORT, SESSION_PORT));
        (!own).then_some(limit)
    }

    /// Whether routers may fragment the packet: IPv4 without "don't fragment" (RFC 791).
    pub(crate) fn may_be_fragmented(&self) -> bool {
        !self.meta.v6 && self.bytes()[6] & 0x40 == 0
    }

    /// Bytes of memory of the packet's buffer, shared or not.
    pub(crate) fn memory(&self) -> u32 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.footprint() as u32)
    }

    pub(crate) fn set_vnet(&mut self, vnet: VnetHeader) {
        self.vnet = vnet;
    }

    /// Appends bytes. False when the buffer is shared or has no room. Parsed fields are not updated.
    pub(crate) fn extend(&mut self, more: &[u8]) -> bool {
        let end = self.offset as usize + self.len as usize;
        let room = self.storage_mut().and_then(|storage| storage.get_mut(end..end + more.len()));
        let Some(room) = room else {
            return false;
        };
        room.copy_from_slice(more);
        self.len += more.len() as u32;
        true
    }

    /// Parses the packet again after its headers were rewritten. The new headers must be valid.
    pub(crate) fn reparse(&mut self, vnet: VnetHeader) {
        self.set_frame(self.offset as usize, self.len as usize, vnet);
        let parsed = self.parse(u16::MAX);
        debug_assert_eq!(parsed, Ok(()), "headers written for this packet");
    }

    /// Copies the hop count, the TTL decrements and the route from the packet that this one was made from.
    pub(crate) fn copy_path_from(&mut self, from: &Packet) {
        self.hops = from.hops;
        self.spent = from.spent;
        self.route = from.route;
    }

    pub(crate) fn release(&mut self) -> Option<Arc<Buffer>> {
        let buffer = self.buffer.take()?;
        (Arc::strong_count(&buffer) == 1).then_some(buffer)
    }

    pub(crate) fn copy_into(&self, buffer: Arc<Buffer>) -> Packet {
        let mut copy = Packet { buffer: Some(buffer), offset: HEADROOM as u32, ..*self };
        if let Some(bytes) = copy.bytes_mut() {
            bytes.copy_from_slice(self.bytes());
        }
        copy
    }

    fn storage(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.bytes())
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer::retire(buffer);
        }
    }
}

/// Hop limit: a packet with more hops is in a forwarding loop. Paths in a line of 4,000 nodes are shorter.
const MAX_HOPS: u16 = 4096;

/// Offset of the length in the UDP header.
const UDP_LENGTH: usize = 4;
