//! The addresses, ports and protocol that identify a flow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::rng::mix;
use crate::wire::{ip, ip6};
use crate::Packet;

/// The packets with these addresses, this protocol and these ports are one flow.
///
/// Ports are 0 where there are none: in protocols other than TCP and UDP, and in fragments. All fragments of two
/// addresses and a protocol are therefore one flow, which keeps those of a datagram together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FiveTuple {
    /// The source's address.
    pub src: IpAddr,
    /// The destination's address.
    pub dst: IpAddr,
    /// The number of the protocol above IP (RFC 790).
    pub protocol: u8,
    /// The source's port.
    pub src_port: u16,
    /// The destination's port.
    pub dst_port: u16,
}

impl FiveTuple {
    /// A hash, equal in every process.
    pub(crate) fn hash(&self) -> u64 {
        let rest = u64::from(self.protocol) << 32 | u64::from(self.src_port) << 16 | u64::from(self.dst_port);
        let src = mix(mix(rest) ^ folded(self.src));
        mix(src ^ folded(self.dst).rotate_left(32))
    }
}

impl Packet {
    /// Source and destination port of TCP and UDP; zeros for other protocols and for fragments.
    pub(crate) fn ports(&self) -> (u16, u16) {
        if self.meta().fragment || !matches!(self.meta().protocol, ip::UDP | ip::TCP) {
            return (0, 0);
        }
        let at = usize::from(self.meta().ihl);
        let bytes = &self.bytes()[at..at + 4];
        (u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]))
    }

    /// The flow of the packet.
    pub(crate) fn five_tuple(&self) -> FiveTuple {
        let (src_port, dst_port) = self.ports();
        let (src, dst) = self.addresses();
        FiveTuple { src, dst, protocol: self.meta().protocol, src_port, dst_port }
    }

    /// A hash of addresses, protocol and ports: equal for all packets of one flow.
    pub(crate) fn flow_hash(&self) -> u64 {
        let (src_port, dst_port) = self.ports();
        let ends = self.ends();
        let rest = u64::from(self.meta().protocol) << 32 | u64::from(src_port) << 16 | u64::from(dst_port);
        crate::rng::mix(ends ^ crate::rng::mix(rest))
    }
}

/// An address as one number; those of IPv4 stay different.
fn folded(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            mix((bits >> 64) as u64) ^ bits as u64
        }
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, protocol, src_port, dst_port } = self;
        let (from, to) = (SocketAddr::new(*src, *src_port), SocketAddr::new(*dst, *dst_port));
        match *protocol {
            ip::TCP => write!(out, "tcp {from} > {to}"),
            ip::UDP => write!(out, "udp {from} > {to}"),
            ip::ICMP | ip6::ICMP => write!(out, "icmp {src} > {dst}"),
            other => write!(out, "{other} {src} > {dst}"),
        }
    }
}
