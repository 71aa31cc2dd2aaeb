//! Test the table, and the choice among the routes of a pair.

use super::*;
use crate::address::AddressMap;
use crate::{Io, LinkSpec, Pool, VnetHeader};

/// The neighbour over which a route leaves.
fn neighbour(id: RouteId) -> NodeId {
    100 + id % 1_000
}

/// Routes of the pair 1 → 9 by their numbers and weights, each over a link of its own.
struct Fixture {
    routes: Routes,
    links: Links,
    io: Io,
}

impl Fixture {
    fn new(weights: &[(RouteId, f64)]) -> Self {
        let mut io = Io::new(Pool::standalone());
        let mut links = Links::new(AddressMap::default());
        for &(id, _) in weights {
            let rng = crate::rng::Rng::new(0, &[]);
            let link = links.add(Instant::ZERO, neighbour(id), rng, LinkSpec::default(), &mut io);
            links.set_up(Instant::ZERO, link, true, &mut io);
        }
        let mut fixture = Self { routes: Routes::new(7), links, io };
        fixture.install(weights);
        fixture
    }

    fn install(&mut self, weights: &[(RouteId, f64)]) {
        let route = |&(id, weight)| PairRoute { src: 1, dst: 9, id, weight, next_hops: vec![neighbour(id)] };
        self.routes.install(None, weights.iter().map(route).collect(), &[(1, 9)], &mut self.links);
    }

    fn packet(&mut self, port: u16) -> Packet {
        let mut bytes = vec![0; 28];
        crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0009, 17, 28);
        bytes[20..22].copy_from_slice(&port.to_be_bytes());
        let mut packet = self.io.pool.get();
        packet.fill(&bytes, VnetHeader::default()).expect("a new buffer");
        packet.parse(1500).expect("a packet");
        packet
    }

    /// The route of a packet from this source port, as the first node chooses it.
    fn route(&mut self, port: u16) -> RouteId {
        let mut packet = self.packet(port);
        let links = self.routes.explicit(Instant::ZERO, (1, 9), &mut packet, true, &self.links);
        let links = links.expect("a route").to_vec();
        assert_eq!(links, [self.links.slot_for(neighbour(packet.route()))]);
        packet.route()
    }

    fn all(&mut self) -> Vec<RouteId> {
        (0..4_000).map(|port| self.route(port)).collect()
    }

    fn choice(&mut self, port: u16) -> RouteChoice {
        let flow = self.packet(port).five_tuple();
        self.routes.route_of((1, 9), &flow, 0, &self.links).expect("a route")
    }

    fn pin(&mut self, id: u64, port: Option<u16>, route: RouteId) {
        let pin = Pin { id, src: 1, dst: 9, protocol: Some(17), src_port: port, dst_port: None, route };
        self.routes.set_pins(vec![pin], &[]);
    }
}

#[test]
fn a_table_may_name_neighbours_whose_links_are_added_later() {
    let (mut routes, mut links) = (Routes::new(0), Links::default());
    routes.install(Some(vec![0, 0, 2, 3, 2]), vec![], &[], &mut links);
    assert_eq!(routes.towards(4), links.slot_for(2));
    assert_eq!(routes.towards(1), NO_LINK);
    assert_eq!(routes.towards(99), NO_LINK);
}

#[test]
fn a_pair_without_explicit_routes_uses_the_table() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0)]);
    let mut packet = fixture.packet(1);
    assert_eq!(fixture.routes.explicit(Instant::ZERO, (9, 1), &mut packet, true, &fixture.links), None);
    fixture.routes.install(None, vec![], &[(1, 9)], &mut fixture.links);
    assert_eq!(fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, true, &fixture.links), None);
}

/// The shares of weights 1:2:5 among 4,000 flows, within five standard deviations: the flows are fixed, so this either
/// holds always or never.
#[test]
fn the_shares_of_routes_are_those_of_their_weights() {
    for ids in [[1, 2, 3], [7, 70, 1_000_001], [4_294_967_295, 5, 6]] {
        let weights = [1.0, 2.0, 5.0];
        let mut ordered: Vec<_> = ids.into_iter().zip(weights).collect();
        let mut fixture = Fixture::new(&ordered);
        let found = fixture.all();
        assert_eq!(found, fixture.all(), "a flow keeps its route");
        ordered.reverse();
        fixture.install(&ordered);
        assert_eq!(found, fixture.all(), "whatever the order in which routes are installed");
        for (id, weight) in ordered {
            let count = found.iter().filter(|&&each| each == id).count() as f64;
            let share: f64 = weight / 8.0;
            let deviation = (4_000.0 * share * (1.0 - share)).sqrt();
            assert!((count - 4_000.0 * share).abs() < 5.0 * deviation, "{count} flows of {id}");
        }
    }
}

#[test]
fn only_the_flows_of_a_route_that_dies_move_and_they_come_back() {
    let weights = [(1, 1.0), (2, 2.0), (3, 5.0)];
    let mut fixture = Fixture::new(&weights);
    let before = fixture.all();
    let link = fixture.links.slot_for(103);
    let kill = |fixture: &mut Fixture, up| {
        fixture.links.set_up(Instant::ZERO, link, up, &mut fixture.io);
        fixture.routes.links_changed();
    };
    kill(&mut fixture, false);
    let during = fixture.all();
    assert!(before.iter().zip(&during).all(|(old, new)| if *old == 3 { *new != 3 } else { old == new }));
    let share = during.iter().filter(|&&route| route == 2).count();
    assert!((2_500..2_830).contains(&share), "the others take its flows by weight: {share}");
    kill(&mut fixture, true);
    assert_eq!(before, fixture.all());
    fixture.install(&weights[..2]);
    assert_eq!(during, fixture.all(), "removed is as good as dead");
}

#[test]
fn a_new_route_takes_its_share_and_moves_no_other_flow() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 2.0), (3, 5.0)]);
    fixture.install(&[(1, 1.0), (3, 5.0)]);
    let before = fixture.all();
    fixture.install(&[(1, 1.0), (2, 2.0), (3, 5.0)]);
    let after = fixture.all();
    assert!(before.iter().zip(&after).all(|(old, new)| old == new || *new == 2));
    assert!((860..1140).contains(&after.iter().filter(|&&route| route == 2).count()));
}

#[test]
fn a_pin_overrides_hashing_and_falls_back_while_its_route_is_dead() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0), (3, 1.0)]);
    let hashed = fixture.choice(5).route;
    let other = hashed % 3 + 1;
    assert_eq!(fixture.choice(5).by, ChosenBy::Hash);
    fixture.pin(1, None, other);
    assert_eq!(fixture.choice(5), RouteChoice { route: other, by: ChosenBy::Pin });
    assert_eq!(fixture.route(5), other);
    // One with more fields goes first.
    fixture.pin(2, Some(5), hashed);
    assert_eq!((fixture.route(5), fixture.route(6)), (hashed, other));
    fixture.routes.set_pins(vec![], &[2]);
    assert_eq!(fixture.route(5), other);
    let link = fixture.links.slot_for(neighbour(other));
    fixture.links.set_up(Instant::ZERO, link, false, &mut fixture.io);
    fixture.routes.links_changed();
    assert_eq!(fixture.choice(5), RouteChoice { route: hashed, by: ChosenBy::Fallback });
    fixture.pin(1, None, 77);
    assert_eq!(fixture.choice(5).by, ChosenBy::Fallback, "a route that does not exist");
    fixture.routes.set_pins(vec![], &[1, 1, 99]);
    assert_eq!(fixture.choice(5).by, ChosenBy::Hash);
}

#[test]
fn the_nodes_behind_the_first_one_follow_its_choice() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0)]);
    fixture.install(&[(1, 1.0), (2, 1.0)]);
    fixture.install(&[(1, 1.0), (2, 1.0)]);
    for (route, expected) in [(1, Some(1)), (2, Some(2)), (77, None)] {
        let mut packet = fixture.packet(5);
        packet.set_route(route);
        // Also when the link is down: a relay that chose again could send the packet in a circle.
        let link = fixture.links.slot_for(101);
        fixture.links.set_up(Instant::ZERO, link, false, &mut fixture.io);
        fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, false, &fixture.links);
        assert_eq!(packet.route(), expected.unwrap_or(2));
    }
    // What the first node is asked for is a pin of that flow alone.
    let hashed = fixture.route(9);
    let mut packet = fixture.packet(9);
    packet.set_route(3 - hashed);
    fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, true, &fixture.links);
    assert_eq!(packet.route(), 2, "the only one that is up");
}

#[test]
fn packets_on_their_way_stay_on_a_route_that_was_removed_until_the_next_change() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0)]);
    let old = fixture.links.slot_for(101);
    for left in [&[(2, 1.0)][..], &[]] {
        let mut packet = fixture.packet(5);
        fixture.install(&[(1, 1.0), (2, 1.0)]);
        fixture.install(left);
        packet.set_route(1);
        let links = fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, false, &fixture.links);
        assert_eq!(links, Some(&[old][..]), "{left:?}");
        let first = fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, true, &fixture.links);
        assert_eq!(first.is_some(), !left.is_empty(), "a new packet does not take it");
    }
    fixture.install(&[]);
    let mut packet = fixture.packet(5);
    packet.set_route(1);
    assert_eq!(fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, false, &fixture.links), None);
}

#[test]
fn a_route_that_is_down_everywhere_is_still_taken_rather_than_the_table() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0)]);
    for id in [101, 102] {
        let link = fixture.links.slot_for(id);
        fixture.links.set_up(Instant::ZERO, link, false, &mut fixture.io);
    }
    fixture.routes.links_changed();
    assert!((0..100).all(|port| fixture.route(port) > 0));
}

#[test]
fn the_record_of_flows_is_bounded_and_says_what_it_has_forgotten() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0)]);
    for port in 0..60_000 {
        fixture.route(port);
    }
    let pair = |_: &FiveTuple| Some((1, 9));
    let list = fixture.routes.routed_flows(Instant(5_000_000_000), 100, &fixture.links, pair);
    assert_eq!(list.flows.len(), 100);
    assert_eq!(list.flows[0].idle_ns, 5_000_000_000);
    assert!(list.known > 7_000 && list.known <= 8_192, "{}", list.known);
    assert_eq!(list.known + list.forgotten, 60_000);
}

#[test]
fn a_thousand_flows_are_all_recorded() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 2.0), (3, 5.0)]);
    let routes: Vec<RouteId> = (0..1_000).map(|port| fixture.route(port)).collect();
    let pair = |_: &FiveTuple| Some((1, 9));
    let list = fixture.routes.routed_flows(Instant::ZERO, 10_000, &fixture.links, pair);
    assert_eq!((list.flows.len(), list.known, list.forgotten), (1_000, 1_000, 0));
    for flow in list.flows {
        assert_eq!(flow.route, routes[usize::from(flow.flow.src_port)]);
    }
}

#[test]
fn fragments_of_a_datagram_share_a_route() {
    let mut fixture = Fixture::new(&[(1, 1.0), (2, 1.0), (3, 1.0)]);
    let mut chosen = Vec::new();
    for offset in [0x2000u16, 0x2003, 0x0006] {
        let mut packet = fixture.packet(4_000 + offset);
        let bytes = packet.bytes_mut().expect("not shared");
        bytes[6..8].copy_from_slice(&offset.to_be_bytes());
        let bytes = bytes.to_vec();
        packet.fill(&bytes, VnetHeader::default()).expect("a buffer");
        packet.parse(1500).expect("a fragment");
        fixture.routes.explicit(Instant::ZERO, (1, 9), &mut packet, true, &fixture.links);
        chosen.push(packet.route());
    }
    assert!(chosen.iter().all(|route| *route == chosen[0]), "{chosen:?}");
}
