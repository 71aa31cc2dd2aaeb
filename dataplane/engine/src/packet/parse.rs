//! Parse the headers of a packet, and check its virtio header against them.

use crate::vnet::{self, VnetHeader};
use crate::wire::header::IpHeader;
use crate::wire::{ip, ip6, PacketError};

/// The parsed header fields of a packet.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Meta {
    /// IPv4 addresses; 0 in IPv6.
    pub src: u32,
    pub dst: u32,
    /// Bytes of the payload plus the headers of every segment.
    pub wire: u32,
    /// Length of the IP packet (RFC 791, RFC 8200) in bytes; bytes behind it in the buffer are padding.
    pub total: u16,
    /// MTU segments, at most [`MAX_SEGMENTS`].
    pub segments: u16,
    /// IP and transport header bytes.
    pub header: u16,
    /// Offset of the transport header: IP header bytes, those of extension headers included; 0 means not parsed yet.
    pub ihl: u8,
    pub protocol: u8,
    pub ttl: u8,
    /// Set when the packet is a fragment: more fragments follow, or its fragment offset is not zero.
    pub fragment: bool,
    /// Whether it is an IPv6 packet.
    pub v6: bool,
}

impl Meta {
    /// Bytes of the IP header that hops change.
    pub(super) const fn own_header(&self) -> usize {
        if self.v6 {
            ip6::HEADER
        } else {
            self.ihl as usize
        }
    }
}

/// Offset of the checksum in the TCP and UDP headers (RFC 9293, section 3.1; RFC 768).
pub(crate) const TCP_CHECKSUM: usize = 16;
pub(crate) const UDP_CHECKSUM: usize = 6;

/// The most segments of a super-packet: Linux creates none with less than 8 bytes of payload (`TCP_MIN_GSO_SIZE`),
/// and 65,535 bytes hold fewer than this. It bounds the cost of segmenting one frame of a neighbour.
pub(super) const MAX_SEGMENTS: usize = 8_192;

const UDP_HEADER: usize = 8;
/// Type, code and checksum: all that every message has (RFC 4443, section 2.1).
const ICMP6_HEADER: usize = 4;

pub(super) fn parse(bytes: &[u8], vnet: VnetHeader, mtu: u16) -> Result<(Meta, VnetHeader), PacketError> {
    let header = ip::parse(bytes)?;
    let (ihl, len) = (usize::from(header.header_len), usize::from(header.total_len));
    let transport = match header.protocol {
        _ if header.fragment => 0,
        ip::TCP => usize::from(bytes.get(ihl + 12).ok_or(PacketError::Malformed)? >> 4) * 4,
        ip::UDP => UDP_HEADER,
        ip::ICMP if !header.v6 => UDP_HEADER,
        ip6::ICMP if header.v6 => ICMP6_HEADER,
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
    } else if is_message(bytes, &header) {
        ip::as_fragments(len, ihl, usize::from(mtu))
    } else {
        (1, len)
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
        v6: header.v6,
    };
    Ok((meta, vnet))
}

/// Whether a packet is one that engines build: a datagram that may be fragmented and has no identification, which
/// kernels give to every packet of theirs that may be.
fn is_message(bytes: &[u8], header: &IpHeader) -> bool {
    header.protocol == ip::UDP && !header.v6 && bytes[4..8] == [0; 4]
}

/// Checks a virtio header against its packet and clears fields without meaning.
///
/// The checksum of a super-packet must be at the offset of its transport protocol, because the headers of all
/// segments are derived from the header of the super-packet (the kernel requires the same, `virtio_net_hdr_to_skb`).
/// An ordinary packet may encapsulate another one (a tunnel inside the node), so its checksum may be anywhere behind
/// the IP header.
fn checked_vnet(vnet: VnetHeader, header: &IpHeader, all: usize) -> Result<VnetHeader, PacketError> {
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
        (vnet::GSO_TCPV4, ip::TCP) if !header.v6 => (vnet.gso_type, TCP_CHECKSUM),
        (vnet::GSO_TCPV6, ip::TCP) if header.v6 => (vnet.gso_type, TCP_CHECKSUM),
        (vnet::GSO_UDP_L4, ip::UDP) => (vnet::GSO_UDP_L4, UDP_CHECKSUM),
        _ => return Err(PacketError::BadSegmentation),
    };
    let elsewhere = vnet.needs_checksum() && (start, offset) != (ihl, checksum);
    if header.fragment || vnet.gso_size == 0 || elsewhere {
        return Err(PacketError::BadSegmentation);
    }
    Ok(VnetHeader { gso_type, gso_size: vnet.gso_size, hdr_len: all as u16, ..checked })
}
