//! The IPv4 header (RFC 791), and what both versions have.

use super::header::{IpHeader, OUR_TTL};
use super::{checksum, ip6, PacketError};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Bytes of a header without options.
pub(crate) const HEADER: usize = 20;
/// Offset of the former type of service: DSCP in the upper six bits, ECN in the lower two (RFC 3168, section 5).
pub(crate) const TOS: usize = 1;
/// Both bits of the ECN field.
pub(crate) const CONGESTION_EXPERIENCED: u8 = 3;

/// Reads the header of either version. Fails when the packet is neither or its lengths contradict each other.
pub(crate) fn parse(bytes: &[u8]) -> Result<IpHeader, PacketError> {
    let Some(&first) = bytes.first() else {
        return Err(PacketError::Malformed);
    };
    match first >> 4 {
        4 => {}
        6 => return ip6::parse(bytes),
        _ => return Err(PacketError::NotIp),
    }
    let Some(head) = bytes.first_chunk::<HEADER>() else {
        return Err(PacketError::Malformed);
    };
    let header_len = usize::from(first & 15) * 4;
    let total_len = u16::from_be_bytes([head[2], head[3]]);
    if header_len < HEADER || usize::from(total_len) < header_len || usize::from(total_len) > bytes.len() {
        return Err(PacketError::Malformed);
    }
    Ok(IpHeader {
        src: u32::from_be_bytes([head[12], head[13], head[14], head[15]]),
        dst: u32::from_be_bytes([head[16], head[17], head[18], head[19]]),
        header_len: header_len as u8,
        total_len,
        protocol: head[9],
        ttl: head[8],
        fragment: u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0,
        v6: false,
    })
}

/// Writes a 20-byte header with its checksum in front of `total_len - 20` bytes.
pub(crate) fn emit(out: &mut [u8], src: u32, dst: u32, protocol: u8, total_len: u16) {
    out[..HEADER].fill(0);
    out[0] = 0x45;
    out[2..4].copy_from_slice(&total_len.to_be_bytes());
    out[8] = OUR_TTL;
    out[9] = protocol;
    out[12..16].copy_from_slice(&src.to_be_bytes());
    out[16..20].copy_from_slice(&dst.to_be_bytes());
    write_checksum(&mut out[..HEADER]);
}

/// Computes the checksum of the header.
pub(crate) fn write_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let value = checksum::of(header);
    header[10..12].copy_from_slice(&value.to_be_bytes());
}

/// Whether the header is one of IPv6.
pub(crate) const fn is_v6(header: &[u8]) -> bool {
    header[0] >> 4 == 6
}

/// The two bits of the ECN field (RFC 3168), of either version.
pub(crate) fn ecn(header: &[u8]) -> u8 {
    if is_v6(header) {
        ip6::ecn(header)
    } else {
        header[TOS] & CONGESTION_EXPERIENCED
    }
}

/// The differentiated services code point (RFC 2474), of either version.
pub(crate) fn dscp(header: &[u8]) -> u8 {
    if is_v6(header) {
        ip6::dscp(header)
    } else {
        header[TOS] >> 2
    }
}

/// Reduces the TTL by `spent` and updates the checksum (RFC 1624), or the hop limit of IPv6, which has none.
pub(crate) fn reduce_ttl(header: &mut [u8], spent: u8) {
    if is_v6(header) {
        header[ip6::HOP_LIMIT] = header[ip6::HOP_LIMIT].saturating_sub(spent);
        return;
    }
    let old = u16::from_be_bytes([header[8], header[9]]);
    header[8] = header[8].saturating_sub(spent);
    let new = u16::from_be_bytes([header[8], header[9]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&checksum::update(sum, old, new).to_be_bytes());
}

/// Sets the ECN field to "congestion experienced" and updates the checksum (RFC 1624).
pub(crate) fn mark_congestion(header: &mut [u8]) {
    if is_v6(header) {
        return ip6::mark_congestion(header);
    }
    let old = u16::from_be_bytes([header[0], header[TOS]]);
    header[TOS] |= CONGESTION_EXPERIENCED;
    let new = u16::from_be_bytes([header[0], header[TOS]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&checksum::update(sum, old, new).to_be_bytes());
}

/// The number of fragments of a packet that exceeds the MTU, whose payloads are multiples of 8 bytes (RFC 791), and
/// the sum of their lengths in bytes.
pub(crate) fn as_fragments(len: usize, ihl: usize, mtu: usize) -> (usize, usize) {
    let room = mtu.saturating_sub(ihl) & !7;
    if len <= mtu || room == 0 {
        return (1, len);
    }
    let fragments = (len - ihl).div_ceil(room);
    (fragments, len + (fragments - 1) * ihl)
}
