//! Test links with an MTU of their own: errors, fragments, and what passes.

use super::ip6_tests::{engine, icmp, packet};
use super::*;
use crate::stats::DropCause;
use crate::vnet::{F_NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4};
use crate::wire::{checksum, ip};
use crate::{LinkSpec, Pool, VnetHeader};

const NOW: Instant = Instant(1 << 40);
const BASE6: u128 = 0xfd12_3456_789a << 80;

fn narrow(io: &mut Io, mtu: u16) -> Engine {
    engine(io, LinkSpec { mtu: Some(mtu), ..LinkSpec::default() })
}

/// A packet from node 1 to node 3 with an identification, as kernels send it.
fn to_node_3(io: &mut Io, protocol: u8, len: usize, dont_fragment: bool, vnet: VnetHeader) -> Packet {
    let mut bytes = vec![0; len];
    ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0003, protocol, len as u16);
    bytes[4..6].copy_from_slice(&[0, 1]);
    bytes[6] = if dont_fragment { 0x40 } else { 0 };
    if protocol == ip::TCP {
        bytes[32] = 0x50;
    }
    ip::write_checksum(&mut bytes[..20]);
    let mut packet = io.pool.get_for(len);
    packet.fill(&bytes, vnet).expect("a new buffer");
    packet
}

#[test]
fn a_packet_that_must_not_be_fragmented_is_answered_with_the_mtu_of_the_link() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = narrow(&mut io, 1300);
    for (len, passes) in [(1300, true), (1301, false)] {
        let sent = to_node_3(&mut io, ip::TCP, len, true, VnetHeader::default());
        engine.handle_tun(NOW, sent, &mut io);
        assert_eq!(io.transmits.pop().is_some(), passes, "{len}");
    }
    let answer = io.tun.pop().expect("an answer");
    // Not from the node's own address, from which its kernel takes nothing.
    assert_eq!(answer.bytes()[12..20], [10, 0, 0, 3, 10, 0, 0, 1]);
    let body = &answer.bytes()[20..];
    assert_eq!(checksum::of(body), 0);
    assert_eq!(body[..2], [3, 4]);
    assert_eq!(body[4..8], [0, 0, 0x05, 0x14]);
    assert_eq!((body.len(), u16::from_be_bytes([body[10], body[11]])), (36, 1301));
    assert_eq!(engine.stats().links[0].tx.drops.get(DropCause::Mtu), 1);
}

#[test]
fn ipv6_is_answered_with_the_mtu_but_has_1280_bytes_on_every_link() {
    for (mtu, limit) in [(1400, 1400), (600, 1280)] {
        let mut io = Io::new(Pool::standalone());
        let mut engine = narrow(&mut io, mtu);
        for (len, passes) in [(limit, true), (limit + 1, false)] {
            let sent = packet(&mut io, 1, BASE6 + 3, 17, &vec![0; len - 40]);
            engine.handle_tun(NOW, sent, &mut io);
            assert_eq!(io.transmits.pop().is_some(), passes, "{len}");
        }
        let answer = io.tun.pop().expect("an answer");
        assert_eq!(answer.len(), 1280);
        let (kind, stated, _) = icmp(&answer);
        assert_eq!((kind, stated), ((2, 0), limit as u32));
    }
}

#[test]
fn a_super_packet_passes_if_its_segments_do() {
    let vnet = VnetHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: 1260,
        csum_start: 20,
        csum_offset: 16,
    };
    let mut io = Io::new(Pool::standalone());
    let mut engine = narrow(&mut io, 1300);
    for (gso_size, passes) in [(1260, true), (1261, false)] {
        let sent = to_node_3(&mut io, ip::TCP, 30_000, true, VnetHeader { gso_size, ..vnet });
        engine.handle_tun(NOW, sent, &mut io);
        assert_eq!(io.transmits.pop().is_some(), passes, "{gso_size}");
    }
    assert_eq!(io.tun.len(), 1);
    // One that is shorter than its stated segment is one segment.
    let short = to_node_3(&mut io, ip::TCP, 1200, true, VnetHeader { gso_size: 1400, ..vnet });
    engine.handle_tun(NOW, short, &mut io);
    assert_eq!(io.transmits.len(), 1);
}

#[test]
fn a_packet_that_may_be_fragmented_is_and_no_error_is_sent() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = narrow(&mut io, 576);
    let sent = to_node_3(&mut io, ip::UDP, 1500, false, VnetHeader::default());
    engine.handle_tun(NOW, sent, &mut io);
    let fragments: Vec<_> = io.transmits.drain(..).map(|(_, part)| (part.len(), part.bytes()[7])).collect();
    assert_eq!(fragments, [(572, 0), (572, 69), (396, 138)]);
    let link = engine.stats().links[0].clone();
    assert_eq!((link.tx.packets, link.tx.bytes, link.tx.drops.total()), (3, 1540, 0));
    assert!(io.tun.is_empty());

    // Datagrams of a super-packet become fragments each, with complete checksums.
    let vnet = VnetHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: 28,
        gso_size: 600,
        csum_start: 20,
        csum_offset: 6,
    };
    let sent = to_node_3(&mut io, ip::UDP, 28 + 1300, false, vnet);
    engine.handle_tun(NOW, sent, &mut io);
    let parts: Vec<_> = io.transmits.drain(..).map(|(_, part)| (part.len(), part.vnet())).collect();
    let whole = VnetHeader::default();
    assert_eq!(parts, [(572, whole), (76, whole), (572, whole), (76, whole), (128, whole)]);
}

#[test]
fn messages_and_sessions_pass_whole() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = narrow(&mut io, 576);
    let message = |payload: usize| Command::SendMessage {
        target: crate::Target::Node(3),
        src_port: None,
        dst_port: None,
        payload: crate::SharedBytes::new(vec![0; payload]),
    };
    for payload in [1400, 60_000] {
        engine.handle_command(NOW, message(payload), &mut io).expect("sent");
        assert_eq!(io.transmits.pop().map(|(_, packet)| packet.len()), Some(payload + 28));
    }
    let mut session = to_node_3(&mut io, ip::UDP, 1500, false, VnetHeader::default());
    let bytes = session.bytes_mut().expect("not shared");
    bytes[20..22].copy_from_slice(&crate::SESSION_PORT.to_be_bytes());
    bytes[22..24].copy_from_slice(&crate::SESSION_PORT.to_be_bytes());
    engine.handle_link(NOW, 0, session, &mut io);
    assert_eq!(io.transmits.len(), 1);
}
