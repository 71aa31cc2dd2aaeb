//! Test that nodes and links can be added and removed under traffic, from several threads at once.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{node, runtime_for, secret, TestNode, CARRIERS, LIMIT, TOKEN};
use nm_driver::runtime::{Carrier, LinkKind, LinkSetup, Runtime};
use nm_engine::{Command, LinkSpec, NodeId, SharedBytes, Target};
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

const NODES: NodeId = 6;
const FOR: Duration = Duration::from_millis(1500);

/// The order of events depends on the machine; the random choices are reproducible.
struct Choices(SplitMix64);

impl Choices {
    fn roll(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below
    }
}

/// The kind of the link from node `from` to node `to`: even nodes are in the first runtime, odd ones in the second.
fn kind(homes: &[Arc<Runtime>; 2], from: NodeId, to: NodeId) -> LinkKind {
    if from % 2 == to % 2 {
        return LinkKind::Memory;
    }
    if from < to {
        return LinkKind::Accept;
    }
    LinkKind::Dial(homes[to as usize % 2].listen_address().expect("it listens"))
}

fn link(homes: &[Arc<Runtime>; 2], node: &TestNode, to: NodeId) {
    let setup = LinkSetup {
        remote: to,
        remote_name: format!("n{to}"),
        kind: kind(homes, node.id, to),
        socket: homes[to as usize % 2]
            .socket()
            .expect("usable")
            .map(Path::to_owned),
        spec: LinkSpec {
            delay_us: u64::from(to % 3) * 300,
            ..LinkSpec::default()
        },
        secret: Some(secret(TOKEN)),
    };
    node.port.connect_link(setup).expect("the node is there");
}

fn start_node(homes: &[Arc<Runtime>; 2], id: NodeId) -> TestNode {
    let node = node(&homes[id as usize % 2], id);
    for to in (1..=NODES).filter(|&to| to != id) {
        link(homes, &node, to);
    }
    let everyone: Vec<_> = (1..=NODES)
        .map(|to| (to, if to == id { 0 } else { to }))
        .collect();
    node.route(&everyone);
    node
}

fn send_random(node: &TestNode, choices: &mut Choices) {
    let to = 1 + choices.roll(u64::from(NODES)) as NodeId;
    let payload = SharedBytes::new(vec![0u8; choices.roll(60_000) as usize]);
    let command = Command::SendMessage {
        target: Target::Node(to),
        src_port: None,
        dst_port: None,
        payload,
    };
    let _ = node.port.command(command);
}

/// One thread owns one node and performs random operations with it.
fn run_node(homes: &[Arc<Runtime>; 2], id: NodeId, stop: &AtomicBool) -> TestNode {
    let mut choices = Choices(SplitMix64::seed_from_u64(u64::from(id)));
    let mut node = start_node(homes, id);
    while !stop.load(Ordering::Relaxed) {
        let other = 1 + (u64::from(id) + choices.roll(u64::from(NODES - 1))) as NodeId % NODES;
        match choices.roll(40) {
            0 => {
                node.port.close();
                node = start_node(homes, id);
            }
            1 | 2 => {
                let _ = node.port.remove_link(other);
                link(homes, &node, other);
            }
            3 => drop(node.port.stats().expect("the node is there")),
            _ => send_random(&node, &mut choices),
        }
    }
    node
}

#[test]
fn random_changes_cause_no_deadlock_and_all_links_come_up_again() {
    for carrier in CARRIERS {
        links_up_again_over(carrier);
    }
}

fn links_up_again_over(carrier: Carrier) {
    let homes = [runtime_for(carrier, 2), runtime_for(carrier, 3)];
    let stop = AtomicBool::new(false);
    let nodes: Vec<TestNode> = std::thread::scope(|scope| {
        let (homes, stop) = (&homes, &stop);
        let threads: Vec<_> = (1..=NODES)
            .map(|id| scope.spawn(move || run_node(homes, id, stop)))
            .collect();
        std::thread::sleep(FOR);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"))
            .collect()
    });
    let deadline = Instant::now() + LIMIT;
    for node in &nodes {
        loop {
            let stats = node.port.stats().expect("the node is there");
            let up = stats.links.iter().filter(|link| link.up).count();
            if up == NODES as usize - 1 {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "node {}: {up} links up: {:?}",
                node.id,
                stats.links
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for home in &homes {
        assert!(home.stats().shards.iter().all(|shard| !shard.stalled));
    }
}
