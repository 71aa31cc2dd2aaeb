//! The bytes around the payload of a flow, and the header fields of packets that the endpoint reads itself.

use std::net::Ipv4Addr;

/// The port at which destinations accept flows: Nextmini's `user_space_server_port`.
pub const FLOW_PORT: u16 = 8_888;

/// Length of the header in front of the payload, and of the answer.
pub(crate) const FRAME: usize = 16;

/// Begins header and answer; its last byte is the version.
const MAGIC: [u8; 8] = *b"nm-flow\x01";

/// A header or an answer.
pub(crate) fn frame(number: u64) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number in a header or an answer; `None` when it is neither.
pub(crate) fn number(bytes: &[u8; FRAME]) -> Option<u64> {
    let (magic, number) = bytes.split_at(8);
    (magic == MAGIC).then(|| u64::from_be_bytes(number.try_into().unwrap_or_default()))
}

const TCP: u8 = 6;
const ICMP: u8 = 1;

/// The connection that a packet belongs to, from the view of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    pub addr: Ipv4Addr,
    pub port: u16,
    pub local_port: u16,
}

/// What a packet is to the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A segment; `syn` when it opens a connection.
    Segment { peer: Peer, syn: bool },
    /// A router reports that the destination of a segment of ours is unreachable (ICMP type 3, codes 0 and 1).
    Unreachable(Peer),
    /// A router reports the MTU in bytes of a link that a segment of ours is too long for (ICMP type 3, code 4).
    TooBig(Peer, u16),
    /// Neither.
    Other,
}

/// Reads a packet to this node.
pub(crate) fn read(packet: &[u8]) -> Incoming {
    match ipv4(packet) {
        Some((TCP, src, _, body)) if body.len() >= 20 => {
            let peer = Peer { addr: src, port: word(body, 0), local_port: word(body, 2) };
            // SYN without ACK (RFC 9293, section 3.1).
            Incoming::Segment { peer, syn: body[13] & 0x12 == 0x02 }
        }
        Some((ICMP, _, _, body)) if body.len() >= 8 && body[0] == 3 => match ipv4(&body[8..]) {
            Some((TCP, _, dst, inner)) if inner.len() >= 4 => {
                let peer = Peer { addr: dst, port: word(inner, 2), local_port: word(inner, 0) };
                match body[1] {
                    0 | 1 => Incoming::Unreachable(peer),
                    4 => Incoming::TooBig(peer, word(body, 6)),
                    _ => Incoming::Other,
                }
            }
            _ => Incoming::Other,
        },
        _ => Incoming::Other,
    }
}

/// The fields of a segment that the congestion window needs; `payload` in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub seq: u32,
    pub payload: usize,
    pub syn: bool,
    pub fin: bool,
    pub ack: u32,
}

/// Reads a segment.
pub(crate) fn segment(packet: &[u8]) -> Option<Segment> {
    let (_, _, _, body) = ipv4(packet)?;
    if body.len() < 20 {
        return None;
    }
    let header = usize::from(body[12] >> 4) * 4;
    Some(Segment {
        seq: u32::from_be_bytes([body[4], body[5], body[6], body[7]]),
        payload: body.len().saturating_sub(header),
        syn: body[13] & 0x02 != 0,
        fin: body[13] & 0x01 != 0,
        ack: u32::from_be_bytes([body[8], body[9], body[10], body[11]]),
    })
}

/// Protocol, addresses and body of an IPv4 packet; the body may be cut, as in an ICMP error.
fn ipv4(packet: &[u8]) -> Option<(u8, Ipv4Addr, Ipv4Addr, &[u8])> {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let end = usize::from(word(packet, 2)).min(packet.len());
    let addr = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    Some((packet[9], addr(12), addr(16), packet.get(header..end)?))
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_other_bytes_are_none() {
        assert_eq!(number(&frame(u64::MAX - 7)), Some(u64::MAX - 7));
        assert_eq!(number(&[0; FRAME]), None);
    }

    #[test]
    fn short_and_foreign_packets_are_nothing_to_the_endpoint() {
        for len in 0..64 {
            for first in [0u8, 0x45, 0x4f, 0x60] {
                let mut packet = vec![0; len];
                if let Some(byte) = packet.first_mut() {
                    *byte = first;
                }
                if len > 9 {
                    packet[9] = TCP;
                }
                let _ = (read(&packet), segment(&packet));
            }
        }
        assert_eq!(read(&[0x45; 19]), Incoming::Other);
    }
}
