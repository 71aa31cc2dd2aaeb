//! The 10-byte header in front of every packet: `virtio_net_hdr` of the kernel.
//!
//! It states whether the packet is a super-packet (one header, many MTU segments) and whether its transport checksum
//! still has to be completed. Layout and constants: virtio 1.2, section 5.1.6.

/// The checksum at `csum_start + csum_offset` holds only the pseudo-header sum (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
pub const F_NEEDS_CSUM: u8 = 1;
/// The checksum was verified by the previous stage (`VIRTIO_NET_HDR_F_DATA_VALID`).
pub const F_DATA_VALID: u8 = 2;

/// Not a super-packet.
pub const GSO_NONE: u8 = 0;
/// A TCP over IPv4 super-packet.
pub const GSO_TCPV4: u8 = 1;
/// A TCP over IPv6 super-packet.
pub const GSO_TCPV6: u8 = 4;
/// A UDP super-packet: every `gso_size` bytes of payload are one datagram (USO).
pub const GSO_UDP_L4: u8 = 5;
/// Flag in the type: the TCP segments have the CWR flag (congestion window reduced, RFC 3168).
pub const GSO_ECN: u8 = 0x80;

/// The virtio network header, by value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`F_NEEDS_CSUM`], [`F_DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_*` constants, optionally with [`GSO_ECN`].
    pub gso_type: u8,
    /// Length of the IP and transport headers in bytes (a hint of the kernel; the engine computes it).
    pub hdr_len: u16,
    /// Payload bytes of one segment.
    pub gso_size: u16,
    /// Offset of the checksummed region from the start of the IP packet, in bytes.
    pub csum_start: u16,
    /// Offset of the checksum from `csum_start`, in bytes.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Length of the header in bytes.
    pub const LEN: usize = 10;

    /// Reads the header from its little-endian form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    /// Writes the header in its little-endian form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        bytes
    }

    /// The type without the ECN bit.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.gso_type & !GSO_ECN
    }

    /// Whether the packet is a super-packet.
    #[must_use]
    pub const fn is_super(self) -> bool {
        self.kind() != GSO_NONE
    }

    /// Whether the transport checksum still has to be completed.
    #[must_use]
    pub const fn needs_checksum(self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 52,
            gso_size: 1448,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::from_bytes(&header.to_bytes()), header);
        assert_eq!(header.kind(), GSO_TCPV4);
        assert!(header.is_super() && header.needs_checksum());
    }
}
