//! One IP packet, or one super-packet that represents many segments.
//!
//! A packet is a view into a pooled buffer, with its virtio header and the header fields that every hop needs, parsed
//! once. Hops never write to the buffer: TTL decrements are counted beside it and applied when the packet is written
//! to a device or a socket ([`Packet::patched_ip_header`]). All copies of a multicast packet can therefore share one
//! buffer.

use std::sync::Arc;

use crate::buffer::{self, Buffer, HEADROOM};
use crate::vnet::{self, VnetHeader};
use crate::wire::{ip, PacketError};
use crate::RouteId;

/// Bytes of the longest IPv4 header (RFC 791, section 3.1).
pub const MAX_IP_HEADER: usize = 60;

/// The parsed header fields of a packet.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Meta {
    pub src: u32,
    pub dst: u32,
    /// Bytes of the payload plus the headers of every segment.
    pub wire: u32,
    /// Total length of the IP header (RFC 791) in bytes; bytes behind it in the buffer are padding.
    pub total: u16,
    /// MTU segments, at most [`MAX_SEGMENTS`].
    pub segments: u16,
    /// IP and transport header bytes.
    pub header: u16,
    /// IP header bytes; 0 means not parsed yet.
    pub ihl: u8,
    pub protocol: u8,
    pub ttl: u8,
    /// Set when the packet is a fragment: more fragments follow, or its fragment offset is not zero.
    pub fragment: bool,
}

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
        let len = usize::from(self.meta.ihl);
        out[..len].copy_from_slice(&self.bytes()[..len]);
        if self.spent > 0 && len > 0 {
            ip::reduce_ttl(&mut out[..len], self.spent);
        }
        len
    }

    /// Writes the header of [`Packet::patched_ip_header`] into the buffer. False while the buffer is shared.
    pub fn apply_ttl(&mut self) -> bool {
        let (spent, len) = (self.spent, usize::from(self.meta.ihl));
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
    /// `mtu` (bytes) determines the number of fragments of a packet that exceeds one segment and is no super-packet.
    ///
    /// # Errors
    ///
    /// When the bytes are no IPv4 packet, or length and segmentation fields contradict each other.
    pub fn parse(&mut self, mtu: u16) -> Result<(), PacketError> {
        if self.meta.ihl != 0 {
            return Ok(());
        }
        let (meta, vnet) = parse(self.bytes(), self.vnet, mtu)?;
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
        self.bytes()[ip::TOS] & ip::CONGESTION_EXPERIENCED != 0
    }

    /// Marks the packet: congestion experienced. Its buffer must not be shared.
    pub(crate) fn mark_congestion(&mut self) {
        let ihl = usize::from(self.meta.ihl);
        if let Some(bytes) = self.bytes_mut() {
            ip::mark_congestion(&mut bytes[..ihl]);
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

    /// Bytes of one segment with its headers. A large message counts as its fragments, which fit any MTU.
    pub(crate) fn segment_len(&self) -> usize {
        if self.vnet.is_super() {
            return usize::from(self.meta.header) + usize::from(self.vnet.gso_size);
        }
        if self.meta.segments > 1 {
            0
        } else {
            self.len()
        }
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

/// The most segments of a super-packet: Linux creates none with less than 8 bytes of payload (`TCP_MIN_GSO_SIZE`),
/// and 65,535 bytes hold fewer than this. It bounds the cost of segmenting one frame of a neighbour.
pub(crate) const MAX_SEGMENTS: usize = 8_192;

/// Offset of the checksum in the TCP and UDP headers (RFC 9293, section 3.1; RFC 768).
pub(crate) const TCP_CHECKSUM: usize = 16;
pub(crate) const UDP_CHECKSUM: usize = 6;
const UDP_HEADER: usize = 8;
const UDP_LENGTH: usize = 4;

fn parse(bytes: &[u8], vnet: VnetHeader, mtu: u16) -> Result<(Meta, VnetHeader), PacketError> {
    let header = ip::parse(bytes)?;
    let (ihl, len) = (usize::from(header.header_len), usize::from(header.total_len));
    let transport = match header.protocol {
        _ if header.fragment => 0,
        ip::TCP => usize::from(bytes.get(ihl + 12).ok_or(PacketError::Malformed)? >> 4) * 4,
        ip::UDP | ip::ICMP => UDP_HEADER,
        _ => 0,
    };
    let all = ihl + transport;
    if all > len || (header.protocol == ip::TCP && !header.fragment && transport < 20) {
        return Err(PacketError::Malformed);
    }
    let vnet = checked_vnet(vnet, &header, all)?;
    let payload = len - all;
    let (segments, wire) = if vnet.is_super() {
        let segments = payload.div_ceil(usize::from(vnet.gso_size)).max(1);
        (segments, payload + segments * all)
    } else {
        ip::as_fragments(len, ihl, usize::from(mtu))
    };
    if segments > MAX_SEGMENTS {
        return Err(PacketError::BadSegmentation);
    }
    let meta = Meta {
        src: header.src,
        dst: header.dst,
        wire: wire as u32,
        total: header.total_len,
        segments: segments as u16,
        header: all as u16,
        ihl: ihl as u8,
        protocol: header.protocol,
        ttl: header.ttl,
        fragment: header.fragment,
    };
    Ok((meta, vnet))
}

/// Checks a virtio header against its packet and clears fields without meaning.
///
/// The checksum of a super-packet must be at the offset of its transport protocol, because the headers of all
/// segments are derived from the header of the super-packet (the kernel requires the same, `virtio_net_hdr_to_skb`).
/// An ordinary packet may encapsulate another one (a tunnel inside the node), so its checksum may be anywhere behind
/// the IP header.
fn checked_vnet(vnet: VnetHeader, header: &ip::Ipv4, all: usize) -> Result<VnetHeader, PacketError> {
    let (ihl, len) = (usize::from(header.header_len), usize::from(header.total_len));
    let (start, offset) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
    let mut checked =
        VnetHeader { flags: vnet.flags & (vnet::F_NEEDS_CSUM | vnet::F_DATA_VALID), ..VnetHeader::default() };
    if vnet.needs_checksum() {
        if start < ihl || start + offset + 2 > len {
            return Err(PacketError::Malformed);
        }
        (checked.csum_start, checked.csum_offset) = (vnet.csum_start, vnet.csum_offset);
    }
    if !vnet.is_super() {
        return Ok(checked);
    }
    let (gso_type, checksum) = match (vnet.kind(), header.protocol) {
        (vnet::GSO_TCPV4, ip::TCP) => (vnet.gso_type, TCP_CHECKSUM),
        (vnet::GSO_UDP_L4, ip::UDP) => (vnet::GSO_UDP_L4, UDP_CHECKSUM),
        _ => return Err(PacketError::BadSegmentation),
    };
    let elsewhere = vnet.needs_checksum() && (start, offset) != (ihl, checksum);
    if header.fragment || vnet.gso_size == 0 || elsewhere {
        return Err(PacketError::BadSegmentation);
    }
    Ok(VnetHeader { gso_type, gso_size: vnet.gso_size, hdr_len: all as u16, ..checked })
}
