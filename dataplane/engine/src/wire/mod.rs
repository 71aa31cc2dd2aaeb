//! Parse and build IPv4, IPv6, UDP and ICMP headers, and the Internet checksum. Nothing here panics on short input.

pub mod checksum;
pub(crate) mod header;
pub(crate) mod ip;
pub(crate) mod ip6;
pub(crate) mod tcp;

use thiserror::Error;

/// Why the engine refuses a packet.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// Neither IPv4 nor IPv6.
    #[error("neither an IPv4 nor an IPv6 packet")]
    NotIp,
    /// Length fields contradict each other, or a header is truncated.
    #[error("truncated or contradictory headers")]
    Malformed,
    /// The type of a super-packet does not match its protocol, or its segment size is missing.
    #[error("segmentation that does not fit the packet")]
    BadSegmentation,
}
