//! The key of a flow in messages to the controller.

use std::net::Ipv4Addr;

/// A 16-byte key of a flow: addresses, ports, protocol.
pub(super) fn flow_key(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    protocol: u8,
) -> [u8; 16] {
    let mut id = [0; 16];
    id[0..4].copy_from_slice(&src.octets());
    id[4..8].copy_from_slice(&dst.octets());
    id[8..10].copy_from_slice(&src_port.to_be_bytes());
    id[10..12].copy_from_slice(&dst_port.to_be_bytes());
    id[12] = protocol;
    id
}

/// Protocol, addresses and ports of a flow, as people read them.
pub(super) fn flow_name(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), protocol: u8) -> String {
    let ((src, src_port), (dst, dst_port)) = (src, dst);
    match protocol {
        6 => format!("tcp {src}:{src_port} > {dst}:{dst_port}"),
        17 => format!("udp {src}:{src_port} > {dst}:{dst_port}"),
        1 => format!("icmp {src} > {dst}"),
        other => format!("{other} {src} > {dst}"),
    }
}
