//! What the headers of both IP versions have.

/// Time to live of packets that the engine creates: the maximum, for paths in large rings.
pub(crate) const OUR_TTL: u8 = 255;

/// The fields that forwarding needs, of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpHeader {
    /// The IPv4 source address; 0 in IPv6, whose addresses are read from the packet where they are needed.
    pub src: u32,
    pub dst: u32,
    /// Offset of the transport header: IPv6 extension headers count.
    pub header_len: u8,
    pub total_len: u16,
    pub protocol: u8,
    pub ttl: u8,
    pub fragment: bool,
    pub v6: bool,
}
