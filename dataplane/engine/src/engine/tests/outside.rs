//! Test packets to addresses outside of the lab.

use super::*;
use crate::{CommandError, CommandOutput, FiveTuple, HopTarget, PairRoute, Pin};

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
            engine.handle_command(
                Instant::ZERO,
                Command::FindHop { src: 1, target, flow: tcp(7), route: None },
                &mut io,
            )
        };
        for outside in [SERVER, [192, 168, 0, 200]] {
            let found = find(outside).expect("a next hop");
            assert!(
                matches!(found, CommandOutput::Hop { exit, next, route: 0 } if (exit, next) == hop),
                "{found:?}"
            );
        }
        for never in [[192, 168, 0, 3], [10, 0, 0, 0], [169, 254, 169, 254], [127, 0, 0, 1]] {
            assert!(matches!(find(never), Err(CommandError::UnknownAddress(_))), "{never:?}");
        }
    }
}

/// A TCP flow of node 1 from this port.
fn tcp(port: u16) -> FiveTuple {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 9].into());
    FiveTuple { src, dst, protocol: 6, src_port: port, dst_port: 80 }
}

/// A node with explicit routes of a pair, each over a neighbour of its own, whose number is 10 above that of the route.
fn routed(io: &mut Io, own: u32, pair: (u32, u32), routes: &[u32]) -> Engine {
    let mut engine = Engine::new(NodeConfig::new(own));
    for (link, id) in routes.iter().enumerate() {
        let remote = id + 10;
        let added = Command::AddLink { remote, remote_name: remote.to_string(), spec: LinkSpec::default() };
        engine.handle_command(Instant::ZERO, added, io).expect("a link");
        engine.handle_link_state(Instant::ZERO, link as u32, true, io);
    }
    let route = |&id: &u32| PairRoute { src: pair.0, dst: pair.1, id, weight: 1.0, next_hops: vec![id + 10] };
    let routes = routes.iter().map(route).collect();
    let install = Command::InstallRoutes { table: None, routes, removed: vec![] };
    engine.handle_command(Instant::ZERO, install, io).expect("routes");
    engine
}

type Hop = Result<(Option<u32>, u32), String>;

fn hop(engine: &mut Engine, io: &mut Io, flow: FiveTuple, route: Option<u32>) -> Hop {
    let command = Command::FindHop { src: 1, target: HopTarget::Node(9), flow, route };
    match engine.handle_command(Instant::ZERO, command, io) {
        Ok(CommandOutput::Hop { exit: 9, next, route }) => Ok((next, route)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_first_node_chooses_the_route_of_a_flow_as_for_its_packets() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = routed(&mut io, 1, (1, 9), &[1, 2]);
    let mut shares = [0, 0];
    for port in 0..200 {
        let (next, route) = hop(&mut engine, &mut io, tcp(port), None).expect("a next hop");
        assert_eq!(next, Some(route + 10));
        assert_eq!(hop(&mut engine, &mut io, tcp(port), None), Ok((next, route)), "the same again");
        shares[route as usize - 1] += 1;
    }
    assert!(shares.iter().all(|share| (60..140).contains(share)), "{shares:?}");
    let pin = Pin { id: 1, src: 1, dst: 9, protocol: Some(6), src_port: None, dst_port: Some(80), route: 2 };
    engine
        .handle_command(Instant::ZERO, Command::SetPins { pins: vec![pin], removed: vec![] }, &mut io)
        .expect("a pin");
    for port in 0..200 {
        assert_eq!(hop(&mut engine, &mut io, tcp(port), None), Ok((Some(12), 2)));
    }
    engine.handle_link_state(Instant::ZERO, 1, false, &mut io);
    assert_eq!(hop(&mut engine, &mut io, tcp(1), None), Ok((Some(11), 1)), "the pinned route is down");
}

#[test]
fn a_relay_follows_the_route_that_the_first_node_has_chosen_or_refuses_the_flow() {
    let mut io = Io::new(Pool::standalone());
    let mut relay = routed(&mut io, 5, (1, 9), &[1, 2]);
    for port in 0..50 {
        for route in [1, 2] {
            let found = hop(&mut relay, &mut io, tcp(port), Some(route));
            assert_eq!(found, Ok((Some(route + 10), route)));
        }
    }
    let unknown = hop(&mut relay, &mut io, tcp(1), Some(3)).expect_err("refused");
    assert_eq!(unknown, "route 3 of the flow does not lead through node 5");
    let no_table = hop(&mut relay, &mut io, tcp(1), Some(0)).expect_err("refused");
    assert_eq!(no_table, "no route to node 9");
    relay.handle_link_state(Instant::ZERO, 0, false, &mut io);
    let down = hop(&mut relay, &mut io, tcp(1), Some(1)).expect_err("refused, and not moved to route 2");
    assert_eq!(down, "the link to node 11 is down");
    let removed = Command::InstallRoutes { table: None, routes: vec![], removed: vec![(1, 9)] };
    relay.handle_command(Instant::ZERO, removed, &mut io).expect("removed");
    assert_eq!(hop(&mut relay, &mut io, tcp(1), Some(2)), Ok((Some(12), 2)), "until the next change");
}
