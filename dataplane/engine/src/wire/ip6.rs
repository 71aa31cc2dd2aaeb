//! The IPv6 header and its extension headers (RFC 8200).

use super::header::{IpHeader, OUR_TTL};
use super::PacketError;

/// Next header value of ICMPv6 (RFC 4443).
pub(crate) const ICMP: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Bytes of the header without extension headers.
pub(crate) const HEADER: usize = 40;
/// Offset of the hop limit.
pub(crate) const HOP_LIMIT: usize = 7;
/// Every link carries packets of this many bytes in one piece (RFC 8200, section 5).
pub(crate) const MIN_MTU: u16 = 1280;
/// The most extension headers that are followed. RFC 8200, section 4.1, has at most six different ones, of which the
/// destination options may come twice; a longer chain is forwarded without a look at its transport header.
const MAX_EXTENSIONS: usize = 8;
/// Bytes of the longest chain, with the header in front of it: the offset of the transport header is one byte.
const MAX_CHAIN: usize = u8::MAX as usize;
/// ECN in the second byte of the header, whose upper half ends the traffic class (RFC 3168, section 5).
const ECN: u8 = 0x30;

/// Reads the header and the extension headers. Fails when their lengths contradict the packet.
///
/// `header_len` is the offset of the transport header. Behind the first fragment of a packet, an unknown extension
/// header, or a chain that is too long, there is none to be read: `protocol` is then the number of that header.
pub(crate) fn parse(bytes: &[u8]) -> Result<IpHeader, PacketError> {
    let Some(head) = bytes.first_chunk::<HEADER>() else {
        return Err(PacketError::Malformed);
    };
    // A jumbogram (RFC 2675), whose stated length is zero, is too short here and is then refused by its transport.
    let total = HEADER + usize::from(u16::from_be_bytes([head[4], head[5]]));
    let total_len = u16::try_from(total).map_err(|_| PacketError::Malformed)?;
    let packet = bytes.get(..total).ok_or(PacketError::Malformed)?;
    let (mut next, mut at, mut fragment) = (head[6], HEADER, false);
    for _ in 0..MAX_EXTENSIONS {
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(*byte(packet, at + 1)?) + 1) * 8,
            AUTHENTICATION => (usize::from(*byte(packet, at + 1)?) + 2) * 4,
            FRAGMENT => 8,
            _ => break,
        };
        if packet.len() < at + len {
            return Err(PacketError::Malformed);
        }
        if at + len > MAX_CHAIN {
            break;
        }
        if next == FRAGMENT {
            // Offset and "more fragments"; an atomic fragment (RFC 6946) has neither and is a whole packet.
            fragment = u16::from_be_bytes([packet[at + 2], packet[at + 3]]) & 0xfff9 != 0;
        }
        next = packet[at];
        at += len;
        if fragment {
            break;
        }
    }
    Ok(IpHeader {
        src: 0,
        dst: 0,
        header_len: at as u8,
        total_len,
        protocol: next,
        ttl: head[HOP_LIMIT],
        fragment,
        v6: true,
    })
}

fn byte(packet: &[u8], at: usize) -> Result<&u8, PacketError> {
    packet.get(at).ok_or(PacketError::Malformed)
}

/// The source address of a parsed packet.
pub(crate) fn source(packet: &[u8]) -> u128 {
    address(packet, 8)
}

/// The destination address of a parsed packet.
pub(crate) fn destination(packet: &[u8]) -> u128 {
    address(packet, 24)
}

fn address(packet: &[u8], at: usize) -> u128 {
    packet.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

/// Whether an address is one of multicast (RFC 4291, section 2.7).
pub(crate) const fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// Writes a header in front of `payload_len` bytes.
pub(crate) fn emit(out: &mut [u8], src: u128, dst: u128, protocol: u8, payload_len: u16) {
    out[..HEADER].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&payload_len.to_be_bytes());
    out[6] = protocol;
    out[HOP_LIMIT] = OUR_TTL;
    out[8..24].copy_from_slice(&src.to_be_bytes());
    out[24..40].copy_from_slice(&dst.to_be_bytes());
}

/// The two bits of the ECN field.
pub(crate) fn ecn(header: &[u8]) -> u8 {
    (header[1] & ECN) >> 4
}

/// The differentiated services code point (RFC 2474).
pub(crate) fn dscp(header: &[u8]) -> u8 {
    (header[0] & 0x0f) << 2 | header[1] >> 6
}

/// Sets the ECN field to "congestion experienced".
pub(crate) fn mark_congestion(header: &mut [u8]) {
    header[1] |= ECN;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these extension headers (next header values and lengths in bytes) in front of `rest`.
    fn chain(extensions: &[(u8, usize)], last: u8, rest: usize) -> Vec<u8> {
        let total: usize = extensions.iter().map(|&(_, len)| len).sum();
        let mut packet = vec![0; HEADER + total + rest];
        emit(&mut packet, 1, 2, extensions.first().map_or(last, |first| first.0), (total + rest) as u16);
        let mut at = HEADER;
        for (index, &(kind, len)) in extensions.iter().enumerate() {
            packet[at] = extensions.get(index + 1).map_or(last, |next| next.0);
            packet[at + 1] = match kind {
                FRAGMENT => 0,
                AUTHENTICATION => (len / 4 - 2) as u8,
                _ => (len / 8 - 1) as u8,
            };
            at += len;
        }
        packet
    }

    #[test]
    fn extension_headers_are_followed_to_the_transport_header() {
        for (extensions, offset) in [
            (vec![], 40),
            (vec![(HOP_BY_HOP, 8), (ROUTING, 24)], 72),
            (vec![(AUTHENTICATION, 24), (DESTINATION_OPTIONS, 16)], 80),
            (vec![(FRAGMENT, 8)], 48),
        ] {
            let header = parse(&chain(&extensions, 17, 8)).expect("valid");
            assert_eq!((header.header_len, header.protocol, header.fragment), (offset, 17, false));
        }
    }

    #[test]
    fn a_chain_is_followed_so_far_and_no_further() {
        let long = parse(&chain(&[(DESTINATION_OPTIONS, 8); 9], 17, 8)).expect("valid");
        assert_eq!((long.header_len, long.protocol), (40 + 8 * 8, DESTINATION_OPTIONS));
        let wide = parse(&chain(&[(HOP_BY_HOP, 208), (ROUTING, 8)], 17, 8)).expect("valid");
        assert_eq!((wide.header_len, wide.protocol), (248, ROUTING));
    }

    #[test]
    fn fragments_have_no_transport_header_to_be_read() {
        for (field, fragment) in [([0, 1], true), ([0, 8], true), ([0xff, 0xf8], true), ([0, 6], false)] {
            let mut packet = chain(&[(FRAGMENT, 8), (DESTINATION_OPTIONS, 8)], 17, 8);
            packet[HEADER + 2..HEADER + 4].copy_from_slice(&field);
            let header = parse(&packet).expect("valid");
            assert_eq!(header.fragment, fragment, "{field:?}");
            assert_eq!(header.protocol, if fragment { DESTINATION_OPTIONS } else { 17 });
        }
    }

    #[test]
    fn lengths_that_exceed_the_packet_are_refused() {
        let good = chain(&[(HOP_BY_HOP, 16)], 17, 8);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "{cut}");
        }
        let mut beyond = good.clone();
        beyond[HEADER + 1] = 3;
        assert!(parse(&beyond).is_err());
        let mut largest = vec![0; 70_000];
        emit(&mut largest, 1, 2, 59, u16::MAX - 40);
        assert_eq!(parse(&largest).map(|header| header.total_len), Ok(u16::MAX));
        emit(&mut largest, 1, 2, 59, u16::MAX - 39);
        assert!(parse(&largest).is_err());
    }

    #[test]
    fn the_traffic_class_lies_across_two_bytes() {
        let mut packet = chain(&[], 17, 8);
        (packet[0], packet[1]) = (0x6b, 0x9f);
        assert_eq!((dscp(&packet), ecn(&packet)), (0b10_1110, 1));
        mark_congestion(&mut packet);
        assert_eq!((dscp(&packet), ecn(&packet), packet[1]), (0b10_1110, 3, 0xbf));
    }
}
