//! The Internet checksum (RFC 1071).

/// Adds bytes to a running sum, as big-endian 16-bit words; an odd last byte is the high byte.
///
/// Ones' complement addition does not depend on word size and byte order (RFC 1071, section 2). Words of 32 bits are
/// therefore added in the machine's byte order, which compilers vectorise, and only the result is folded and swapped.
#[must_use]
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes.chunks_exact(4);
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let native = |word: [u8; 4]| u64::from(u32::from_ne_bytes(word));
    let total: u64 = words.map(|word| native([word[0], word[1], word[2], word[3]])).sum();
    let folded = u16::from_be(fold_wide(total + native(last)) as u16);
    fold_wide(u64::from(start) + u64::from(folded))
}

/// Folds a sum and complements it: the checksum field of a header.
#[must_use]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    finish(sum(bytes, 0))
}

/// The sum of the TCP or UDP pseudo-header (RFC 9293, section 3.1; RFC 768).
#[must_use]
pub fn pseudo_header(src: u32, dst: u32, protocol: u8, transport_len: u16) -> u32 {
    let halves = |addr: u32| (addr >> 16) + (addr & 0xffff);
    halves(src) + halves(dst) + u32::from(protocol) + u32::from(transport_len)
}

/// The sum of the pseudo-header of a packet of either version with a valid header: RFC 8200, section 8.1, for IPv6.
#[must_use]
pub(crate) fn pseudo_header_of(packet: &[u8], protocol: u8, transport_len: u16) -> u32 {
    let addresses = if super::ip::is_v6(packet) { &packet[8..40] } else { &packet[12..20] };
    sum(addresses, u32::from(protocol) + u32::from(transport_len))
}

/// The new checksum after one 16-bit word changed from `old` to `new` (RFC 1624, eqn 3).
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish((!checksum) as u32 + (!old) as u32 + new as u32)
}

/// Folds carries until 16 bits are left.
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

const fn fold_wide(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold(sum as u32) as u32
}
