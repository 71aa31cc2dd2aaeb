//! Fragmentation of IPv4 packets for a link with a smaller MTU (RFC 791, section 3.2).

use super::{complete_checksum, segment};
use crate::packet::Packet;
use crate::pool::Pool;
use crate::vnet::VnetHeader;
use crate::wire::ip;

/// Offset of flags and fragment offset, and these fields.
const FLAGS: usize = 6;
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Fragment offsets count units of 8 bytes.
const UNIT: usize = 8;
/// In the type of an option: it is copied into every fragment. Two types have no length: the end of the list, and no
/// operation.
const COPIED: u8 = 0x80;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes and passes each to `out`; a super-packet first into its
/// segments, of which those that fit stay whole. Checksums are completed before.
///
/// The packet must have been parsed, and be one that routers may fragment. False, and nothing is passed on, when no
/// payload fits beside its header.
pub(crate) fn fragment(packet: Packet, mtu: u16, pool: &mut Pool, mut out: impl FnMut(Packet)) -> bool {
    let header = usize::from(packet.meta().ihl);
    let most = usize::from(mtu).saturating_sub(header) / UNIT * UNIT;
    if most == 0 {
        pool.put(packet);
        return false;
    }
    segment(packet, pool, |piece, pool| {
        let piece = complete_checksum(piece, pool);
        if piece.len() <= usize::from(mtu) {
            return out(piece);
        }
        let chunks = piece.bytes()[header..].chunks(most);
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.enumerate() {
            if let Some(part) = part(&piece, chunk, index * most, index == last, pool) {
                out(part);
            }
        }
        pool.put(piece);
    });
    true
}

/// The fragment with the bytes `chunk`, which begin `start` bytes behind the header of `whole`.
fn part(whole: &Packet, chunk: &[u8], start: usize, last: bool, pool: &mut Pool) -> Option<Packet> {
    let header = usize::from(whole.meta().ihl);
    let len = header + chunk.len();
    let mut part = pool.get_for(len);
    let at = crate::HEADROOM;
    let bytes = part.storage_mut()?.get_mut(at..at + len)?;
    bytes[..header].copy_from_slice(&whole.bytes()[..header]);
    bytes[header..].copy_from_slice(chunk);
    bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    // The whole may be a fragment itself.
    let field = u16::from_be_bytes([bytes[FLAGS], bytes[FLAGS + 1]]);
    let offset = (field & OFFSET) + (start / UNIT) as u16;
    let more = if last { field & MORE } else { MORE };
    bytes[FLAGS..FLAGS + 2].copy_from_slice(&(offset & OFFSET | more).to_be_bytes());
    if start > 0 {
        blank_options(&mut bytes[ip::HEADER..header]);
    }
    ip::write_checksum(&mut bytes[..header]);
    part.set_frame(at, len, VnetHeader::default());
    let parsed = part.parse(u16::MAX);
    debug_assert_eq!(parsed, Ok(()), "the header was checked when the packet was parsed");
    part.copy_path_from(whole);
    Some(part)
}

/// Replaces the options that only the first fragment has.
fn blank_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            END => return,
            NO_OPERATION => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)),
        };
        if len == 0 || at + len > options.len() {
            return; // malformed, and not understood by anybody else either
        }
        if kind & COPIED == 0 {
            options[at..at + len].fill(NO_OPERATION);
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pool: &mut Pool, options: &[u8], field: u16, payload: usize) -> Packet {
        let header = ip::HEADER + options.len();
        let mut bytes = vec![0; header + payload];
        let len = bytes.len() as u16;
        ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0003, 99, len);
        bytes[0] = 0x40 | (header / 4) as u8;
        bytes[4..6].copy_from_slice(&[0x12, 0x34]);
        bytes[FLAGS..FLAGS + 2].copy_from_slice(&field.to_be_bytes());
        bytes[ip::HEADER..header].copy_from_slice(options);
        for (index, byte) in bytes[header..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        ip::write_checksum(&mut bytes[..header]);
        let mut packet = pool.get_for(bytes.len());
        packet.fill(&bytes, VnetHeader::default()).expect("it fits");
        packet.parse(u16::MAX).expect("valid");
        packet
    }

    fn fragments(packet: Packet, mtu: u16, pool: &mut Pool) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        fragment(packet, mtu, pool, |part| parts.push(part.bytes().to_vec()));
        parts
    }

    fn field(part: &[u8]) -> (u16, bool) {
        let field = u16::from_be_bytes([part[FLAGS], part[FLAGS + 1]]);
        (field & OFFSET, field & MORE != 0)
    }

    #[test]
    fn fragments_together_have_the_payload_at_offsets_of_eight_bytes() {
        let mut pool = Pool::standalone();
        let whole = packet(&mut pool, &[], 0, 1_000);
        let parts = fragments(whole, 100, &mut pool);
        assert_eq!(parts.len(), 13); // 80 bytes fit into each, 40 remain
        let mut payload = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            assert!(part.len() <= 100);
            assert_eq!(field(part), (index as u16 * 10, index < 12));
            assert_eq!(part[4..6], [0x12, 0x34]);
            assert_eq!(crate::wire::checksum::of(&part[..20]), 0);
            assert_eq!(usize::from(u16::from_be_bytes([part[2], part[3]])), part.len());
            payload.extend_from_slice(&part[20..]);
        }
        assert!(payload.iter().enumerate().all(|(index, &byte)| byte == index as u8));
        assert_eq!(payload.len(), 1_000);
    }

    #[test]
    fn a_fragment_is_fragmented_again_at_its_own_offset() {
        let mut pool = Pool::standalone();
        for (more, ends) in [(MORE, true), (0, false)] {
            let middle = packet(&mut pool, &[], more | 50, 200);
            let parts = fragments(middle, 120, &mut pool);
            let fields: Vec<_> = parts.iter().map(|part| field(part)).collect();
            assert_eq!(fields, [(50, true), (62, true), (74, ends)]);
        }
    }

    #[test]
    fn only_the_first_fragment_has_the_options_that_are_not_copied() {
        let mut pool = Pool::standalone();
        // Record route (7, not copied), no operation, router alert (148, copied).
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
        let parts = fragments(packet(&mut pool, &options, 0, 100), 80, &mut pool);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0][20..32], options);
        assert_eq!(parts[1][20..32], [1, 1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0]);
        assert_eq!(crate::wire::checksum::of(&parts[1][..32]), 0);
        // Lengths of zero and beyond the header are left alone.
        for bad in [[7, 0, 0, 0], [7, 9, 0, 0]] {
            let parts = fragments(packet(&mut pool, &bad, 0, 100), 80, &mut pool);
            assert_eq!(parts[1][20..24], bad);
        }
    }

    #[test]
    fn a_packet_whose_header_fills_the_link_is_refused() {
        let mut pool = Pool::standalone();
        let whole = packet(&mut pool, &[], 0, 100);
        assert!(!fragment(whole, 27, &mut pool, |_| panic!("nothing fits")));
    }
}
