//! Test what an engine does to IPv6 packets: exact packets in and out.

use super::*;
use crate::stats::DropCause;
use crate::vnet::{F_NEEDS_CSUM, GSO_TCPV6};
use crate::wire::{checksum, ip6};
use crate::{LinkSpec, Pool, VnetHeader};

const BASE: u128 = 0xfd12_3456_789a << 80;
const NOW: Instant = Instant(1 << 40);

/// Node 1 with a link to node 2, behind which node 3 is.
pub(super) fn engine(io: &mut Io, spec: LinkSpec) -> Engine {
    let mut config = NodeConfig::new(1);
    config.addresses.base_addr6 = Some(BASE.into());
    let mut engine = Engine::new(config);
    let added = Command::AddLink { remote: 2, remote_name: "n2".into(), spec };
    engine.handle_command(Instant::ZERO, added, io).expect("a link");
    engine.handle_link_state(Instant::ZERO, 0, true, io);
    assert_eq!(io.events.pop(), Some(crate::Event::LinkCarries { remote: 2, carries: true }));
    let routes = Command::InstallRoutes { table: Some(vec![0, 0, 2, 2]), routes: vec![], removed: vec![] };
    engine.handle_command(Instant::ZERO, routes, io).expect("routes");
    engine
}

/// A packet from node `src` to an address.
pub(super) fn packet(io: &mut Io, src: u128, dst: u128, protocol: u8, payload: &[u8]) -> Packet {
    let mut bytes = vec![0; ip6::HEADER + payload.len()];
    ip6::emit(&mut bytes, BASE + src, dst, protocol, payload.len() as u16);
    bytes[ip6::HEADER..].copy_from_slice(payload);
    filled(io, &bytes, VnetHeader::default())
}

fn filled(io: &mut Io, bytes: &[u8], vnet: VnetHeader) -> Packet {
    let mut packet = io.pool.get();
    packet.fill(bytes, vnet).expect("a new buffer");
    packet
}

/// The kind of an ICMPv6 message whose checksum is right, its second word, and the packet that it quotes.
pub(super) fn icmp(packet: &Packet) -> ((u8, u8), u32, Vec<u8>) {
    let (head, body) = packet.bytes().split_at(ip6::HEADER);
    assert_eq!(head[6], ip6::ICMP);
    let pseudo = checksum::pseudo_header_of(head, ip6::ICMP, body.len() as u16);
    assert_eq!(checksum::finish(checksum::sum(body, pseudo)), 0);
    let word = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
    ((body[0], body[1]), word, body[8..].to_vec())
}

#[test]
fn packets_go_to_the_link_of_their_node_or_to_the_device() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    let out = packet(&mut io, 1, BASE + 3, 17, &[0; 8]);
    engine.handle_tun(NOW, out, &mut io);
    assert_eq!(io.transmits.pop().map(|(link, packet)| (link, packet.remaining_ttl())), Some((0, 255)));
    let own = packet(&mut io, 2, BASE + 1, 17, &[0; 8]);
    engine.handle_link(NOW, 0, own, &mut io);
    assert_eq!(io.tun.len(), 1);
    let flows = engine.stats().flows;
    let ends: Vec<_> = flows.iter().map(|flow| (flow.src.to_string(), flow.dst.to_string())).collect();
    let text = |node: u8| format!("fd12:3456:789a::{node}");
    assert_eq!(ends, [(text(1), text(3)), (text(2), text(1))]);
}

#[test]
fn a_relay_reduces_the_hop_limit_and_answers_when_it_is_exhausted() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    let with_limit = |io: &mut Io, limit: u8| {
        let mut packet = packet(io, 2, BASE + 3, 17, &[7; 2000]);
        packet.bytes_mut().expect("not shared")[ip6::HOP_LIMIT] = limit;
        packet
    };
    let passes = with_limit(&mut io, 2);
    engine.handle_link(NOW, 0, passes, &mut io);
    let (_, mut passed) = io.transmits.pop().expect("it is forwarded");
    assert!(passed.apply_ttl());
    assert_eq!(passed.bytes()[ip6::HOP_LIMIT], 1);

    let ends = with_limit(&mut io, 1);
    let about = ends.bytes().to_vec();
    engine.handle_link(NOW, 0, ends, &mut io);
    let (_, answer) = io.transmits.pop().expect("an answer");
    assert_eq!(answer.len(), 1280, "as much of the packet as fits into the least MTU");
    assert_eq!(ip6::source(answer.bytes()), BASE + 1);
    assert_eq!(ip6::destination(answer.bytes()), BASE + 2);
    assert_eq!(icmp(&answer), ((3, 0), 0, about[..1232].to_vec()));
    assert_eq!(engine.stats().links[0].rx.drops.get(DropCause::Ttl), 1);
}

#[test]
fn an_address_of_nobody_is_answered_and_multicast_is_not() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    for dst in [BASE + (1 << 40), BASE + 70_000, 1 << 125, BASE + 9] {
        let lost = packet(&mut io, 1, dst, 17, &[0; 8]);
        engine.handle_tun(NOW, lost, &mut io);
        let answer = io.tun.pop().expect("an answer");
        assert_eq!(icmp(&answer).0, (1, 0), "{dst:x}");
    }
    // A multicast listener report, behind a hop-by-hop header with the router alert (RFC 3810, section 5).
    let report = [58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0];
    let report = packet(&mut io, 1, 0xff02 << 112 | 0x16, 0, &report);
    engine.handle_tun(NOW, report, &mut io);
    assert!(io.is_empty());
    let drops = engine.stats().tun_rx.drops;
    assert_eq!((drops.get(DropCause::NoRoute), drops.get(DropCause::Multicast6), drops.total()), (4, 1, 5));
}

#[test]
fn errors_are_limited_and_never_sent_about_errors_or_to_no_host() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    let silent = [
        (2, 58, vec![1, 0, 0, 0, 0, 0, 0, 0]),      // an error
        (2, 44, vec![58, 0, 0, 9, 0, 0, 0, 0]),     // a later fragment, perhaps of one
        (0u128.wrapping_sub(BASE), 17, vec![0; 8]), // the unspecified address
        ((0xff02 << 112) - BASE, 17, vec![0; 8]),   // a multicast address
    ];
    for (src, protocol, payload) in silent {
        let bytes = {
            let mut bytes = vec![0; ip6::HEADER + payload.len()];
            ip6::emit(&mut bytes, BASE.wrapping_add(src), BASE + 9, protocol, payload.len() as u16);
            bytes[ip6::HEADER..].copy_from_slice(&payload);
            bytes
        };
        let lost = filled(&mut io, &bytes, VnetHeader::default());
        engine.handle_link(NOW, 0, lost, &mut io);
        assert!(io.is_empty(), "{protocol} from {src:x}");
    }
    // An echo request is no error.
    for _ in 0..1000 {
        let lost = packet(&mut io, 2, BASE + 9, 58, &[128, 0, 0, 0, 0, 0, 0, 0]);
        engine.handle_link(NOW, 0, lost, &mut io);
    }
    assert!((200..400).contains(&io.transmits.len()), "{}", io.transmits.len());
}

#[test]
fn super_packets_of_the_other_version_are_refused() {
    let mut payload = [0; 4000];
    payload[12] = 0x50;
    let good = VnetHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_TCPV6,
        hdr_len: 60,
        gso_size: 1000,
        csum_start: 40,
        csum_offset: 16,
    };
    let bad = [
        VnetHeader { gso_type: crate::vnet::GSO_TCPV4, ..good },
        VnetHeader { gso_type: crate::vnet::GSO_UDP_L4, ..good },
        VnetHeader { csum_start: 20, ..good },
        VnetHeader { gso_size: 0, ..good },
    ];
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    for vnet in bad {
        let mut refused = packet(&mut io, 1, BASE + 3, 6, &payload);
        refused.set_vnet(vnet);
        engine.handle_tun(NOW, refused, &mut io);
        assert!(io.is_empty(), "{vnet:?}");
    }
    assert_eq!(engine.stats().tun_rx.drops.get(DropCause::Malformed), 4);
    let mut passes = packet(&mut io, 1, BASE + 3, 6, &payload);
    passes.set_vnet(good);
    engine.handle_tun(NOW, passes, &mut io);
    let (_, passed) = io.transmits.pop().expect("it is forwarded");
    assert_eq!((passed.segments(), passed.vnet()), (4, good));
}

#[test]
fn datagrams_never_reach_the_python_api_and_sessions() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io, LinkSpec::default());
    let filter = crate::FlowFilter { src_node: 2, group: None, src_port: 0, dst_port: 0 };
    engine.handle_command(NOW, Command::RegisterReceiver { filter }, &mut io).expect("a receiver");
    let port = crate::SESSION_PORT.to_be_bytes();
    for ports in [[0, 1, 0, 1], [port[0], port[1], port[0], port[1]]] {
        let payload = [&ports[..], &[0, 8, 0, 0]].concat();
        let datagram = packet(&mut io, 2, BASE + 1, 17, &payload);
        engine.handle_link(NOW, 0, datagram, &mut io);
    }
    assert_eq!((io.tun.len(), io.deliveries.len()), (2, 0));
}
