//! Test unicast through many engines: hops, routes, ICMP errors and counters.

mod common;

use common::{addr, header_is_whole, udp};
use nm_engine::{
    Command, CommandError, DropCause, LinkSpec, PairRoute, SharedBytes, Target, VnetHeader, MAX_MESSAGE,
};
use nm_sim::{Lab, Wire};

fn ping(lab: &mut Lab, from: u32, to: u32, ttl: u8, port: u16) {
    lab.send_ip(from, &udp(from, addr(to), ttl, (port, 7), b"ping"), VnetHeader::default());
    lab.run_for(1_000_000);
}

#[test]
fn all_pairs_of_a_ring_are_connected_and_only_relays_decrement_the_ttl() {
    let mut lab = Lab::ring(6, 1, &Wire::default());
    for from in 1..=6 {
        for to in (1..=6).filter(|to| *to != from) {
            ping(&mut lab, from, to, 64, 9);
            let got = lab.take(to).tun;
            assert_eq!(got.len(), 1, "{from} to {to}");
            let distance = (to.abs_diff(from)).min(6 - to.abs_diff(from));
            assert_eq!(u32::from(got[0][8]), 64 - (distance - 1), "{from} to {to}");
            assert!(header_is_whole(&got[0]));
            assert_eq!(&got[0][28..], b"ping");
        }
    }
}

#[test]
fn traceroute_lists_every_relay() {
    let mut lab = Lab::line(5, 1, &Wire::default());
    for ttl in 1..=3 {
        ping(&mut lab, 1, 5, ttl, 9);
        let answers = lab.take(1).tun;
        assert_eq!(answers.len(), 1);
        let answer = &answers[0];
        assert!(header_is_whole(answer));
        assert_eq!(answer[12..16], addr(u32::from(ttl) + 1), "the source of the ICMP error");
        assert_eq!((answer[9], answer[20], answer[21]), (1, 11, 0), "time exceeded");
        assert_eq!(nm_engine::wire::checksum::of(&answer[20..]), 0);
        assert_eq!(answer[28 + 12..28 + 20], [addr(1), addr(5)].concat(), "the quoted header");
        assert_eq!(lab.stats(u32::from(ttl) + 1).links[0].rx.drops.get(DropCause::Ttl), 1);
    }
    ping(&mut lab, 1, 5, 4, 9);
    assert_eq!(lab.take(5).tun.len(), 1);
}

#[test]
fn a_packet_without_a_route_causes_an_icmp_unreachable() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    for dst in [[10, 0, 0, 9], [8, 8, 8, 8]] {
        lab.send_ip(1, &udp(1, dst, 64, (1, 2), b"?"), VnetHeader::default());
        let answers = lab.take(1).tun;
        assert_eq!((answers[0][9], answers[0][20], answers[0][21]), (1, 3, 0));
    }
    assert_eq!(lab.stats(1).tun_rx.drops.get(DropCause::NoRoute), 2);
    // No ICMP error is sent about multicast without a route (RFC 1122, section 3.2.2).
    lab.send_ip(1, &udp(1, [224, 0, 0, 251], 1, (5353, 5353), b"mdns"), VnetHeader::default());
    assert!(lab.take(1).tun.is_empty());
}

#[test]
fn a_packet_above_the_mtu_causes_an_icmp_error_with_the_mtu() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    lab.shape(2, 3, LinkSpec { mtu: Some(1000), ..LinkSpec::default() });
    lab.send_ip(1, &udp(1, addr(3), 64, (1, 2), &[0; 1200]), VnetHeader::default());
    lab.run_for(1_000_000);
    let answer = lab.take(1).tun.remove(0);
    assert_eq!((answer[20], answer[21]), (3, 4));
    assert_eq!(answer[26..28], 1000u16.to_be_bytes());
    assert!(lab.take(3).tun.is_empty());
    lab.send_ip(1, &udp(1, addr(3), 64, (1, 2), &[0; 900]), VnetHeader::default());
    lab.run_for(1_000_000);
    assert_eq!(lab.take(3).tun.len(), 1);
}

#[test]
fn packets_for_a_link_that_is_down_are_dropped_and_counted() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    lab.set_link(2, 3, false);
    ping(&mut lab, 1, 3, 64, 9);
    assert!(lab.take(3).tun.is_empty());
    let link = lab.stats(2).links.into_iter().find(|link| link.remote == 3).expect("the link");
    assert_eq!(link.tx.drops.get(DropCause::LinkDown), 1);
    assert!(!link.up);
    lab.set_link(2, 3, true);
    ping(&mut lab, 1, 3, 64, 9);
    assert_eq!(lab.take(3).tun.len(), 1);
}

/// A diamond: 1 – 2 – 4 and 1 – 3 – 4.
fn diamond() -> Lab {
    let mut lab = Lab::new(4, 1, |_| {});
    for (a, b) in [(1, 2), (2, 4), (1, 3), (3, 4)] {
        lab.connect(a, b, Wire::default());
    }
    lab.install_shortest_routes();
    lab
}

fn install(lab: &mut Lab, node: u32, routes: Vec<PairRoute>) {
    lab.command(node, Command::InstallRoutes { table: None, routes, removed: vec![] }).expect("routes");
}

#[test]
fn a_route_with_two_next_hops_sends_a_copy_over_each() {
    let mut lab = diamond();
    install(&mut lab, 1, vec![PairRoute { src: 1, dst: 4, id: 1, weight: 1.0, next_hops: vec![2, 3] }]);
    ping(&mut lab, 1, 4, 64, 9);
    assert_eq!(lab.take(4).tun.len(), 2);
    lab.command(1, Command::InstallRoutes { table: None, routes: vec![], removed: vec![(1, 4)] })
        .expect("removed");
    ping(&mut lab, 1, 4, 64, 9);
    assert_eq!(lab.take(4).tun.len(), 1);
}

#[test]
fn messages_are_delivered_to_receivers_and_other_packets_to_tun() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    let receiver = lab.listen(3, 1, None);
    for len in [0, 1, 1400, 1473, 20_000, MAX_MESSAGE] {
        let payload = SharedBytes::new(nm_sim::pattern(len, 4));
        let message =
            Command::SendMessage { target: Target::Node(3), src_port: None, dst_port: None, payload };
        lab.command(1, message).expect("sent");
        lab.run_for(1_000_000);
        let inbox = lab.take(3);
        assert!(inbox.tun.is_empty());
        assert_eq!(inbox.deliveries.len(), 1);
        let delivery = &inbox.deliveries[0];
        assert_eq!(delivery.receiver, receiver);
        assert_eq!(delivery.payload(), nm_sim::pattern(len, 4));
        assert_eq!((delivery.src_port, delivery.dst_port), (45_535, 8_888));
        assert_eq!(delivery.src_ip.octets(), addr(1));
    }
    ping(&mut lab, 1, 3, 64, 9);
    assert_eq!(lab.take(3).tun.len(), 1);
    lab.command(3, Command::CloseReceiver { receiver }).expect("closed");
    assert!(lab.command(3, Command::CloseReceiver { receiver }).is_err());
}

#[test]
fn user_space_addresses_belong_to_receivers_and_never_reach_tun() {
    let mut lab = Lab::new(2, 1, |config| config.addresses.user_base_addr = Some([10, 9, 0, 0].into()));
    lab.connect(1, 2, Wire::default());
    lab.install_shortest_routes();
    let send = |lab: &mut Lab| {
        let payload = SharedBytes::new(b"hello");
        let message =
            Command::SendMessage { target: Target::Node(2), src_port: None, dst_port: None, payload };
        lab.command(1, message).expect("sent");
        lab.run_for(1_000_000);
        lab.take(2)
    };
    assert!(send(&mut lab).tun.is_empty());
    assert_eq!(lab.stats(2).links[0].rx.drops.get(DropCause::NoReceiver), 1);
    lab.listen(2, 1, None);
    let delivery = send(&mut lab).deliveries.remove(0);
    assert_eq!((delivery.src_ip.octets(), delivery.dst_ip.octets()), ([10, 9, 0, 1], [10, 9, 0, 2]));
}

#[test]
fn all_nodes_of_a_ring_of_a_thousand_are_reachable_in_pipe_mode() {
    let mut lab = Lab::new(1000, 1, |config| config.ttl_mode = nm_engine::TtlMode::Pipe);
    for node in 1..=1000 {
        lab.connect(node, node % 1000 + 1, Wire::default());
    }
    lab.install_shortest_routes();
    lab.send_ip(1, &udp(1, addr(501), 64, (1, 2), b"far"), VnetHeader::default());
    lab.run_for(20_000_000);
    assert_eq!(lab.take(501).tun[0][8], 64);
}

#[test]
fn a_message_that_cannot_be_sent_is_refused_immediately() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    let mut send = |target, len| {
        let payload = SharedBytes::new(vec![0; len]);
        lab.command(1, Command::SendMessage { target, src_port: None, dst_port: None, payload })
    };
    let too_large = CommandError::MessageTooLarge { len: MAX_MESSAGE + 1, max: MAX_MESSAGE };
    assert_eq!(send(Target::Node(2), MAX_MESSAGE + 1).expect_err("too large"), too_large);
    assert_eq!(send(Target::Node(7), 1).expect_err("no route"), CommandError::NoRoute(7));
    let group = std::net::Ipv4Addr::new(239, 255, 0, 1);
    assert_eq!(
        send(Target::Group(group), 1).expect_err("no group"),
        CommandError::UnknownGroupAddress(group)
    );
}

#[test]
fn a_large_message_on_a_lossy_link_is_lost_whole_or_arrives_whole() {
    let mut lab = Lab::line(2, 5, &Wire::default());
    lab.shape(1, 2, LinkSpec { loss: 0.02, rate_bps: Some(100_000_000), ..LinkSpec::default() });
    lab.listen(2, 1, None);
    let payload = nm_sim::pattern(30_000, 1);
    for _ in 0..200 {
        let shared = SharedBytes::new(payload.clone());
        let message =
            Command::SendMessage { target: Target::Node(2), src_port: None, dst_port: None, payload: shared };
        lab.command(1, message).expect("sent");
        lab.run_for(10_000_000);
    }
    let arrived = lab.take(2).deliveries;
    assert!(arrived.iter().all(|delivery| delivery.payload() == payload));
    // 21 fragments each: 0.98^21 = 65 % of the messages survive.
    assert!((100..160).contains(&arrived.len()), "{}", arrived.len());
}

#[test]
fn a_corrupted_message_is_not_delivered_and_a_corrupted_packet_keeps_its_length() {
    let mut lab = Lab::line(3, 5, &Wire::default());
    lab.shape(1, 2, LinkSpec { corrupt: 1.0, ..LinkSpec::default() });
    lab.listen(3, 1, None);
    for len in [0, 1, 1400, 30_000] {
        let payload = SharedBytes::new(vec![0; len]);
        let message =
            Command::SendMessage { target: Target::Node(3), src_port: None, dst_port: None, payload };
        lab.command(1, message).expect("sent");
    }
    lab.run_for(10_000_000);
    assert!(lab.take(3).deliveries.is_empty());
    let fragments = 30_028_u64.div_ceil(1480);
    assert_eq!(lab.stats(3).links[0].rx.drops.get(DropCause::Checksum), 3 + fragments);
    assert_eq!(lab.stats(1).links[0].impaired.corrupt, 3 + fragments);
    let sent = udp(1, addr(3), 64, (1, 2), &[0; 900]);
    lab.send_ip(1, &sent, VnetHeader::default());
    lab.run_for(1_000_000);
    let arrived = lab.take(3).tun.remove(0);
    assert_eq!(arrived.len(), sent.len());
    let bits: u32 = arrived[28..].iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(bits, 1);
}

#[test]
fn counters_of_both_ends_of_a_link_agree() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    for port in 0..10 {
        ping(&mut lab, 1, 3, 64, port);
        ping(&mut lab, 3, 1, 64, port);
    }
    let middle = lab.stats(2);
    for link in &middle.links {
        let far = lab.stats(link.remote);
        assert_eq!(far.links[0].rx, link.tx);
        assert_eq!(far.links[0].tx, link.rx);
        assert_eq!((link.tx.packets, link.tx.bytes), (10, 10 * 32));
    }
    assert!(middle.flows.is_empty(), "relays count links, ends count flows");
    let flows = lab.stats(1).flows;
    assert_eq!(flows.len(), 20);
    assert_eq!(flows.iter().map(|flow| flow.bytes).sum::<u64>(), 20 * 32);
}
