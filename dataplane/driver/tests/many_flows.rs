//! A thousand user-space flows at once take no threads and little memory. A process of its own, because both are
//! counted for the process.

mod common;

use std::time::Instant;

use common::flows::{add, prepare, spec, wait_ends};
use common::{join, node, runtime, TestNode};
use nm_engine::NodeId;
use nm_flows::{Amount, EndReason, FlowEnd, FlowSpec};

/// Flows, and the nodes of the ring.
const FLOWS: u64 = 1_000;
const NODES: u32 = 16;
/// Resident memory of this process with that many flows at once.
const MOST_MEMORY: u64 = 200 << 20;

#[test]
fn a_thousand_flows_at_once_on_a_ring_of_16_take_no_threads_and_little_memory() {
    let runtime = runtime(2);
    let nodes: Vec<TestNode> = (1..=NODES).map(|id| node(&runtime, id)).collect();
    for (index, here) in nodes.iter().enumerate() {
        join(here, &nodes[(index + 1) % nodes.len()]);
    }
    for here in &nodes {
        let other = (1..=NODES).filter(|id| *id != here.id);
        let hops: Vec<(NodeId, NodeId)> = other.map(|dst| (dst, next_hop(here.id, dst))).collect();
        here.route(&hops);
        prepare(here);
    }
    let threads = status("Threads:");
    // 1.6 s each: all of them run at once.
    let flows: Vec<FlowSpec> = (0..FLOWS)
        .map(|n| {
            let src = (n % u64::from(NODES)) as u32;
            let dst = (src + 1 + (n / u64::from(NODES)) as u32 % (NODES - 1)) % NODES;
            spec(
                n + 1,
                src + 1,
                dst + 1,
                Amount::Bytes(100_000 + n),
                Some(500_000),
            )
        })
        .collect();
    let start = Instant::now();
    add(&nodes.iter().collect::<Vec<_>>(), &flows);
    let mut ends: Vec<FlowEnd> = Vec::new();
    for here in &nodes {
        let own = flows.iter().filter(|flow| flow.src == here.id).count();
        ends.extend(wait_ends(here, own));
    }
    ends.sort_by_key(|end| end.id);
    for (flow, end) in flows.iter().zip(&ends) {
        assert_eq!(
            (end.reason, Amount::Bytes(end.bytes)),
            (EndReason::Complete, flow.amount)
        );
    }
    let last_began = ends.iter().map(|end| end.began).max();
    assert!(
        last_began < ends.iter().map(|end| end.ended).min(),
        "all ran at once"
    );
    let (now, peak) = (status("Threads:"), status("VmHWM:") * 1024);
    println!(
        "{FLOWS} flows in {:?}, {} MB at most, {now} threads",
        start.elapsed(),
        peak >> 20
    );
    assert_eq!(now, threads, "no flow has a thread");
    assert!(peak < MOST_MEMORY, "{} MB", peak >> 20);
}

/// The neighbour on the shorter way around the ring.
fn next_hop(from: NodeId, to: NodeId) -> NodeId {
    let forward = (to + NODES - from) % NODES <= NODES / 2;
    let step = if forward { 0 } else { NODES - 2 };
    (from + step) % NODES + 1
}

/// A number of `/proc/self/status`.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("a mounted proc");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the line");
    line.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number")
}
