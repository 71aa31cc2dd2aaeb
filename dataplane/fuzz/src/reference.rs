//! A slow and simple reference implementation of segmentation, on complete byte vectors; written from the RFCs and
//! from Linux' segmentation-offloads.rst, without code of the engine.

use nm_engine::vnet::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
use nm_engine::VnetHeader;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// All packets that a valid packet or super-packet is segmented into, with complete checksums.
pub(crate) fn segments(packet: &[u8], vnet: VnetHeader) -> Vec<Vec<u8>> {
    if !vnet.is_super() {
        return vec![completed(packet, vnet)];
    }
    let (ihl, _) = transport(packet);
    let tcp = vnet.kind() == if is_v6(packet) { GSO_TCPV6 } else { GSO_TCPV4 };
    assert!(tcp || vnet.kind() == GSO_UDP_L4, "no other kind is carried");
    let header = ihl
        + if tcp {
            usize::from(packet[ihl + 12] >> 4) * 4
        } else {
            8
        };
    let payload = &packet[header..];
    let size = usize::from(vnet.gso_size);
    let count = payload.len().div_ceil(size).max(1);
    (0..count)
        .map(|index| {
            let start = index * size;
            let end = payload.len().min(start + size);
            let mut piece = packet[..header].to_vec();
            piece.extend_from_slice(&payload[start..end]);
            let (len, last) = (piece.len(), index + 1 == count);
            if is_v6(&piece) {
                put(&mut piece, 4, (len - 40) as u16);
            } else {
                put(&mut piece, 2, len as u16);
                let id = word(&piece, 4).wrapping_add(index as u16);
                put(&mut piece, 4, id);
                put(&mut piece, 10, 0);
                let sum = !sum(&piece[..ihl]);
                put(&mut piece, 10, sum);
            }
            if tcp {
                let seq = u32::from_be_bytes([
                    piece[ihl + 4],
                    piece[ihl + 5],
                    piece[ihl + 6],
                    piece[ihl + 7],
                ]);
                let seq = seq.wrapping_add(start as u32);
                piece[ihl + 4..ihl + 8].copy_from_slice(&seq.to_be_bytes());
                // FIN and PSH belong to the last segment, CWR to the first.
                piece[ihl + 13] &=
                    if last { 0xff } else { !0x09 } & if index == 0 { 0xff } else { !0x80 };
            } else {
                put(&mut piece, ihl + 4, (len - ihl) as u16);
            }
            let at = ihl + if tcp { 16 } else { 6 };
            if tcp || vnet.needs_checksum() || word(&piece, at) != 0 {
                let value = transport_checksum(&mut piece, ihl, at);
                put(
                    &mut piece,
                    at,
                    if !tcp && value == 0 { 0xffff } else { value },
                );
            }
            piece
        })
        .collect()
}

/// The transport checksum of a complete TCP or UDP packet, over the pseudo-header and everything behind the IP
/// header.
fn transport_checksum(packet: &mut [u8], ihl: usize, at: usize) -> u16 {
    put(packet, at, 0);
    let addresses = if is_v6(packet) { 8..40 } else { 12..20 };
    let mut region = packet[addresses].to_vec();
    region.extend_from_slice(&[0, transport(packet).1]);
    region.extend_from_slice(&((packet.len() - ihl) as u16).to_be_bytes());
    region.extend_from_slice(&packet[ihl..]);
    !sum(&region)
}

/// Whether the checksum of a TCP or UDP packet is absent or correct.
pub(crate) fn is_checksum_right(packet: &[u8]) -> bool {
    let (ihl, protocol) = transport(packet);
    let at = ihl + if protocol == TCP { 16 } else { 6 };
    let mut again = packet.to_vec();
    let value = transport_checksum(&mut again, ihl, at);
    word(packet, at)
        == if protocol == UDP && value == 0 {
            0xffff
        } else {
            value
        }
}

/// An ordinary packet; an incomplete checksum is computed over everything from `csum_start` on.
fn completed(packet: &[u8], vnet: VnetHeader) -> Vec<u8> {
    let mut completed = packet.to_vec();
    if vnet.needs_checksum() {
        let start = usize::from(vnet.csum_start);
        let value = !sum(&completed[start..]);
        let value = if transport(packet).1 == UDP && value == 0 {
            0xffff
        } else {
            value
        };
        put(&mut completed, start + usize::from(vnet.csum_offset), value);
    }
    completed
}

pub(crate) fn is_v6(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6
}

/// Offset and protocol of the transport header of a valid packet; for IPv6 behind at most 8 extension headers in 255
/// bytes, and not behind a fragment header.
pub(crate) fn transport(packet: &[u8]) -> (usize, u8) {
    if !is_v6(packet) {
        return (usize::from(packet[0] & 15) * 4, packet[9]);
    }
    let (mut at, mut next) = (40, packet[6]);
    for _ in 0..8 {
        let length = match next {
            0 | 43 | 60 => 8 * (usize::from(packet[at + 1]) + 1),
            51 => 4 * (usize::from(packet[at + 1]) + 2),
            44 => 8,
            _ => break,
        };
        if at + length > 255 {
            break;
        }
        let fragment = next == 44 && word(packet, at + 2) & 0xfff9 != 0;
        next = packet[at];
        at += length;
        if fragment {
            break;
        }
    }
    (at, next)
}

/// The ones' complement sum of 16-bit words (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet with consistent headers.
pub(crate) struct Shape {
    pub v6: bool,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub protocol: u8,
    pub ttl: u8,
    /// 32-bit words of IPv4 and TCP options, or units of 8 bytes of IPv6 destination options.
    pub ip_options: usize,
    pub tcp_options: usize,
    pub flags_and_offset: u16,
    pub ports: [u16; 2],
    pub payload: usize,
}

impl Shape {
    /// Bytes in front of the transport header.
    pub(crate) fn header(&self) -> usize {
        match self.v6 {
            true => 40 + 8 * self.ip_options + if self.is_fragment() { 8 } else { 0 },
            false => 20 + 4 * self.ip_options,
        }
    }

    fn is_fragment(&self) -> bool {
        self.flags_and_offset & 0x3fff != 0
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let ihl = self.header();
        let transport = match self.protocol {
            TCP => 20 + 4 * self.tcp_options,
            UDP | 1 => 8,
            _ => 0,
        };
        let payload = self.payload.min(65_535 - ihl - transport);
        let mut out = vec![1u8; ihl + transport];
        out.extend((0..payload).map(|at| (at * 31 + (at >> 8)) as u8));
        let len = out.len();
        if self.v6 {
            self.write_v6(&mut out);
        } else {
            out[0] = 0x40 | (ihl / 4) as u8;
            out[1] = 0;
            put(&mut out, 2, len as u16);
            put(&mut out, 4, 0x4242);
            put(&mut out, 6, self.flags_and_offset);
            (out[8], out[9]) = (self.ttl, self.protocol);
            put(&mut out, 10, 0);
            out[12..16].copy_from_slice(&self.src);
            out[16..20].copy_from_slice(&self.dst);
            let value = !sum(&out[..ihl]);
            put(&mut out, 10, value);
        }
        if matches!(self.protocol, TCP | UDP) {
            put(&mut out, ihl, self.ports[0]);
            put(&mut out, ihl + 2, self.ports[1]);
        }
        match self.protocol {
            TCP => out[ihl + 12] = ((transport / 4) as u8) << 4,
            UDP => put(&mut out, ihl + 4, (len - ihl) as u16),
            1 => out[ihl] = 8,
            _ => {}
        }
        out
    }

    fn write_v6(&self, out: &mut [u8]) {
        let payload = (out.len() - 40) as u16;
        out[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        put(out, 4, payload);
        out[7] = self.ttl;
        out[8..24].copy_from_slice(&address6(self.src));
        out[24..40].copy_from_slice(&address6(self.dst));
        let (mut link, mut at) = (6, 40);
        if self.ip_options > 0 {
            out[link] = 60;
            out[at + 1] = self.ip_options as u8 - 1;
            (link, at) = (at, at + 8 * self.ip_options);
        }
        if self.is_fragment() {
            out[link] = 44;
            let offset = (self.flags_and_offset & 0x1fff) << 3;
            put(
                out,
                at + 2,
                offset | u16::from(self.flags_and_offset & 0x2000 != 0),
            );
            link = at;
        }
        out[link] = self.protocol;
    }
}

/// The IPv6 address that stands for an IPv4 one: of a node of [`BASE6`], of a multicast group, or of nobody.
fn address6(address: [u8; 4]) -> [u8; 16] {
    let number = u32::from_be_bytes(address);
    match address {
        [0, 0, 0, 0] => 0,
        [224..=255, ..] => 0xff02 << 112 | u128::from(number),
        _ => BASE6 + u128::from(number.wrapping_sub(0x0a00_0000)),
    }
    .to_be_bytes()
}

/// The address of node 0.
pub(crate) const BASE6: u128 = 0xfd00_0001 << 96;

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
