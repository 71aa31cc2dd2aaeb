//! Test packets to addresses outside of the lab.

use super::*;
use crate::{CommandError, CommandOutput, HopTarget};

const SERVER: [u8; 4] = [203, 0, 113, 9];

fn node(io: &mut Io, uplink: bool, table: Vec<u32>) -> Engine {
    let mut config = NodeConfig::new(1);
    config.addresses.user_base_addr = Some([192, 168, 0, 0].into());
    config.uplink = uplink;
    let mut engine = linked(config, io);
    let routes = Command::InstallRoutes { table: Some(table), routes: vec![], removed: vec![] };
    engine.handle_command(Instant::ZERO, routes, io).expect("routes");
    engine
}

/// What became of a packet from the TUN device: those sent to the neighbour, and those written to the device.
fn sent(engine: &mut Engine, io: &mut Io, dst: [u8; 4]) -> (usize, usize) {
    io.transmits.clear();
    io.tun.clear();
    let bytes = packet(io, &udp([10, 0, 0, 1], dst, 9), VnetHeader::default());
    engine.handle_tun(Instant::ZERO, bytes, io);
    (io.transmits.len(), io.tun.len())
}

#[test]
fn without_an_uplink_nothing_leaves_and_the_source_is_told() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = node(&mut io, false, vec![0, 0, 2, 2]);
    assert_eq!(sent(&mut engine, &mut io, SERVER), (0, 1));
    assert_eq!(io.tun[0].bytes()[20], 3, "destination unreachable");
    assert_eq!(engine.stats().tun_rx.drops.get(DropCause::NoRoute), 1);
}

#[test]
fn packets_to_the_outside_take_the_route_to_the_nearest_uplink() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = node(&mut io, false, vec![2, 0, 2, 2]);
    assert_eq!(sent(&mut engine, &mut io, SERVER), (1, 0));
    assert_eq!(sent(&mut engine, &mut io, [192, 168, 0, 200]), (1, 0), "no node has this user-space address");
}

#[test]
fn addresses_of_the_host_of_its_link_and_of_groups_are_never_outside() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = node(&mut io, false, vec![2, 0, 2, 2]);
    for dst in [[169, 254, 169, 254], [127, 0, 0, 1], [0, 0, 0, 1], [224, 0, 0, 251], [255, 255, 255, 255]] {
        assert_eq!(sent(&mut engine, &mut io, dst).0, 0, "{dst:?}");
    }
    assert_eq!(sent(&mut engine, &mut io, [10, 0, 0, 77]).0, 0, "an address of the lab that no node has");
}

#[test]
fn the_uplink_leaves_packets_of_others_to_its_kernel_and_refuses_what_that_sends_back() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = node(&mut io, true, vec![0, 0, 2, 2]);
    let from_2 = packet(&mut io, &udp([10, 0, 0, 2], SERVER, 9), VnetHeader::default());
    engine.handle_link(Instant::ZERO, 0, from_2, &mut io);
    assert_eq!((io.transmits.len(), io.tun.len()), (0, 1));
    assert_eq!(sent(&mut engine, &mut io, SERVER), (0, 1));
    assert_eq!(io.tun[0].bytes()[20], 3, "destination unreachable");
}

#[test]
fn a_relay_counts_one_hop_of_packets_to_the_outside_whatever_their_address_looks_like() {
    let no_node: [u8; 4] = [192, 168, 0, 200]; // an address in the user-space range
    for (uplink, dst) in [(false, SERVER), (false, no_node), (true, SERVER), (true, no_node)] {
        let mut io = Io::new(Pool::standalone());
        let mut engine = node(&mut io, uplink, vec![2, 0, 2, 2]);
        let before = packet(&mut io, &udp([10, 0, 0, 2], dst, 9), VnetHeader::default());
        engine.handle_link(Instant::ZERO, 0, before, &mut io);
        let relayed = io.transmits.first().map(|(_, packet)| packet).or(io.tun.first()).expect("forwarded");
        // The kernel of the uplink counts the hop of that node.
        assert_eq!(relayed.hops(), u16::from(!uplink), "uplink {uplink}, {dst:?}");
    }
}

#[test]
fn flows_that_are_not_packets_leave_the_lab_where_packets_do() {
    let mut io = Io::new(Pool::standalone());
    for (uplink, hop) in [(false, (0, Some(2))), (true, (1, None))] {
        let mut engine = node(&mut io, uplink, vec![2, 0, 2, 2]);
        let mut find = |address: [u8; 4]| {
            let target = HopTarget::Address(address.into());
            engine.handle_command(Instant::ZERO, Command::FindHop { src: 1, target, flow: 7 }, &mut io)
        };
        for outside in [SERVER, [192, 168, 0, 200]] {
            let found = find(outside).expect("a next hop");
            assert!(matches!(found, CommandOutput::Hop { exit, next } if (exit, next) == hop), "{found:?}");
        }
        for never in [[192, 168, 0, 3], [169, 254, 169, 254], [127, 0, 0, 1]] {
            assert!(matches!(find(never), Err(CommandError::UnknownAddress(_))), "{never:?}");
        }
    }
}
