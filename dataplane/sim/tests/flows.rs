//! User-space flows over simulated networks: exact counts, deterministic times, and every kind of end.

#![allow(clippy::expect_used, reason = "a test without its lab has failed")]

use std::net::Ipv4Addr;
use std::time::Duration;

use nm_engine::{Instant, LinkSpec, NodeConfig, NodeId};
use nm_flows::{Amount, EndReason, FlowEnd, FlowError, FlowEvent, FlowSpec};
use nm_sim::{Lab, Wire};

const SECOND: u64 = 1_000_000_000;

#[test]
fn every_byte_is_counted_once_in_spite_of_loss_duplication_reordering_and_corruption() {
    let wire = Wire { loss: 0.02, duplicate: 0.02, reorder: 0.05, corrupt: 0.01, ..Wire::default() };
    for seed in 0..4 {
        let mut lab = ring(6, seed, &wire);
        let flows: Vec<FlowSpec> =
            (1..=6).map(|n| bytes(u64::from(n), n, n % 6 + 1, 700_000 + u64::from(n))).collect();
        let ends = run(&mut lab, &flows);
        for (flow, end) in flows.iter().zip(&ends) {
            assert_eq!((end.reason, Amount::Bytes(end.bytes)), (EndReason::Complete, flow.amount), "{end:?}");
            assert!(end.ended > end.began);
        }
    }
}

#[test]
fn sizes_around_a_segment_and_of_zero_are_exact() {
    let mut lab = ring(3, 1, &Wire::lossy(0.05));
    let sizes = [0, 1, 15, 16, 1_443, 1_444, 1_445, 1_460, 1_461, 65_536, 1 << 20];
    let flows: Vec<FlowSpec> = sizes.iter().zip(1..).map(|(size, id)| bytes(id, 1, 2, *size)).collect();
    let ends = run(&mut lab, &flows);
    assert_eq!(ends.iter().map(|end| end.bytes).collect::<Vec<_>>(), sizes);
}

#[test]
fn one_seed_gives_identical_times_and_another_seed_other_ones() {
    let result = |seed| {
        let mut lab = ring(5, seed, &Wire::lossy(0.03));
        run(&mut lab, &[bytes(1, 1, 3, 300_000), bytes(2, 2, 5, 500_000), timed(3, 4, 1, 400)])
    };
    assert_eq!(result(7), result(7));
    assert_ne!(result(7), result(8));
}

#[test]
fn a_flow_uses_most_of_a_shaped_link() {
    let mut lab = ring(2, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), delay_us: 10_000, ..LinkSpec::default() });
    let ends = run(&mut lab, &[bytes(1, 1, 2, 5_000_000)]);
    // 4.1 s of serialization with headers, and the slow start.
    let took = ends[0].ended - ends[0].began;
    assert!((Duration::from_millis(4_100)..Duration::from_millis(5_000)).contains(&took), "{took:?}");
}

#[test]
fn flows_over_links_with_smaller_mtus_use_the_smallest() {
    let mut lab = ring(7, 1, &Wire::default());
    let mtu = |mtu| LinkSpec { mtu: Some(mtu), delay_us: 1_000, ..LinkSpec::default() };
    lab.shape_all(&mtu(1400));
    lab.shape(2, 3, mtu(1000));
    lab.shape(3, 4, mtu(576));
    let ends = run(&mut lab, &[bytes(1, 1, 4, 300_000), bytes(2, 1, 2, 300_000)]);
    for end in &ends {
        assert_eq!((end.reason, end.bytes), (EndReason::Complete, 300_000), "{end:?}");
    }
    // Each smaller MTU costs a retransmission timeout, 1 s before a round trip was measured, once.
    let took = ends[0].ended - ends[0].began;
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    // The next flow knows the path: some 560 segments, without a loss.
    let lost = |lab: &Lab, node: NodeId| lab.stats(node).links.iter().map(|link| link.tx.drops.total()).sum();
    let before: Vec<u64> = (1..=3).map(|node| lost(&lab, node)).collect();
    lab.add_flows(&[bytes(3, 1, 4, 300_000)]).expect("a flow");
    assert!(lab.run_until(|lab| lab.flow_ends(1).len() == 3));
    assert_eq!(lab.flow_ends(1)[2].bytes, 300_000);
    assert_eq!((1..=3).map(|node| lost(&lab, node)).collect::<Vec<u64>>(), before);
}

#[test]
fn flows_share_a_lossy_bottleneck_and_all_finish() {
    let mut lab = ring(2, 3, &Wire::lossy(0.01));
    let spec = LinkSpec {
        rate_bps: Some(20_000_000),
        delay_us: 10_000,
        limit_packets: Some(50),
        ..LinkSpec::default()
    };
    lab.shape_all(&spec);
    let flows: Vec<FlowSpec> = (1..=8).map(|id| bytes(id, 1, 2, 1_000_000)).collect();
    let ends = run(&mut lab, &flows);
    assert!(ends.iter().all(|end| end.bytes == 1_000_000 && end.reason == EndReason::Complete));
    let last = ends.iter().map(|end| end.ended).max().expect("eight flows");
    // 3.3 s at the full rate.
    assert!(last < Instant(10 * SECOND), "{last:?}");
}

#[test]
fn a_rate_is_kept() {
    let mut lab = ring(3, 1, &Wire::default());
    let slow = FlowSpec { rate_bps: Some(8_000_000), ..bytes(1, 1, 2, 2_000_000) };
    let ends = run(&mut lab, &[slow]);
    let took = (ends[0].ended - ends[0].began).as_secs_f64();
    assert!((1.95..2.05).contains(&took), "{took}");
}

#[test]
fn a_flow_by_time_ends_in_time_and_counts_what_arrived() {
    let mut lab = ring(2, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), delay_us: 5_000, ..LinkSpec::default() });
    let ends = run(&mut lab, &[timed(1, 1, 2, 2_000)]);
    let took = (ends[0].ended - ends[0].began).as_secs_f64();
    let mbps = ends[0].bytes as f64 * 8.0 / took / 1e6;
    assert!(ends[0].reason == EndReason::Complete && (2.0..3.0).contains(&took), "{took}");
    assert!((8.0..10.0).contains(&mbps), "{mbps}");
}

#[test]
fn a_stopped_flow_reports_what_the_destination_counted() {
    let mut lab = ring(4, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), delay_us: 2_000, ..LinkSpec::default() });
    lab.add_flows(&[bytes(1, 1, 3, 1 << 40), bytes(2, 1, 3, 1 << 40)]).expect("flows");
    lab.start_flows();
    lab.run_for(SECOND);
    lab.stop_flows(1, &[1, 99]);
    lab.run_for(SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!(ends.len(), 1, "the other flow runs");
    assert_eq!((ends[0].id, ends[0].reason), (1, EndReason::Stopped));
    assert!(ends[0].bytes > 100_000, "{:?}", ends[0]);
    lab.stop_flows(1, &[1, 2]);
    lab.run_for(20 * SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!(ends.iter().map(|end| end.id).collect::<Vec<_>>(), [1, 1, 2], "the first is reported again");
    assert_eq!((lab.flow_connections(1), lab.flow_connections(3)), (0, 0));
}

#[test]
fn a_flow_that_waits_for_the_start_is_stopped_at_once() {
    let mut lab = ring(3, 1, &Wire::default());
    lab.add_flows(&[bytes(1, 1, 2, 10)]).expect("a flow");
    lab.run_for(SECOND);
    lab.stop_flows(1, &[1]);
    let ends = lab.flow_ends(1);
    assert_eq!((ends[0].reason, ends[0].bytes, ends[0].key), (EndReason::Stopped, 0, None));
}

#[test]
fn a_destination_that_vanishes_ends_the_flow_after_two_minutes() {
    let mut lab = ring(4, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), ..LinkSpec::default() });
    lab.add_flows(&[bytes(1, 1, 3, 1 << 40)]).expect("a flow");
    lab.start_flows();
    lab.run_for(SECOND);
    lab.set_link(2, 3, false);
    lab.set_link(3, 4, false);
    lab.run_for(200 * SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].reason, EndReason::TimedOut);
    let took = (ends[0].ended - ends[0].began).as_secs();
    assert!((119..=125).contains(&took), "{took}");
    assert!(ends[0].bytes > 100_000, "what was acknowledged");
    assert_eq!((lab.flow_connections(1), lab.flow_connections(3)), (0, 0), "the destination gives up too");
}

#[test]
fn an_interruption_shorter_than_the_limit_delays_a_flow() {
    let mut lab = ring(2, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), delay_us: 1_000, ..LinkSpec::default() });
    lab.add_flows(&[bytes(1, 1, 2, 5_000_000)]).expect("a flow");
    lab.start_flows();
    lab.run_for(SECOND);
    lab.set_link(1, 2, false);
    lab.run_for(60 * SECOND);
    lab.set_link(1, 2, true);
    lab.run_for(60 * SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!(
        ends.iter().map(|end| (end.reason, end.bytes)).collect::<Vec<_>>(),
        [(EndReason::Complete, 5_000_000)]
    );
}

#[test]
fn a_missing_route_is_named() {
    let mut lab = unconnected(2, 1);
    lab.add_flows(&[bytes(1, 1, 2, 10)]).expect("a flow");
    lab.start_flows();
    lab.run_for(200 * SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!((ends[0].reason, ends[0].bytes), (EndReason::RouteGone, 0));
}

#[test]
fn a_destination_that_was_restarted_resets_the_flow_and_accepts_a_new_one() {
    let mut lab = ring(3, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), ..LinkSpec::default() });
    lab.add_flows(&[bytes(1, 1, 2, 1 << 40)]).expect("a flow");
    lab.start_flows();
    lab.run_for(SECOND);
    lab.kill(2);
    lab.start_node(config(2, 1, 77));
    lab.install_shortest_routes();
    lab.run_for(20 * SECOND);
    assert_eq!(lab.flow_ends(1)[0].reason, EndReason::Reset);
    lab.add_flows(&[bytes(2, 1, 2, 1_000)]).expect("a flow");
    lab.run_for(20 * SECOND);
    assert_eq!(lab.flow_ends(1)[1].bytes, 1_000);
}

#[test]
fn a_repeated_request_does_not_start_a_flow_twice() {
    let mut lab = ring(3, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(10_000_000), ..LinkSpec::default() });
    let flows = [bytes(1, 1, 2, 1_000_000)];
    for _ in 0..3 {
        lab.add_flows(&flows).expect("a flow");
        lab.start_flows();
        lab.run_for(SECOND / 10);
    }
    assert_eq!(lab.flow_connections(2), 1);
    lab.run_for(5 * SECOND);
    assert_eq!(lab.flow_ends(1).len(), 1);
    lab.add_flows(&flows).expect("a flow");
    let ends = lab.flow_ends(1);
    assert_eq!((ends.len(), &ends[0]), (2, &ends[1]), "the result is reported again");
    let began = lab.take(1).flows.iter().filter(|event| matches!(event, FlowEvent::Began { .. })).count();
    assert_eq!(began, 3, "the beginning, and once more for each repetition while it ran");
}

#[test]
fn a_repeated_request_changes_the_rate_of_a_running_flow() {
    let mut lab = ring(3, 1, &Wire::default());
    let at = |rate_bps| FlowSpec { rate_bps, ..bytes(1, 1, 2, 10_000_000) };
    lab.add_flows(&[at(Some(80_000))]).expect("a flow");
    lab.start_flows();
    lab.run_for(SECOND);
    lab.add_flows(&[at(Some(80_000_000))]).expect("the same flow");
    lab.run_for(2 * SECOND);
    let ends = lab.flow_ends(1);
    assert_eq!(ends.len(), 1);
    let took = (ends[0].ended - ends[0].began).as_secs_f64();
    // The rest of 9.99 MB takes a second.
    assert!((1.95..2.1).contains(&took), "{took}");
}

#[test]
fn flows_that_cannot_run_are_refused() {
    let mut lab = ring(3, 1, &Wire::default());
    assert_eq!(lab.add_flows(&[bytes(1, 2, 2, 10)]), Err(FlowError::SameNode(1)));
}

#[test]
fn a_thousand_flows_on_a_ring_of_16_all_finish_with_every_byte() {
    let mut lab = ring(16, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(1_000_000_000), delay_us: 1_000, ..LinkSpec::default() });
    let flows: Vec<FlowSpec> = (0..1_000_u32)
        .map(|n| {
            bytes(u64::from(n) + 1, n % 16 + 1, (n % 16 + 1 + n / 16 % 15) % 16 + 1, 50_000 + u64::from(n))
        })
        .collect();
    let ends = run(&mut lab, &flows);
    assert_eq!(ends.len(), 1_000);
    for (flow, end) in flows.iter().zip(&ends) {
        assert_eq!((end.reason, Amount::Bytes(end.bytes)), (EndReason::Complete, flow.amount));
    }
    lab.run_for(20 * SECOND);
    assert!((1..=16).all(|node| lab.flow_connections(node) == 0), "no connection is left");
}

#[test]
fn progress_is_reported_every_second() {
    let mut lab = ring(3, 1, &Wire::default());
    let slow = FlowSpec { rate_bps: Some(8_000), ..bytes(1, 1, 2, 1_000_000) };
    lab.add_flows(&[slow]).expect("a flow");
    lab.start_flows();
    lab.run_for(10 * SECOND + SECOND / 2);
    let events = lab.take(1).flows;
    let progress: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            FlowEvent::Progressed(flows) => Some(flows[0].1),
            _ => None,
        })
        .collect();
    assert!(progress.len() >= 6 && progress.windows(2).all(|pair| pair[0] < pair[1]), "{progress:?}");
}

/// Runs flows until all have ended; their results by number.
fn run(lab: &mut Lab, flows: &[FlowSpec]) -> Vec<FlowEnd> {
    lab.add_flows(flows).expect("valid flows");
    lab.start_flows();
    let nodes: Vec<NodeId> = (1..=flows.iter().map(|flow| flow.src).max().unwrap_or(0)).collect();
    let ends = |lab: &Lab| nodes.iter().map(|node| lab.flow_ends(*node).len()).sum::<usize>();
    assert!(lab.run_until(|lab| ends(lab) == flows.len()), "{} of {} ended", ends(lab), flows.len());
    let mut found: Vec<FlowEnd> = nodes.iter().flat_map(|node| lab.flow_ends(*node)).collect();
    found.sort_by_key(|end| end.id);
    found
}

fn bytes(id: u64, src: NodeId, dst: NodeId, size: u64) -> FlowSpec {
    FlowSpec { id, src, dst, amount: Amount::Bytes(size), rate_bps: None, weight: 1, route: 0 }
}

fn timed(id: u64, src: NodeId, dst: NodeId, millis: u64) -> FlowSpec {
    FlowSpec { amount: Amount::Time(Duration::from_millis(millis)), ..bytes(id, src, dst, 0) }
}

fn config(node: NodeId, seed: u64, incarnation: u64) -> NodeConfig {
    let mut config = NodeConfig::new(node);
    config.addresses.user_base_addr = Some(Ipv4Addr::new(192, 168, 0, 0));
    (config.seed, config.incarnation) = (seed, incarnation);
    config
}

fn unconnected(n: u32, seed: u64) -> Lab {
    Lab::new(n, seed, |each| *each = config(each.node_id, seed, 1))
}

fn ring(n: u32, seed: u64, wire: &Wire) -> Lab {
    let mut lab = unconnected(n, seed);
    for node in 1..=n {
        lab.connect(node, node % n + 1, wire.clone());
    }
    lab.install_shortest_routes();
    lab
}
