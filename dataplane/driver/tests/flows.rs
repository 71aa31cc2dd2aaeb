//! Tests of user-space flows over the links of real runtimes: every byte is counted, and every flow ends.

mod common;

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use common::flows::{add, prepare, spec, wait_ends};
use common::{dial, join, node, runtime, runtime_for, TestNode, CARRIERS};
use nm_driver::runtime::{LinkKind, PortError};
use nm_engine::{Command, PairRoute};
use nm_flows::{Amount, EndReason, FlowEvent, FlowSpec};

#[test]
fn a_flow_between_processes_delivers_every_byte_over_each_kind_of_link() {
    for carrier in CARRIERS {
        let (home, away) = (runtime_for(carrier, 1), runtime_for(carrier, 1));
        let (one, two) = (node(&home, 1), node(&away, 2));
        one.link(2, LinkKind::Accept);
        dial(&two, &home, 1);
        one.record.wait_link(2, true);
        two.record.wait_link(1, true);
        one.route(&[(2, 2)]);
        two.route(&[(1, 1)]);
        [&one, &two].into_iter().for_each(prepare);
        let size = 8_000_001;
        add(&[&one, &two], &[spec(7, 1, 2, Amount::Bytes(size), None)]);
        let end = wait_ends(&one, 1).remove(0);
        assert_eq!(
            (end.id, end.bytes, end.reason),
            (7, size, EndReason::Complete),
            "{carrier:?}"
        );
        let began = one.record.wait("the beginning", |record| {
            record.flows.iter().find_map(|event| match event {
                FlowEvent::Began { id, key, at } => Some((*id, *key, *at)),
                _ => None,
            })
        });
        assert_eq!((began.0, Some(began.1), began.2), (7, end.key, end.began));
    }
}

#[test]
fn flows_by_time_end_in_time_and_stopped_ones_at_once() {
    let runtime = runtime(2);
    let (one, two) = (node(&runtime, 1), node(&runtime, 2));
    join(&one, &two);
    one.route(&[(2, 2)]);
    two.route(&[(1, 1)]);
    [&one, &two].into_iter().for_each(prepare);
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(3_600));
    let flows = [
        spec(1, 1, 2, Amount::Time(short), Some(20_000_000)),
        spec(2, 1, 2, Amount::Time(long), Some(20_000_000)),
    ];
    add(&[&one, &two], &flows);
    let end = wait_ends(&one, 1).remove(0);
    let took = end.ended - end.began;
    assert!(
        end.reason == EndReason::Complete && took >= short && took < 10 * short,
        "{took:?}"
    );
    // 750 kB at the full rate.
    assert!((300_000..800_000).contains(&end.bytes), "{}", end.bytes);
    stop(&one, 2);
    let end = wait_ends(&one, 2).remove(1);
    assert_eq!((end.id, end.reason), (2, EndReason::Stopped));
    assert!(end.bytes > 300_000, "{}", end.bytes);
}

#[test]
fn a_flow_to_its_own_source_is_refused() {
    let runtime = runtime(1);
    let one = node(&runtime, 1);
    prepare(&one);
    let (sender, answer) = sync_channel(1);
    let flow = spec(1, 1, 1, Amount::Bytes(1), None);
    one.port.add_flows_then(vec![flow], move |answer| {
        assert!(sender.send(answer).is_ok())
    });
    let Ok(Err(PortError::Command(error))) = answer.recv() else {
        panic!("a refusal")
    };
    assert_eq!(
        error.to_string(),
        "flow 1 has the same source and destination"
    );
}

#[test]
fn the_route_of_a_flow_is_reported_as_it_begins_and_whenever_it_moves() {
    let runtime = runtime(2);
    let nodes = [node(&runtime, 1), node(&runtime, 2), node(&runtime, 3)];
    let [one, two, three] = &nodes;
    join(one, two);
    join(one, three);
    join(three, two);
    one.route(&[(2, 2)]);
    two.route(&[(1, 1)]);
    nodes.iter().for_each(prepare);
    let route = |id, hop| PairRoute {
        src: 1,
        dst: 2,
        id,
        weight: 1.0,
        next_hops: vec![hop],
    };
    let install = |at: &TestNode, routes| {
        at.command(Command::InstallRoutes {
            table: None,
            routes,
            removed: vec![(1, 2)],
        })
    };
    let reported = |count: usize| {
        one.record.wait("the routes", |record| {
            let routes = record.flows.iter().filter_map(|event| match event {
                FlowEvent::Routed { route, .. } => Some(*route),
                _ => None,
            });
            Some(routes.collect::<Vec<_>>()).filter(|routes| routes.len() >= count)
        })
    };
    install(three, vec![route(8, 2)]);
    install(one, vec![route(7, 2), route(8, 3)]);
    let flow = FlowSpec {
        route: 7,
        ..spec(
            1,
            1,
            2,
            Amount::Time(Duration::from_secs(3_600)),
            Some(8_000_000),
        )
    };
    add(&[one, two], std::slice::from_ref(&flow));
    assert_eq!(reported(1), [7]);
    // Another route is asked for, its route goes, all go, and one is back.
    add(&[one, two], &[FlowSpec { route: 8, ..flow }]);
    assert_eq!(reported(2), [7, 8]);
    install(one, vec![route(7, 2)]);
    assert_eq!(reported(3), [7, 8, 7]);
    install(one, vec![]);
    assert_eq!(reported(4), [7, 8, 7, 0]);
    install(one, vec![route(8, 3)]);
    assert_eq!(reported(5), [7, 8, 7, 0, 8]);
    stop(one, 1);
    let end = wait_ends(one, 1).remove(0);
    assert_eq!(end.reason, EndReason::Stopped);
    assert!(end.bytes > 0);
}

fn stop(node: &TestNode, flow: u64) {
    let (sender, stopped) = sync_channel(1);
    node.port.stop_flows_then(vec![flow], move |answer| {
        assert!(sender.send(answer.is_ok()).is_ok())
    });
    assert_eq!(stopped.recv(), Ok(true));
}
