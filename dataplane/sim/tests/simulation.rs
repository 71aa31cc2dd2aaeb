//! Experiments in virtual time: changes have their effect at their time, rounds wait for each other, input is checked.

#![allow(clippy::expect_used, reason = "a test without its simulation has failed")]

use std::net::Ipv4Addr;

use nm_engine::{Instant, LinkSpec, NodeConfig, NodeId};
use nm_flows::{Amount, EndReason, FlowError, FlowSpec};
use nm_sim::{Begin, Change, FlowResult, Progress, Simulation, SimulationError};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

#[test]
fn a_change_has_its_effect_at_its_time() {
    let took = |at: Option<u64>| {
        let mut simulation = line(2, 1, mbit(20));
        if let Some(at) = at {
            let change = Change::Link { from: 1, to: 2, spec: Box::new(mbit(10)) };
            simulation.change_at(Instant(at), change).expect("a link");
        }
        simulation.add_flow(flow(1, 1, 2, 5_000_000), Begin::At(Instant::ZERO)).expect("a flow");
        let end = finish(&mut simulation)[0].end.clone();
        (end.ended - end.began).as_secs_f64()
    };
    let (whole, halved, late) = (took(None), took(Some(0)), took(Some(SECOND)));
    assert!((2.0..2.4).contains(&whole) && (1.9..2.1).contains(&(halved / whole)), "{whole} {halved}");
    assert!(whole < late && late < halved, "{whole} {late} {halved}");
}

#[test]
fn steps_and_pauses_change_nothing() {
    let run = |seed, steps, pause| {
        let mut simulation = line(3, seed, LinkSpec { loss: 0.02, ..mbit(20) });
        for id in 1..=4 {
            let begin = Begin::At(Instant(id * MILLISECOND));
            simulation.add_flow(flow(id, 1, 3, 200_000), begin).expect("a flow");
        }
        let mut at = Instant(pause);
        loop {
            match simulation.advance(steps, at).expect("a sound simulation") {
                Progress::Ended => break simulation.take_ended(),
                Progress::Paused => at = simulation.now().plus_nanos(pause),
                Progress::Running => {}
            }
        }
    };
    let whole = run(7, u64::MAX, 60 * SECOND);
    assert_eq!((&run(7, 1, 60 * SECOND), &run(7, 1_000, 777_777)), (&whole, &whole));
    assert_ne!(run(8, 1_000, 60 * SECOND), whole);
}

#[test]
fn a_round_begins_when_the_one_before_has_ended() {
    let mut simulation = line(3, 1, mbit(100));
    let chain = simulation.add_chain(Instant(2 * MILLISECOND));
    for (id, round) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
        simulation.add_flow(flow(id, 1, 3, 100_000 * id), Begin::Round { chain, round }).expect("a flow");
    }
    let results = finish(&mut simulation);
    let of = |id| results.iter().find(|result| result.end.id == id).expect("each has ended");
    assert_eq!((of(1).due, of(2).due), (Instant(2 * MILLISECOND), Instant(2 * MILLISECOND)));
    assert_eq!(of(3).due, of(1).end.ended.max(of(2).end.ended));
    assert_eq!(of(4).due, of(3).end.ended);
    assert!(results.iter().all(|result| result.end.reason == EndReason::Complete));
}

#[test]
fn a_link_that_is_down_carries_nothing_until_it_is_up() {
    let mut simulation = line(2, 1, mbit(100));
    for (at, up) in [(0, false), (SECOND, true)] {
        simulation.change_at(Instant(at), Change::Carrier { a: 1, b: 2, up }).expect("a link");
    }
    simulation.add_flow(flow(1, 1, 2, 1_000), Begin::At(Instant::ZERO)).expect("a flow");
    let results = finish(&mut simulation);
    assert!(results[0].end.began > Instant(SECOND), "{results:?}");
    assert_eq!(results[0].due, Instant::ZERO);
}

#[test]
fn what_has_not_ended_when_the_time_is_up_is_still_running() {
    let mut simulation = line(2, 1, mbit(1));
    simulation.add_flow(flow(1, 1, 2, 1 << 30), Begin::At(Instant::ZERO)).expect("a flow");
    simulation.add_flow(flow(2, 1, 2, 1), Begin::At(Instant(61 * SECOND))).expect("a flow");
    assert_eq!(finish(&mut simulation), []);
    assert_eq!(simulation.now(), Instant(60 * SECOND));
    let running: Vec<_> = simulation.running().collect();
    assert_eq!(running.len(), 1, "the other would begin later");
    assert!((6_000_000..7_500_000).contains(&running[0].acknowledged), "{running:?}");
}

#[test]
fn wrong_input_is_refused() {
    let mut simulation = line(2, 1, mbit(1));
    let begin = Begin::At(Instant::ZERO);
    let text = |error: Result<(), SimulationError>| error.expect_err("a refusal").to_string();
    assert_eq!(text(simulation.add_flow(flow(1, 1, 3, 1), begin)), "there is no node 3");
    let same = simulation.add_flow(flow(1, 1, 1, 1), begin);
    assert!(matches!(same, Err(SimulationError::Flow(FlowError::SameNode(1)))));
    simulation.add_flow(flow(1, 1, 2, 1), begin).expect("a flow");
    assert_eq!(text(simulation.add_flow(flow(1, 1, 2, 1), begin)), "flow 1 is there twice");
    let round = Begin::Round { chain: 0, round: 1 };
    assert_eq!(text(simulation.add_flow(flow(2, 1, 2, 1), round)), "there is no chain 0");
    let change = Change::Carrier { a: 2, b: 3, up: false };
    assert_eq!(text(simulation.change_at(Instant::ZERO, change)), "there is no link between nodes 2 and 3");
    let broken = LinkSpec { loss: 2.0, ..LinkSpec::default() };
    let change = Change::Link { from: 1, to: 2, spec: Box::new(broken) };
    simulation.change_at(Instant(5_000), change).expect("a link");
    let refused = loop {
        match simulation.advance(1, Instant(SECOND)) {
            Ok(progress) => assert_eq!(progress, Progress::Running),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.starts_with("node 1 refuses a change at 5 µs: "), "{refused}");
}

fn finish(simulation: &mut Simulation) -> Vec<FlowResult> {
    let progress = simulation.advance(u64::MAX, Instant(100 * SECOND)).expect("a sound simulation");
    assert_eq!(progress, Progress::Ended);
    simulation.take_ended()
}

fn mbit(rate: u64) -> LinkSpec {
    LinkSpec {
        rate_bps: Some(rate * 1_000_000),
        delay_us: 1_000,
        limit_packets: Some(100),
        ..LinkSpec::default()
    }
}

fn flow(id: u64, src: NodeId, dst: NodeId, size: u64) -> FlowSpec {
    FlowSpec { id, src, dst, amount: Amount::Bytes(size), rate_bps: None, weight: 1, route: 0 }
}

/// A line of nodes with routes, that runs for a minute at most.
fn line(count: u32, seed: u64, spec: LinkSpec) -> Simulation {
    let nodes = (1..=count).map(|id| {
        let mut config = NodeConfig::new(id);
        config.addresses.user_base_addr = Some(Ipv4Addr::new(192, 168, 0, 0));
        config.seed = seed;
        config
    });
    let mut simulation = Simulation::new(nodes.collect(), seed, Instant(60 * SECOND));
    for a in 1..count {
        simulation.connect((a, a + 1), spec.clone(), spec.clone()).expect("two nodes");
    }
    for node in 1..=count {
        let towards = |dst: NodeId| match dst {
            0 => 0,
            dst if dst < node => node - 1,
            dst if dst > node => node + 1,
            _ => 0,
        };
        let table = Some((0..=count).map(towards).collect());
        let routes = Change::Routes { node, table, routes: vec![], removed: vec![] };
        simulation.change_at(Instant::ZERO, routes).expect("a node");
    }
    simulation
}
