//! Test packets to and from networks behind nodes.

use super::*;
use crate::{CommandError, PairRoute, Prefix, Prefixes};

/// Node 1 with a link to node 2; 192.168.50.0/24 is behind node 1 and 192.168.60.0/24 behind node 3.
fn with_prefixes(io: &mut Io) -> Engine {
    let behind = |third, node| Prefix { network: [192, 168, third, 0].into(), length: 24, node };
    let mut config = NodeConfig::new(1);
    config.addresses.user_base_addr = Some([192, 168, 0, 0].into());
    config.prefixes = Prefixes::new(&[behind(50, 1), behind(60, 3)]).expect("disjoint");
    linked(config, io)
}

fn send(engine: &mut Engine, io: &mut Io, from_link: bool, src: [u8; 4], dst: [u8; 4]) {
    let sent = packet(io, &udp(src, dst, 9), VnetHeader::default());
    if from_link {
        engine.handle_link(Instant::ZERO, 0, sent, io);
    } else {
        engine.handle_tun(Instant::ZERO, sent, io);
    }
}

#[test]
fn a_packet_to_a_network_behind_another_node_takes_the_route_to_that_node() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    send(&mut engine, &mut io, false, [192, 168, 50, 2], [192, 168, 60, 2]);
    assert_eq!((io.transmits.len(), io.tun.len()), (1, 0));
    assert_eq!(io.transmits[0].1.meta().src, u32::from_be_bytes([192, 168, 50, 2]));
}

#[test]
fn a_packet_to_a_network_behind_this_node_is_left_to_its_kernel() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    send(&mut engine, &mut io, true, [10, 0, 0, 3], [192, 168, 50, 2]);
    assert_eq!((io.transmits.len(), io.tun.len()), (0, 1));
    assert_eq!(engine.stats().tun_tx.packets, 1);
}

#[test]
fn a_packet_that_the_kernel_does_not_forward_to_its_own_network_is_answered_once() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    send(&mut engine, &mut io, false, [10, 0, 0, 3], [192, 168, 50, 2]);
    assert!(io.tun.is_empty(), "it would come back");
    assert_eq!(engine.stats().tun_rx.drops.get(DropCause::NoRoute), 1);
    let (_, answer) = io.transmits.pop().expect("an ICMP error to node 3");
    assert_eq!((answer.bytes()[20], answer.bytes()[21]), (3, 0));
}

#[test]
fn an_icmp_error_reaches_a_source_behind_this_node() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    send(&mut engine, &mut io, false, [192, 168, 50, 2], [203, 0, 113, 1]);
    assert_eq!((io.transmits.len(), io.tun.len()), (0, 1));
    assert_eq!(io.tun[0].meta().dst, u32::from_be_bytes([192, 168, 50, 2]));
}

#[test]
fn an_explicit_route_of_a_pair_carries_what_is_behind_its_ends() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    let route = PairRoute { src: 1, dst: 3, id: 1, weight: 1.0, next_hops: vec![2] };
    let only = Command::InstallRoutes { table: Some(vec![0; 4]), routes: vec![route], removed: vec![] };
    engine.handle_command(Instant::ZERO, only, &mut io).expect("routes");
    send(&mut engine, &mut io, false, [192, 168, 50, 2], [192, 168, 60, 2]);
    assert_eq!(io.transmits.len(), 1);
    send(&mut engine, &mut io, false, [192, 168, 99, 2], [192, 168, 60, 2]);
    assert_eq!(io.transmits.len(), 1, "this source is behind no node, so it is of no pair");
}

#[test]
fn no_session_begins_with_an_address_behind_a_node() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = with_prefixes(&mut io);
    let dest = [192, 168, 60, 2].into();
    let refused = engine.handle_command(
        Instant::ZERO,
        Command::ReceiveData { dest, source: 3, expected_bytes: 1 },
        &mut io,
    );
    assert_eq!(refused.expect_err("refused"), CommandError::UnknownAddress(dest.into()));
}
