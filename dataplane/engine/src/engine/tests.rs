//! Test the engine alone: invalid input, and limits of its answers.

use proptest::prelude::*;

use super::*;
mod behind;
mod outside;
mod states;

use crate::stats::DropCause;
use crate::{LinkSpec, Pool, VnetHeader};

fn engine(io: &mut Io) -> Engine {
    linked(NodeConfig::new(1), io)
}

/// A node with a link to node 2, over which nodes 2 and 3 are reached.
fn linked(config: NodeConfig, io: &mut Io) -> Engine {
    let mut engine = Engine::new(config);
    let added = Command::AddLink { remote: 2, remote_name: "n2".into(), spec: LinkSpec::default() };
    engine.handle_command(Instant::ZERO, added, io).expect("a link");
    engine.handle_link_state(Instant::ZERO, 0, true, io);
    assert_eq!(io.events.pop(), Some(crate::Event::LinkCarries { remote: 2, carries: true }));
    let table = Some(vec![0, 0, 2, 2]);
    engine
        .handle_command(Instant::ZERO, Command::InstallRoutes { table, routes: vec![], removed: vec![] }, io)
        .expect("routes");
    engine
}

fn packet(io: &mut Io, bytes: &[u8], vnet: VnetHeader) -> Packet {
    let mut packet = io.pool.get();
    packet.fill(bytes, vnet).expect("a new buffer");
    packet
}

/// A UDP packet from an address to another.
fn udp(src: [u8; 4], dst: [u8; 4], ttl: u8) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    crate::wire::ip::emit(&mut bytes, u32::from_be_bytes(src), u32::from_be_bytes(dst), 17, 32);
    bytes[8] = ttl;
    crate::wire::ip::write_checksum(&mut bytes[..20]);
    bytes[24..26].copy_from_slice(&12u16.to_be_bytes());
    bytes
}

#[test]
fn icmp_errors_are_rate_limited_and_never_sent_about_icmp_errors() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io);
    for _ in 0..1000 {
        let lost = packet(&mut io, &udp([10, 0, 0, 2], [10, 0, 0, 3], 1), VnetHeader::default());
        engine.handle_link(Instant::ZERO, 0, lost, &mut io);
    }
    let answers = io.transmits.len();
    assert!((200..400).contains(&answers), "{answers}");
    let (_, answer) = io.transmits.pop().expect("an answer");
    let mut about = answer.bytes().to_vec();
    about[8] = 1;
    crate::wire::ip::write_checksum(&mut about[..20]);
    about[16..20].copy_from_slice(&[10, 0, 0, 3]);
    crate::wire::ip::write_checksum(&mut about[..20]);
    io.transmits.clear();
    let icmp_error = packet(&mut io, &about, VnetHeader::default());
    engine.handle_link(Instant(1 << 40), 0, icmp_error, &mut io);
    assert!(io.transmits.is_empty());
}

#[test]
fn a_paused_node_drops_packets_and_its_timers_wait() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io);
    let delayed = LinkSpec { delay_us: 1_000, ..LinkSpec::default() };
    engine
        .handle_command(Instant::ZERO, Command::SetLink { remote: 2, spec: delayed }, &mut io)
        .expect("a link");
    let through = || udp([10, 0, 0, 1], [10, 0, 0, 2], 9);
    let queued = packet(&mut io, &through(), VnetHeader::default());
    engine.handle_tun(Instant::ZERO, queued, &mut io);
    assert!(engine.poll_deadline().is_some());
    engine.handle_command(Instant::ZERO, Command::SetPaused { paused: true }, &mut io).expect("paused");
    let lost = packet(&mut io, &through(), VnetHeader::default());
    engine.handle_tun(Instant(1), lost, &mut io);
    assert_eq!(engine.poll_deadline(), None);
    engine.handle_timeout(Instant(5_000_000), &mut io);
    let changed = LinkSpec { delay_us: 2_000, ..LinkSpec::default() };
    engine
        .handle_command(Instant(5_000_000), Command::SetLink { remote: 2, spec: changed }, &mut io)
        .expect("a link");
    assert!(io.transmits.is_empty());
    assert_eq!(engine.stats().tun_rx.drops.get(DropCause::Paused), 1);
    engine
        .handle_command(Instant(5_000_000), Command::SetPaused { paused: false }, &mut io)
        .expect("resumed");
    engine.handle_timeout(Instant(5_000_000), &mut io);
    assert_eq!(io.transmits.len(), 1);
    assert_eq!(engine.stats().links[0].measured.late_sum_us, 0.0, "the pause is no lateness of the link");
}

#[test]
fn invalid_packets_are_counted_by_cause() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io);
    let bad = [
        (vec![], DropCause::Malformed),
        (vec![0x70; 60], DropCause::Unsupported),
        (vec![0x60; 60], DropCause::Malformed),
        (vec![0x45; 19], DropCause::Malformed),
    ];
    for (bytes, cause) in bad {
        let bad = packet(&mut io, &bytes, VnetHeader::default());
        engine.handle_tun(Instant::ZERO, bad, &mut io);
        assert!(engine.stats().tun_rx.drops.get(cause) > 0, "{cause:?}");
    }
    assert!(io.is_empty());
}

/// A TCP super-packet of 4,000 bytes to a node behind node 2.
fn tcp_super() -> (Vec<u8>, VnetHeader) {
    let mut bytes = vec![7; 4000];
    crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0003, 6, 4000);
    bytes[32] = 0x50;
    let vnet = VnetHeader {
        flags: crate::vnet::F_NEEDS_CSUM,
        gso_type: crate::vnet::GSO_TCPV4,
        hdr_len: 40,
        gso_size: 1000,
        csum_start: 20,
        csum_offset: 16,
    };
    (bytes, vnet)
}

#[test]
fn offsets_of_a_virtio_header_are_checked_against_the_packet_before_anything_uses_them() {
    let (bytes, good) = tcp_super();
    let other = VnetHeader { gso_type: 0, gso_size: 0, ..good };
    let refused = [
        // Inside the super-packet, but behind the header from which those of its segments are derived.
        VnetHeader { csum_start: 3000, ..good },
        VnetHeader { csum_start: 19, ..good },
        VnetHeader { csum_offset: 6, ..good },
        VnetHeader { csum_start: u16::MAX, csum_offset: u16::MAX, ..good },
        VnetHeader { gso_size: 0, ..good },
        VnetHeader { gso_type: crate::vnet::GSO_UDP_L4, ..good },
        VnetHeader { gso_type: crate::vnet::GSO_TCPV6, ..good },
        VnetHeader { gso_type: 3, ..good },
        // In the IP header, or partly behind the end of the packet.
        VnetHeader { csum_start: 0, csum_offset: 10, ..other },
        VnetHeader { csum_start: 3999, csum_offset: 0, ..other },
    ];
    for vnet in refused {
        let mut io = Io::new(Pool::standalone());
        let mut engine = engine(&mut io);
        let bad = packet(&mut io, &bytes, vnet);
        engine.handle_tun(Instant::ZERO, bad, &mut io);
        let bad = packet(&mut io, &bytes, vnet);
        engine.handle_link(Instant::ZERO, 0, bad, &mut io);
        assert!(io.is_empty(), "{vnet:?}");
        let stats = engine.stats();
        assert_eq!(stats.tun_rx.drops.get(DropCause::Malformed), 1, "{vnet:?}");
        assert_eq!(stats.links[0].rx.drops.get(DropCause::Malformed), 1, "{vnet:?}");
    }
}

#[test]
fn fields_without_meaning_are_cleared_in_a_forwarded_virtio_header() {
    let (bytes, good) = tcp_super();
    let cases = [
        (VnetHeader { flags: 0xff, hdr_len: u16::MAX, ..good }, VnetHeader { flags: 3, ..good }),
        (VnetHeader { gso_type: 0x80, gso_size: 9, hdr_len: 9, flags: 0, ..good }, VnetHeader::default()),
        (VnetHeader { gso_size: u16::MAX, ..good }, VnetHeader { gso_size: u16::MAX, ..good }),
    ];
    for (came, goes) in cases {
        let mut io = Io::new(Pool::standalone());
        let mut engine = engine(&mut io);
        let one = packet(&mut io, &bytes, came);
        engine.handle_tun(Instant::ZERO, one, &mut io);
        assert_eq!(io.transmits.pop().expect("it is forwarded").1.vnet(), goes);
    }
}

#[test]
fn a_super_packet_with_too_many_segments_is_refused() {
    let (mut bytes, good) = tcp_super();
    bytes.resize(65_000, 0);
    crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0003, 6, 65_000);
    for (gso_size, segments) in [(7, None), (8, Some(8120))] {
        let mut io = Io::new(Pool::standalone());
        let mut one = packet(&mut io, &bytes, VnetHeader { gso_size, ..good });
        let parsed = one.parse(1500).ok().map(|()| one.segments());
        assert_eq!(parsed, segments);
    }
}

#[test]
fn a_receiver_gets_as_many_bytes_as_the_udp_length_or_nothing() {
    for (stated, got) in [(12u16, Some(4)), (8, Some(0)), (10, Some(2)), (13, None), (7, None), (0, None)] {
        let mut io = Io::new(Pool::standalone());
        let mut engine = engine(&mut io);
        let filter = crate::FlowFilter { src_node: 2, group: None, src_port: 0, dst_port: 0 };
        engine
            .handle_command(Instant::ZERO, Command::RegisterReceiver { filter }, &mut io)
            .expect("a receiver");
        let mut bytes = udp([10, 0, 0, 2], [10, 0, 0, 1], 9);
        bytes[24..26].copy_from_slice(&stated.to_be_bytes());
        let one = packet(&mut io, &bytes, VnetHeader::default());
        engine.handle_link(Instant::ZERO, 0, one, &mut io);
        assert_eq!(io.deliveries.pop().map(|delivery| delivery.payload().len()), got, "{stated}");
        let bad = engine.stats().links[0].rx.drops.get(DropCause::Malformed);
        assert_eq!(bad, u64::from(got.is_none()), "{stated}");
    }
}

#[test]
fn a_forwarding_loop_ends_in_either_ttl_mode() {
    for ttl_mode in [crate::TtlMode::Uniform, crate::TtlMode::Pipe] {
        let mut io = Io::new(Pool::standalone());
        let mut engine = engine(&mut io);
        engine.config.ttl_mode = ttl_mode;
        let first = packet(&mut io, &udp([10, 0, 0, 2], [10, 0, 0, 3], 255), VnetHeader::default());
        engine.handle_link(Instant::ZERO, 0, first, &mut io);
        let mut rounds = 0;
        while let Some((_, packet)) = io.transmits.pop() {
            if packet.meta().protocol == 1 {
                break;
            }
            rounds += 1;
            engine.handle_link(Instant::ZERO, 0, packet, &mut io);
        }
        let limit = if ttl_mode == crate::TtlMode::Uniform { 254 } else { 4095 };
        assert_eq!(rounds, limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invalid_input_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        first in prop_oneof![Just(0x45u8), Just(0x4f), any::<u8>()],
        protocol in prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()],
        dst in prop_oneof![Just([10u8, 0, 0, 1]), Just([10, 0, 0, 3]), Just([239, 255, 0, 1]), any::<[u8; 4]>()],
        header in any::<[u8; 10]>(),
        good_length in any::<bool>(),
    ) {
        let mut io = Io::new(Pool::standalone());
        let mut engine = engine(&mut io);
        let mut bytes = bytes;
        if bytes.len() >= 20 {
            bytes[0] = first;
            bytes[9] = protocol;
            bytes[16..20].copy_from_slice(&dst);
            if good_length {
                let len = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&len);
            }
        }
        let spec = LinkSpec { loss: 0.3, rate_bps: Some(1_000_000), ..LinkSpec::default() };
        for now in 0..2u64 {
            let vnet = VnetHeader::from_bytes(&header);
            let one = packet(&mut io, &bytes, vnet);
            engine.handle_tun(Instant(now), one, &mut io);
            let one = packet(&mut io, &bytes, vnet);
            engine.handle_link(Instant(now), 0, one, &mut io);
            engine.handle_timeout(Instant(1_000_000_000), &mut io);
            for packet in io.tun.drain(..).chain(io.transmits.drain(..).map(|(_, packet)| packet)) {
                crate::segment::segment(packet, &mut io.pool, |piece, pool| pool.put(piece));
            }
            let set = Command::SetLink { remote: 2, spec: spec.clone() };
            engine.handle_command(Instant(now), set, &mut io).expect("a link");
        }
    }
}
