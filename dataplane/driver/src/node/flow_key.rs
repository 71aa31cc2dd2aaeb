//! The key of a flow in messages to the controller.

use std::net::{IpAddr, SocketAddr};

/// A 16-byte key of a flow: addresses, ports, protocol. IPv6 addresses are folded into 4 bytes each; their lower
/// bytes, which tell nodes apart, stay apart by that.
pub(super) fn flow_key(
    src: IpAddr,
    dst: IpAddr,
    src_port: u16,
    dst_port: u16,
    protocol: u8,
) -> [u8; 16] {
    let mut id = [0; 16];
    id[0..4].copy_from_slice(&word(src));
    id[4..8].copy_from_slice(&word(dst));
    id[8..10].copy_from_slice(&src_port.to_be_bytes());
    id[10..12].copy_from_slice(&dst_port.to_be_bytes());
    id[12] = protocol;
    id[13] = u8::from(src.is_ipv6());
    id
}

/// Protocol, addresses and ports of a flow, as people read them; IPv6 addresses with a port are in brackets (RFC 5952,
/// section 6).
pub(super) fn flow_name(src: (IpAddr, u16), dst: (IpAddr, u16), protocol: u8) -> String {
    let at = |(address, port)| SocketAddr::new(address, port);
    match protocol {
        6 => format!("tcp {} > {}", at(src), at(dst)),
        17 => format!("udp {} > {}", at(src), at(dst)),
        1 | 58 => format!("icmp {} > {}", src.0, dst.0),
        other => format!("{other} {} > {}", src.0, dst.0),
    }
}

fn word(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let words = (0..4).map(|word| (bits >> (32 * word)) as u32);
            words.fold(0, |folded, word| folded ^ word).to_be_bytes()
        }
    }
}
