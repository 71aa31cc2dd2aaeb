//! Test restarts of nodes during transfers, with delayed frames of earlier incarnations: no transfer may be reported
//! complete that a receiver does not have.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nm_engine::{Command, NodeConfig, NodeId, SessionConfig, SessionId, SessionReport, SessionState};
use nm_sim::{pattern, Lab, Wire};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const GROUP: u32 = 1;

/// Short time limits, so that virtual times stay readable.
fn limits() -> SessionConfig {
    SessionConfig {
        ready_grace_ms: 2_000,
        peer_timeout_ms: 3_000,
        start_timeout_ms: 20_000,
        ..SessionConfig::default()
    }
}

fn config(node: NodeId, incarnation: u64) -> NodeConfig {
    let incarnation = u64::from(node) << 32 | incarnation;
    NodeConfig { incarnation, sessions: limits(), ..NodeConfig::new(node) }
}

/// A ring of four in which node 1 sends to a group of the others.
struct Ring {
    lab: Lab,
    group: Ipv4Addr,
    incarnations: BTreeMap<NodeId, u64>,
}

impl Ring {
    fn new(seed: u64, wire: &Wire) -> Self {
        let mut lab = Lab::ring(4, seed, wire);
        for node in 1..=4 {
            lab.kill(node);
            lab.start_node(config(node, 0));
        }
        let mut ring = Self { lab, group: Ipv4Addr::UNSPECIFIED, incarnations: BTreeMap::new() };
        ring.install();
        ring
    }

    fn install(&mut self) {
        self.lab.install_shortest_routes();
        self.group = self.lab.group(GROUP, 1, &[2, 3, 4]);
    }

    /// Stops a node without messages to its peers and starts it again.
    fn restart(&mut self, node: NodeId, pause_ms: u64) {
        self.lab.kill(node);
        self.lab.run_for(pause_ms * MS);
        let incarnation = self.incarnations.entry(node).or_default();
        *incarnation += 1;
        let incarnation = *incarnation;
        self.lab.start_node(config(node, incarnation));
        self.install();
    }

    fn finish(&mut self, node: NodeId, session: SessionId) -> SessionReport {
        let over =
            self.lab.report(node, session).state.is_final() || self.lab.run_until_finished(node, session);
        assert!(over, "it hangs: {:?}", self.lab.report(node, session));
        self.lab.report(node, session)
    }
}

/// Times of a restart in microseconds after the start of the transfer: from before the first reply to after the end.
const RESTART_TIMES_US: [u64; 9] = [0, 15, 35, 100, 1_000, 5_000, 15_000, 30_000, 500_000];

#[test]
fn no_state_of_a_restarted_sender_affects_its_next_incarnation() {
    for time_us in RESTART_TIMES_US {
        for pause_ms in [0, 100, 6_000] {
            let mut ring = Ring::new(time_us, &Wire::default());
            let (group, old, new) = (ring.group, pattern(5_000_000, 1), pattern(5_000_000, 2));
            let first = ring.lab.receive_all(group, 1, &[2, 3, 4], old.len());
            ring.lab.send(group, 1, &[2, 3, 4], old.clone());
            ring.lab.run_for(time_us * 1_000);
            ring.restart(1, pause_ms);
            let outgoing = ring.lab.send(group, 1, &[2, 3, 4], new.clone());
            ring.lab.run_for(100 * MS);
            let second = ring.lab.receive_all(group, 1, &[2, 3, 4], new.len());
            let report = ring.finish(1, outgoing);
            for (index, peer) in report.peers.iter().enumerate() {
                let got = [first[index], second[index]].map(|session| ring.lab.received(peer.node, session));
                let has_new = got.iter().flatten().any(|got| **got == new);
                assert_eq!(peer.state == SessionState::Complete, has_new, "{time_us} {pause_ms} {peer:?}");
                assert!(got.iter().flatten().all(|got| **got == old || **got == new));
            }
            assert!(report.complete(), "{time_us} µs, {pause_ms} ms: {report:?}");
        }
    }
}

#[test]
fn a_restarted_receiver_is_reported_and_the_next_transfer_completes() {
    for time_us in RESTART_TIMES_US {
        let mut ring = Ring::new(time_us, &Wire::default());
        let (group, old, new) = (ring.group, pattern(5_000_000, 1), pattern(5_000_000, 2));
        ring.lab.receive_all(group, 1, &[2, 3, 4], old.len());
        let outgoing = ring.lab.send(group, 1, &[2, 3, 4], old.clone());
        ring.lab.run_for(time_us * 1_000);
        let had_all = ring.lab.take(3).data.len() == 1;
        ring.restart(3, 10);
        let report = ring.finish(1, outgoing);
        assert!(report.peers[1].state != SessionState::Complete || had_all, "{time_us}: {report:?}");
        assert!(report.peers[1].state == SessionState::Complete || !report.peers[1].reason.is_empty());
        let incoming = ring.lab.receive_all(group, 1, &[2, 3, 4], new.len());
        let outgoing = ring.lab.send(group, 1, &[2, 3, 4], new.clone());
        assert!(ring.finish(1, outgoing).complete(), "{time_us}: {:?}", ring.lab.report(1, outgoing));
        for (node, session) in [2, 3, 4].into_iter().zip(incoming) {
            assert_eq!(*ring.lab.data(node, session), new);
        }
    }
}

#[test]
fn a_restarted_idle_sender_reaches_receivers_that_wait_already() {
    let mut ring = Ring::new(1, &Wire::default());
    let (group, data) = (ring.group, pattern(100_000, 1));
    let incoming = ring.lab.receive_all(group, 1, &[2, 3, 4], data.len());
    ring.lab.run_for(500 * MS);
    ring.restart(1, 1_000);
    let outgoing = ring.lab.send(group, 1, &[2, 3, 4], data.clone());
    assert!(ring.finish(1, outgoing).complete());
    assert_eq!(*ring.lab.data(2, incoming[0]), data);
}

#[test]
fn transfers_with_equal_numbers_are_distinguished_by_their_digests() {
    // Two starts with one incarnation draw the same numbers: only the digest distinguishes their transfers.
    let mut lab = Lab::line(2, 1, &Wire::default());
    let group = lab.group(1, 1, &[2]);
    let (old, new) = (pattern(100_000, 1), pattern(100_000, 2));
    lab.receive(group, 1, 2, old.len());
    let outgoing = lab.send(group, 1, &[2], old);
    assert!(lab.run_until_finished(1, outgoing));
    lab.kill(1);
    lab.start_node(NodeConfig::new(1));
    lab.install_shortest_routes();
    lab.group(1, 1, &[2]);
    let waiting = lab.receive(group, 1, 2, new.len());
    let outgoing = lab.send(group, 1, &[2], new);
    assert!(lab.run_until_finished(1, outgoing));
    let peer = lab.report(1, outgoing).peers.remove(0);
    assert_eq!(peer.state, SessionState::Failed);
    assert!(peer.reason.starts_with("digest differs"), "{}", peer.reason);
    assert_eq!(lab.report(2, waiting).state, SessionState::Waiting);
}

#[test]
fn a_segment_that_was_changed_in_transit_fails_its_receiver_with_a_reason() {
    let mut lab = Lab::star(3, 5, &Wire::default());
    lab.set_wire(1, 3, Wire { corrupt: 0.002, ..Wire::default() });
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(3_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 3], data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data.clone());
    assert!(lab.run_until_finished(1, outgoing));
    let report = lab.report(1, outgoing);
    assert_eq!(report.peers[0].state, SessionState::Complete);
    assert_eq!(report.peers[1].state, SessionState::Failed);
    assert!(report.peers[1].reason.starts_with("digest differs"), "{}", report.peers[1].reason);
    assert!(lab.report(3, incoming[1]).reason.starts_with("digest differs"));
    assert_eq!(lab.received(3, incoming[1]), None);
    assert_eq!(*lab.data(2, incoming[0]), data);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn receive_calls_accept_transfers_in_order_despite_loss(
        seed in any::<u64>(),
        loss in 0.0..0.4f64,
        count in 1usize..8,
        receive_first in any::<bool>(),
        unicast in any::<bool>(),
    ) {
        let mut lab = Lab::line(2, seed, &Wire { loss, reorder: 0.3, duplicate: 0.2, ..Wire::default() });
        let dest = if unicast { [10, 0, 0, 2].into() } else { lab.group(1, 1, &[2]) };
        let data: Vec<Vec<u8>> = (0..count).map(|index| pattern(3_000 + index, index as u64)).collect();
        let mut outgoing = Vec::new();
        let mut incoming = Vec::new();
        for turn in 0..2 {
            if (turn == 0) == receive_first {
                incoming = data.iter().map(|_| lab.receive(dest, 1, 2, 4_000)).collect();
            } else {
                outgoing = data.iter().map(|data| lab.send(dest, 1, &[2], data.clone())).collect();
            }
            lab.run_for(300 * MS);
        }
        for session in outgoing {
            prop_assert!(lab.report(1, session).state.is_final() || lab.run_until_finished(1, session));
            prop_assert!(lab.report(1, session).complete(), "{:?}", lab.report(1, session));
        }
        for (session, data) in incoming.into_iter().zip(&data) {
            prop_assert_eq!(&*lab.data(2, session), data);
        }
    }

    /// Duplicates of frames are delayed by up to two seconds, while nodes stop and start.
    #[test]
    fn no_transfer_is_falsely_complete_when_nodes_restart_at_random(
        seed in any::<u64>(),
        loss in 0.0..0.05f64,
        duplicate in 0.0..0.3f64,
        reorder in 0.0..0.05f64,
        actions in proptest::collection::vec(actions(), 5..40),
    ) {
        let wire = Wire { loss, duplicate, reorder, reorder_ns: 2_000 * MS, ..Wire::default() };
        let mut ring = Ring::new(seed, &wire);
        // The data sent, by source and address, and the data received by each incarnation of each node.
        let mut sent: BTreeMap<(NodeId, Ipv4Addr), Vec<Vec<u8>>> = BTreeMap::new();
        let mut got: BTreeMap<NodeId, Vec<Vec<u8>>> = BTreeMap::new();
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for (index, (pause_us, action)) in actions.into_iter().enumerate() {
            ring.lab.run_for(pause_us * 1_000);
            match action {
                Action::Send { source, to, len } => {
                    let data = pattern(len, index as u64);
                    let (dest, to) = place(&ring, source, to);
                    sent.entry((source, dest)).or_default().push(data.clone());
                    let session = ring.lab.send(dest, source, &to, data.clone());
                    senders.push((source, incarnation(&ring, source), session, data));
                }
                Action::Receive { node, source, group } => {
                    let dest = if group { ring.group } else { [10, 0, 0, node as u8].into() };
                    let source = if group { 1 } else { source };
                    if node != source && !(group && node == 1) {
                        let session = ring.lab.receive(dest, source, node, 600_000);
                        receivers.push((node, incarnation(&ring, node), session));
                    }
                }
                Action::Restart { node, pause_ms } => {
                    store_received(&mut ring, node, &mut got);
                    ring.restart(node, pause_ms);
                }
                Action::Cancel { which } => {
                    let session = receivers.get(which % receivers.len().max(1)).copied();
                    if let Some((node, _, session)) = session.filter(|(node, at, _)| incarnation(&ring, *node) == *at) {
                        ring.lab.command(node, Command::CancelSession { session }).expect("cancelled");
                    }
                }
            }
        }
        // Longer than every time limit.
        ring.lab.run_for(40_000 * MS);
        (1..=4).for_each(|node| store_received(&mut ring, node, &mut got));
        let all: Vec<Vec<u8>> = sent.into_values().flatten().collect();
        for data in got.values().flatten() {
            prop_assert!(all.contains(data), "bytes that were not sent");
        }
        for (node, at, session, data) in senders {
            if incarnation(&ring, node) != at {
                continue;
            }
            let report = ring.lab.report(node, session);
            prop_assert!(report.state.is_final(), "it hangs: {report:?}");
            for peer in report.peers {
                prop_assert!(
                    peer.state != SessionState::Complete || got[&peer.node].contains(&data),
                    "falsely complete: {peer:?}"
                );
                prop_assert!(peer.state == SessionState::Complete || !peer.reason.is_empty(), "{peer:?}");
            }
        }
        for (node, at, session) in receivers {
            if incarnation(&ring, node) == at {
                let report = ring.lab.report(node, session);
                prop_assert!(report.state.is_final(), "it hangs: {report:?}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Action {
    Send { source: NodeId, to: NodeId, len: usize },
    Receive { node: NodeId, source: NodeId, group: bool },
    Restart { node: NodeId, pause_ms: u64 },
    Cancel { which: usize },
}

fn actions() -> impl Strategy<Value = (u64, Action)> {
    let action = prop_oneof![
        3 => (1u32..5, 1u32..5, 1usize..600_000).prop_map(|(source, to, len)| Action::Send { source, to, len }),
        4 => (1u32..5, 1u32..5, any::<bool>())
            .prop_map(|(node, source, group)| Action::Receive { node, source, group }),
        1 => (1u32..5, 0u64..500).prop_map(|(node, pause_ms)| Action::Restart { node, pause_ms }),
        1 => (0usize..100).prop_map(|which| Action::Cancel { which }),
    ];
    (prop_oneof![0u64..300, 0u64..100_000], action)
}

/// A transfer to the node itself represents one to the group, whose source is node 1.
fn place(ring: &Ring, source: NodeId, to: NodeId) -> (Ipv4Addr, Vec<NodeId>) {
    match (source, to) {
        (1, 1) => (ring.group, vec![2, 3, 4]),
        _ if source == to => ([10, 0, 0, 1].into(), vec![1]),
        _ => ([10, 0, 0, to as u8].into(), vec![to]),
    }
}

fn incarnation(ring: &Ring, node: NodeId) -> u64 {
    ring.incarnations.get(&node).copied().unwrap_or(0)
}

/// Stores the data that a node has received, as a user would on disk.
fn store_received(ring: &mut Ring, node: NodeId, got: &mut BTreeMap<NodeId, Vec<Vec<u8>>>) {
    let data = ring.lab.take(node).data;
    got.entry(node).or_default().extend(data.into_values().map(|data| data.to_vec()));
}
