//! Parse and build IPv4, UDP and ICMP headers, and the Internet checksum. Nothing here panics on short input.

pub mod checksum;
pub(crate) mod ip;

use thiserror::Error;

/// Why bytes are no packet that the overlay carries.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// Not IPv4.
    #[error("not an IPv4 packet")]
    NotIpv4,
    /// Lengths that contradict each other, or a header cut short.
    #[error("truncated or contradictory headers")]
    Malformed,
    /// A super-packet of a kind that does not go with its protocol, or without a segment size.
    #[error("segmentation that does not fit the packet")]
    BadSegmentation,
}
