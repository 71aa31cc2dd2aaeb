//! The Internet checksum (RFC 1071), added up eight bytes at a time.

/// Adds bytes to a running sum, as big-endian 16-bit words; an odd last byte counts as the high half.
#[must_use]
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut total = u64::from(start);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_be_bytes([
            chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
        ]);
        // Ones' complement addition is the same for any word size (RFC 1071, section 2), so halves can be
        // added and folded at the end.
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    for pair in chunks.remainder().chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        total += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    fold_wide(total)
}

/// Folds a sum and complements it: the value that goes into a header.
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
