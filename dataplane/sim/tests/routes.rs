//! Test several routes of one pair: shares, that no flow is split, and what happens when a link goes down.

mod common;

use common::{addr, udp};
use nm_engine::{Command, CommandError, CommandOutput, PairRoute, VnetHeader};
use nm_sim::{Lab, Wire};

/// Node 1 reaches node 5 over 2, 3 or 4; route *n* goes over node *n* + 1, with weights 1, 2 and 5.
fn three_ways() -> Lab {
    let mut lab = Lab::new(5, 1, |_| {});
    for middle in 2..=4 {
        lab.connect(1, middle, Wire::default());
        lab.connect(middle, 5, Wire::default());
    }
    lab.install_shortest_routes();
    install(&mut lab, &[1, 2, 3]);
    lab
}

fn install(lab: &mut Lab, ids: &[u32]) {
    let route = |id, hop| PairRoute {
        src: 1,
        dst: 5,
        id,
        weight: [1.0, 2.0, 5.0][id as usize - 1],
        next_hops: vec![hop],
    };
    let mut put = |node: u32, routes| {
        lab.command(node, Command::InstallRoutes { table: None, routes, removed: vec![(1, 5)] })
            .expect("routes");
    };
    put(1, ids.iter().map(|&id| route(id, id + 1)).collect());
    for &id in ids {
        put(id + 1, vec![route(id, 5)]);
    }
}

/// Sends `rounds` packets of each of 1,000 flows and returns the number of flows on each route.
fn spread(lab: &mut Lab, rounds: usize) -> Vec<u64> {
    let received = |lab: &Lab| -> Vec<u64> {
        (2..=4).map(|node| lab.stats(node).links.iter().map(|link| link.rx.packets).sum()).collect()
    };
    let before = received(lab);
    for _ in 0..rounds {
        for port in 0..1_000 {
            lab.send_ip(1, &udp(1, addr(5), 64, (1_000 + port, 9), b"x"), VnetHeader::default());
        }
        lab.run_for(1_000_000);
    }
    assert_eq!(lab.take(5).tun.len(), rounds * 1_000, "nothing is lost");
    let counts = received(lab).into_iter().zip(before).map(|(after, before)| after - before);
    counts
        .map(|count| {
            assert_eq!(count % rounds as u64, 0, "a flow was split");
            count / rounds as u64
        })
        .collect()
}

#[test]
fn a_thousand_flows_take_routes_by_weight_and_no_flow_is_split() {
    let mut lab = three_ways();
    let counts = spread(&mut lab, 3);
    // The 99 % interval of a share of 1,000 flows: 2.576 standard deviations of the binomial distribution.
    for (count, share) in counts.iter().zip([0.125, 0.25, 0.625]) {
        let half = 2.576 * (1_000.0f64 * share * (1.0 - share)).sqrt();
        assert!((*count as f64 - 1_000.0 * share).abs() <= half, "{counts:?}");
    }
    let list = lab.command(1, Command::RoutedFlows { limit: 5_000 });
    let Ok(CommandOutput::RoutedFlows(list)) = list else { panic!("a list, not {list:?}") };
    assert_eq!(list.flows.len(), 1_000);
    for (id, count) in (1..=3).zip(counts) {
        assert_eq!(list.flows.iter().filter(|flow| flow.route == id).count() as u64, count);
    }
}

#[test]
fn a_link_that_goes_down_at_the_first_node_moves_its_flows_at_once_and_no_other() {
    let mut lab = three_ways();
    let before = spread(&mut lab, 1);
    lab.set_link(1, 4, false);
    let during = spread(&mut lab, 2);
    assert_eq!(during[2], 0);
    assert!(during[0] > before[0] && during[1] > before[1]);
    lab.set_link(1, 4, true);
    assert_eq!(spread(&mut lab, 1), before);
}

#[test]
fn routes_change_under_load_without_a_lost_packet() {
    let mut lab = three_ways();
    let before = spread(&mut lab, 1);
    for port in 0..1_000 {
        lab.send_ip(1, &udp(1, addr(5), 64, (1_000 + port, 9), b"x"), VnetHeader::default());
    }
    // Packets of route 3 are on their way; node 4 no longer knows it when they arrive.
    install(&mut lab, &[1, 2]);
    lab.command(4, Command::InstallRoutes { table: None, routes: vec![], removed: vec![(1, 5)] })
        .expect("removed");
    lab.run_for(1_000_000);
    assert_eq!(lab.take(5).tun.len(), 1_000);
    let after = spread(&mut lab, 1);
    assert_eq!((after[2], after[0] + after[1]), (0, 1_000));
    assert!(after[0] > before[0]);
}

#[test]
fn a_route_without_number_or_with_a_weight_that_is_none_is_refused() {
    let mut lab = three_ways();
    for (id, weight) in [(0, 1.0), (1, 0.0), (1, -1.0), (1, f64::NAN), (1, f64::INFINITY)] {
        let route = PairRoute { src: 1, dst: 5, id, weight, next_hops: vec![2] };
        let refused =
            lab.command(1, Command::InstallRoutes { table: None, routes: vec![route], removed: vec![] });
        assert!(matches!(refused, Err(CommandError::Invalid(_))), "{id} {weight}");
    }
    assert_eq!(spread(&mut lab, 1).len(), 3);
}
