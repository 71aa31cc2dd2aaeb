//! Bytes and their meaning: IPv4, UDP, ICMP and the Internet checksum. Nothing here panics on short input.

pub mod checksum;
pub(crate) mod ip;
