//! Segments as they are on a wire, appended to a byte vector: for captures.

use super::{as_udp, checksum_offset, patch_checksum, patch_ip, patch_tcp, patch_udp};
use crate::packet::Packet;
use crate::wire::{checksum, ip};

/// Appends one segment of a packet with complete lengths and checksums, and the TTL with which it is sent here.
///
/// Segment 0 of an ordinary packet is the packet. A packet that no engine has parsed is appended unchanged.
pub fn append_segment(packet: &Packet, index: u32, out: &mut Vec<u8>) {
    let meta = packet.meta();
    let (header, ihl, at) = (usize::from(meta.header), usize::from(meta.ihl), out.len());
    let vnet = packet.vnet();
    if ihl == 0 {
        return out.extend_from_slice(packet.bytes());
    }
    if !vnet.is_super() {
        out.extend_from_slice(packet.bytes());
        let bytes = &mut out[at..];
        if vnet.needs_checksum() {
            let (start, field) =
                (usize::from(vnet.csum_start), usize::from(vnet.csum_start + vnet.csum_offset));
            let value = checksum::of(&bytes[start..]);
            let value = if meta.protocol == ip::UDP { as_udp(value) } else { value };
            bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
        }
        return reduce_ttl(packet, &mut bytes[..ihl]);
    }
    let (size, payload) = (usize::from(vnet.gso_size), packet.payload());
    let start = (index as usize * size).min(payload.len());
    let end = payload.len().min(start + size);
    out.extend_from_slice(&packet.bytes()[..header]);
    out.extend_from_slice(&payload[start..end]);
    let bytes = &mut out[at..];
    let len = bytes.len();
    patch_ip(&mut bytes[..ihl], index, len);
    if meta.protocol == ip::TCP {
        patch_tcp(&mut bytes[ihl..], index, start, end == payload.len());
    } else {
        patch_udp(&mut bytes[ihl..]);
    }
    // A zero is "no checksum" (RFC 768) only where none is to be completed.
    let field = ihl + checksum_offset(meta.protocol);
    let absent = meta.protocol == ip::UDP && !vnet.needs_checksum() && bytes[field..field + 2] == [0, 0];
    if !absent {
        bytes[field..field + 2].fill(0xff);
        patch_checksum(bytes, ihl, meta.protocol, false);
    }
    reduce_ttl(packet, &mut bytes[..ihl]);
}

fn reduce_ttl(packet: &Packet, header: &mut [u8]) {
    let spent = packet.meta().ttl - packet.remaining_ttl();
    if spent > 0 {
        ip::reduce_ttl(header, spent);
    }
}
