//! Packets for tests, built and checked byte by byte.

#![allow(dead_code, reason = "each test file uses a part of them")]

use nm_engine::wire::checksum;

/// A UDP packet from the application of a node to an address.
pub fn udp(src: u32, dst: [u8; 4], ttl: u8, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes.extend_from_slice(payload);
    let len = bytes.len() as u16;
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes[6] = 0x40;
    bytes[8] = ttl;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&[10, 0, (src >> 8) as u8, src as u8]);
    bytes[16..20].copy_from_slice(&dst);
    let sum = checksum::of(&bytes[..20]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes[20..22].copy_from_slice(&ports.0.to_be_bytes());
    bytes[22..24].copy_from_slice(&ports.1.to_be_bytes());
    bytes[24..26].copy_from_slice(&(len - 20).to_be_bytes());
    bytes
}

/// The address of a node.
pub fn addr(node: u32) -> [u8; 4] {
    [10, 0, (node >> 8) as u8, node as u8]
}

/// Whether the IP header's checksum is right.
pub fn header_is_whole(packet: &[u8]) -> bool {
    checksum::of(&packet[..20]) == 0
}
