//! Segmentation of super-packets: runs of segments for links, single segments for readers without offload.
//!
//! The result equals that of the kernel or a network card, field by field (Linux,
//! Documentation/networking/segmentation-offloads.rst): lengths, IP identification, TCP sequence number, flags of the
//! first or the last segment only, and checksums.

mod fragment;
mod join;
mod wire_form;

pub(crate) use self::fragment::fragment;
pub use self::join::Run;
pub use self::wire_form::append_segment;

use crate::packet::{Packet, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pool::Pool;
use crate::vnet::{self, VnetHeader};
use crate::wire::{checksum, ip, ip6};
use crate::{PROBE_PORT, SESSION_PORT};

const TCP_FIN_PSH: u8 = 0x01 | 0x08;
const TCP_CWR: u8 = 0x80;
/// Offset of the flags in the TCP header (RFC 9293, section 3.1).
const TCP_FLAGS: usize = 13;
/// Offset of the checksum in the ICMP header (RFC 792, RFC 4443).
const ICMP_CHECKSUM: usize = 2;
/// Offset of the length in the UDP header (RFC 768).
const UDP_LENGTH: usize = 4;

/// Segments `first .. first + count` of a super-packet as a separate packet.
///
/// Several segments stay a super-packet with a partial checksum; a single one is an ordinary packet. The packet must
/// have been parsed and must contain these segments.
#[must_use]
pub fn cut(packet: &Packet, first: u32, count: u32, pool: &mut Pool) -> Packet {
    let meta = packet.meta();
    let (header, ihl) = (usize::from(meta.header), usize::from(meta.ihl));
    let size = usize::from(packet.vnet().gso_size);
    let payload = packet.payload();
    let start = first as usize * size;
    let end = payload.len().min(start + count as usize * size);
    let len = header + end - start;

    let mut run = pool.get_for(len);
    let vnet = run_vnet(packet.vnet(), first, count);
    let at = crate::HEADROOM;
    if let Some(storage) = run.storage_mut() {
        let out = &mut storage[at..at + len];
        out[..header].copy_from_slice(&packet.bytes()[..header]);
        out[header..].copy_from_slice(&payload[start..end]);
        patch_ip(&mut out[..ihl], first, len);
        if meta.protocol == ip::TCP {
            patch_tcp(&mut out[ihl..], first, start, end == payload.len());
        } else {
            patch_udp(&mut out[ihl..]);
        }
        patch_checksum(out, ihl, meta.protocol, packet.vnet().needs_checksum());
    }
    run.set_frame(at, len, vnet);
    let parsed = run.parse(u16::MAX);
    debug_assert_eq!(parsed, Ok(()), "the headers were checked when the super-packet was parsed");
    run.copy_path_from(packet);
    run
}

/// Whether a packet must be segmented, or its checksum completed, for a reader without offload.
#[must_use]
pub fn needs_work(packet: &Packet) -> bool {
    packet.vnet().is_super() || packet.vnet().needs_checksum()
}

/// Segments a packet into ordinary packets with complete checksums, for a reader without offload.
///
/// An ordinary packet is passed on unchanged. The packet must have been parsed. Each segment is passed to `out`
/// before the next one is created, so that a reader that returns the buffers needs one at a time.
pub fn segment(packet: Packet, pool: &mut Pool, mut out: impl FnMut(Packet, &mut Pool)) {
    if !packet.vnet().is_super() {
        let whole = complete_checksum(packet, pool);
        return out(whole, pool);
    }
    for index in 0..packet.segments() {
        let piece = cut(&packet, index, 1, pool);
        let piece = complete_checksum(piece, pool);
        out(piece, pool);
    }
    pool.put(packet);
}

/// Completes the transport checksum of an ordinary packet, if it is partial.
#[must_use]
pub fn complete_checksum(packet: Packet, pool: &mut Pool) -> Packet {
    let vnet = packet.vnet();
    if !vnet.needs_checksum() || vnet.is_super() {
        return packet;
    }
    let mut packet = own(packet, pool);
    let start = usize::from(vnet.csum_start);
    let at = start + usize::from(vnet.csum_offset);
    let udp = packet.meta().protocol == ip::UDP;
    if let Some(bytes) = packet.bytes_mut() {
        let value = checksum::of(&bytes[start..]);
        let value = if udp { as_udp(value) } else { value };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    packet.set_vnet(VnetHeader::default());
    packet
}

/// Flips one bit of the payload, in a buffer of the packet's own. `choice` are random bits that select it.
///
/// The flip happens behind the sender, so the transport checksum is completed before it, and the receiver finds it
/// wrong. Packets of sessions and probes have no checksum inside the testbed, where only this function damages packets; they get
/// one here. In a packet without payload a bit of the transport checksum is flipped. A packet with neither is not
/// changed. The packet must have been parsed, and be no super-packet.
#[must_use]
pub(crate) fn flip_bit(packet: Packet, choice: u32, pool: &mut Pool) -> Packet {
    let mut packet = own(complete_checksum(packet, pool), pool);
    let meta = *packet.meta();
    let (ihl, header, len) = (usize::from(meta.ihl), usize::from(meta.header), packet.len());
    let ours = [(SESSION_PORT, SESSION_PORT), (PROBE_PORT, PROBE_PORT)];
    let ours = meta.protocol == ip::UDP && ours.contains(&packet.ports());
    let checksum = ihl + checksum_offset(meta.protocol);
    // Payload, or else the checksum.
    let (start, end) = match header {
        _ if header < len => (header, len),
        _ if header > ihl => (checksum, checksum + 2),
        _ => return packet,
    };
    if let Some(bytes) = packet.bytes_mut() {
        if ours && bytes[checksum..checksum + 2] == [0, 0] {
            bytes[checksum] = 0xff;
            patch_checksum(bytes, ihl, ip::UDP, false);
        }
        let bit = choice as usize % ((end - start) * 8);
        bytes[start + bit / 8] ^= 1 << (bit % 8);
    }
    // Also when the previous stage had verified the checksum.
    packet.set_vnet(VnetHeader::default());
    packet
}

/// Whether the checksum of a UDP datagram is right. A partial one, one that was verified before, and none at all are.
/// The packet must have been parsed, and end with the datagram.
#[must_use]
pub(crate) fn has_good_checksum(packet: &Packet) -> bool {
    let (ihl, bytes) = (usize::from(packet.meta().ihl), packet.bytes());
    if packet.vnet() != VnetHeader::default() || bytes[ihl + UDP_CHECKSUM..][..2] == [0, 0] {
        return true;
    }
    let pseudo = checksum::pseudo_header_of(bytes, ip::UDP, (bytes.len() - ihl) as u16);
    checksum::finish(checksum::sum(&bytes[ihl..], pseudo)) == 0
}

/// Offset of the checksum in the header of a transport protocol.
const fn checksum_offset(protocol: u8) -> usize {
    match protocol {
        ip::TCP => TCP_CHECKSUM,
        ip::ICMP | ip6::ICMP => ICMP_CHECKSUM,
        _ => UDP_CHECKSUM,
    }
}

pub(crate) fn own(mut packet: Packet, pool: &mut Pool) -> Packet {
    if packet.bytes_mut().is_some() {
        return packet;
    }
    let copy = pool.copy(&packet);
    pool.put(packet);
    copy
}

fn run_vnet(vnet: VnetHeader, first: u32, count: u32) -> VnetHeader {
    if count == 1 {
        return VnetHeader { gso_type: vnet::GSO_NONE, gso_size: 0, ..vnet };
    }
    let gso_type = if first == 0 { vnet.gso_type } else { vnet.kind() };
    VnetHeader { gso_type, ..vnet }
}

fn patch_ip(header: &mut [u8], first: u32, len: usize) {
    if ip::is_v6(header) {
        header[4..6].copy_from_slice(&((len - ip6::HEADER) as u16).to_be_bytes());
        return;
    }
    header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(first as u16);
    header[4..6].copy_from_slice(&id.to_be_bytes());
    ip::write_checksum(header);
}

fn patch_tcp(transport: &mut [u8], first: u32, start: usize, last: bool) {
    let seq = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
    transport[4..8].copy_from_slice(&seq.wrapping_add(start as u32).to_be_bytes());
    if !last {
        transport[TCP_FLAGS] &= !TCP_FIN_PSH;
    }
    if first > 0 {
        transport[TCP_FLAGS] &= !TCP_CWR;
    }
}

fn patch_udp(transport: &mut [u8]) {
    let length = transport.len() as u16;
    transport[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
}

/// Writes the pseudo-header sum of the new length where the checksum is partial, or the complete checksum where that
/// of the super-packet was complete. A UDP packet without a checksum stays without one.
fn patch_checksum(packet: &mut [u8], ihl: usize, protocol: u8, partial: bool) {
    let offset = ihl + checksum_offset(protocol);
    if protocol == ip::UDP && !partial && packet[offset..offset + 2] == [0, 0] {
        return;
    }
    let pseudo = checksum::pseudo_header_of(packet, protocol, (packet.len() - ihl) as u16);
    let value = if partial {
        checksum::fold(pseudo)
    } else {
        packet[offset..offset + 2].fill(0);
        let value = checksum::finish(checksum::sum(&packet[ihl..], pseudo));
        if protocol == ip::UDP {
            as_udp(value)
        } else {
            value
        }
    };
    packet[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// A computed zero is sent as all ones, since zero means "no checksum" (RFC 768).
const fn as_udp(value: u16) -> u16 {
    if value == 0 {
        0xffff
    } else {
        value
    }
}

#[cfg(test)]
mod tests;
