//! Test sessions with peers that are late or absent, leave, fail, or are restarted.

use nm_engine::{
    Command, CommandError, Event, LinkSpec, NodeConfig, SessionConfig, SessionState, SharedBytes,
};
use nm_sim::{pattern, Lab, Wire};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// Short time limits, so that virtual times stay readable.
fn limits() -> SessionConfig {
    SessionConfig { ready_grace_ms: 1_000, peer_timeout_ms: 2_000, ..SessionConfig::default() }
}

/// The lab with other time limits at node 1, the sender.
fn limited(mut lab: Lab, sessions: SessionConfig) -> Lab {
    lab.kill(1);
    lab.start_node(NodeConfig { sessions, ..NodeConfig::new(1) });
    lab.install_shortest_routes();
    lab
}

fn states(lab: &mut Lab, session: u64) -> Vec<(u32, SessionState)> {
    lab.report(1, session).peers.iter().map(|peer| (peer.node, peer.state)).collect()
}

#[test]
fn a_receiver_without_a_receive_call_is_reported_and_the_others_complete() {
    let mut lab = limited(Lab::ring(4, 1, &Wire::default()), limits());
    let group = lab.group(1, 1, &[2, 3, 4]);
    let data = pattern(1_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 4], data.len());
    let outgoing = lab.send(group, 1, &[2, 3, 4], data.clone());
    assert!(lab.run_until_finished(1, outgoing));
    let report = lab.report(1, outgoing);
    assert_eq!(report.state, SessionState::Failed);
    assert_eq!(report.peers[1].state, SessionState::TimedOut);
    assert_eq!(report.peers[1].reason, "no receive call waited for it within 1000 ms");
    assert!(report.reason.contains("node 3 timed_out: no receive call"), "{}", report.reason);
    assert_eq!(*lab.data(2, incoming[0]), data);
    assert_eq!(*lab.data(4, incoming[1]), data);
}

#[test]
fn a_late_receiver_within_the_time_limit_completes() {
    let mut lab = limited(Lab::ring(4, 1, &Wire::default()), limits());
    let group = lab.group(1, 1, &[2, 3, 4]);
    let data = pattern(1_000_000, 1);
    lab.receive_all(group, 1, &[2, 4], data.len());
    let outgoing = lab.send(group, 1, &[2, 3, 4], data.clone());
    lab.run_for(900 * MS);
    let before = lab.now();
    let late = lab.receive(group, 1, 3, data.len());
    assert!(lab.run_until_finished(1, outgoing));
    assert!(lab.report(1, outgoing).complete());
    assert_eq!(*lab.data(3, late), data);
    assert!(
        (lab.now() - before).as_millis() < 50,
        "it requests the offer instead of waiting for the next manifest"
    );
}

#[test]
fn receivers_that_wait_for_the_last_one_do_not_time_out() {
    let config = SessionConfig { ready_grace_ms: 120_000, ..SessionConfig::default() };
    let mut lab = limited(Lab::star(3, 1, &Wire::default()), config);
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(100_000, 1);
    let early = lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data.clone());
    lab.run_for(60_000 * MS);
    let late = lab.receive(group, 1, 3, data.len());
    assert!(lab.run_until_finished(1, outgoing));
    assert_eq!(*lab.data(2, early), data);
    assert_eq!(*lab.data(3, late), data);
}

#[test]
fn a_receiver_with_too_small_a_buffer_is_refused_with_a_reason() {
    let mut lab = Lab::ring(4, 1, &Wire::default());
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(1_000_000, 1);
    let good = lab.receive(group, 1, 2, data.len());
    let small = lab.receive(group, 1, 3, 999_999);
    let outgoing = lab.send(group, 1, &[2, 3], data.clone());
    assert!(lab.run_until_finished(1, outgoing));
    let report = lab.report(1, outgoing);
    assert_eq!(report.peers[1].state, SessionState::Failed);
    assert!(report.peers[1].reason.contains("999999 bytes"), "{}", report.peers[1].reason);
    assert_eq!(lab.report(3, small).state, SessionState::Failed);
    assert_eq!(*lab.data(2, good), data);
    let reason = lab.report(3, small).reason;
    assert!(reason.contains("1000000 bytes"), "{reason}");
    assert_eq!(lab.received(3, small), None);
}

#[test]
fn a_receiver_that_leaves_during_a_transfer_is_reported_and_the_others_complete() {
    let mut lab = Lab::star(4, 1, &Wire { delay_ns: 2 * MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2, 3, 4]);
    let data = pattern(10_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 3, 4], data.len());
    let outgoing = lab.send(group, 1, &[2, 3, 4], data.clone());
    assert!(lab.run_until(|lab| lab.stats(3).links[0].rx.bytes > 2_000_000));
    lab.command(3, Command::LeaveGroup { group_id: 1 }).expect("left");
    assert!(lab.run_until_finished(1, outgoing));
    use SessionState::{Complete, Left};
    assert_eq!(states(&mut lab, outgoing), [(2, Complete), (3, Left), (4, Complete)]);
    assert_eq!(lab.report(3, incoming[1]).state, Left);
    assert_eq!(*lab.data(4, incoming[2]), data);
}

#[test]
fn a_receiver_that_fails_times_out_without_delaying_the_others() {
    let mut lab = limited(Lab::star(4, 1, &Wire { delay_ns: 2 * MS, ..Wire::default() }), limits());
    let group = lab.group(1, 1, &[2, 3, 4]);
    let data = pattern(10_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 3, 4], data.len());
    let outgoing = lab.send(group, 1, &[2, 3, 4], data.clone());
    assert!(lab.run_until(|lab| lab.stats(3).links[0].rx.bytes > 2_000_000));
    lab.kill(3);
    let death = lab.now();
    assert!(lab.run_until_finished(2, incoming[0]));
    assert!((lab.now() - death).as_millis() < 1_500, "{:?}", lab.now() - death);
    assert!(lab.run_until_finished(1, outgoing));
    let report = lab.report(1, outgoing);
    assert_eq!(report.peers[1].state, SessionState::TimedOut);
    assert_eq!(report.peers[1].reason, "silent for 2000 ms");
    assert_eq!(*lab.data(4, incoming[2]), data);
}

#[test]
fn a_report_of_the_controller_ends_the_wait_for_a_failed_node() {
    let mut lab = Lab::star(3, 1, &Wire::default());
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(1_000_000, 1);
    lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data);
    lab.run_for(100 * MS);
    lab.kill(3);
    lab.command(1, Command::NodeGone { node: 3, reason: "its process ended".into() })
        .expect("the command is executed");
    let before = lab.now();
    assert!(lab.run_until_finished(1, outgoing));
    assert!((lab.now() - before).as_millis() < 600);
    assert_eq!(lab.report(1, outgoing).peers[1].reason, "the node is gone: its process ended");
}

#[test]
fn a_receiver_that_ends_after_its_last_byte_is_complete_even_if_the_controller_reports_its_end_first() {
    let mut lab = Lab::line(2, 1, &Wire { delay_ns: 50 * MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2]);
    let data = pattern(1_000_000, 1);
    let incoming = lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2], data);
    assert!(lab.run_until_finished(2, incoming));
    lab.command(1, Command::NodeGone { node: 2, reason: "its process ended".into() })
        .expect("the command is executed");
    assert!(lab.run_until_finished(1, outgoing));
    assert_eq!(lab.report(1, outgoing).peers[0].state, SessionState::Complete);
}

#[test]
fn receivers_of_a_failed_sender_time_out_with_a_reason() {
    let mut lab = Lab::line(2, 1, &Wire { delay_ns: 5 * MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2]);
    let data = pattern(10_000_000, 1);
    let receive = |lab: &mut Lab| lab.receive(group, 1, 2, 10_000_000);
    let incoming = receive(&mut lab);
    lab.send(group, 1, &[2], data);
    assert!(lab.run_until(|lab| lab.stats(2).links[0].rx.bytes > 1_000_000));
    lab.kill(1);
    assert!(lab.run_until_finished(2, incoming));
    let report = lab.report(2, incoming);
    assert_eq!(report.state, SessionState::TimedOut);
    assert_eq!(report.reason, "node 1 was silent for 15000 ms");
}

#[test]
fn transfers_of_a_restarted_sender_complete() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    let group = lab.group(1, 1, &[2]);
    for seed in 0..3 {
        let data = pattern(100_000, seed);
        let incoming = lab.receive(group, 1, 2, data.len());
        let outgoing = lab.send(group, 1, &[2], data.clone());
        assert!(lab.run_until_finished(1, outgoing));
        assert_eq!(*lab.data(2, incoming), data);
    }
    lab.kill(1);
    lab.start_node(NodeConfig { incarnation: 2, ..NodeConfig::new(1) });
    lab.install_shortest_routes();
    lab.group(1, 1, &[2]);
    let data = pattern(100_000, 9);
    let incoming = lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2], data.clone());
    assert!(lab.run_until_finished(1, outgoing));
    assert!(lab.report(1, outgoing).complete());
    assert_eq!(*lab.data(2, incoming), data);
}

#[test]
fn a_transfer_completes_after_an_outage_of_a_link() {
    let mut lab = Lab::line(3, 1, &Wire { delay_ns: MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(20_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 3], data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data.clone());
    assert!(lab.run_until(|lab| lab.stats(3).links[0].rx.bytes > 2_000_000));
    lab.set_link(2, 3, false);
    lab.run_for(5_000 * MS);
    lab.set_link(2, 3, true);
    assert!(lab.run_until_finished(1, outgoing));
    assert!(lab.report(1, outgoing).complete(), "{:?}", lab.report(1, outgoing));
    assert_eq!(*lab.data(3, incoming[1]), data);
}

#[test]
fn cancelling_ends_both_sides() {
    let mut lab = Lab::line(3, 1, &Wire { delay_ns: MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(20_000_000, 1);
    let incoming = lab.receive_all(group, 1, &[2, 3], data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data);
    lab.run_for(10 * MS);
    lab.command(2, Command::CancelSession { session: incoming[0] }).expect("cancelled");
    lab.run_for(10 * MS);
    assert_eq!(lab.report(1, outgoing).peers[0].reason, "cancelled by the receiver");
    lab.command(1, Command::CancelSession { session: outgoing }).expect("cancelled");
    assert!(lab.run_until_finished(3, incoming[1]));
    assert!(lab.report(3, incoming[1]).reason.contains("cancelled by the sender"));
    assert_eq!(lab.report(1, outgoing).state, SessionState::Failed);
}

#[test]
fn invalid_transfers_are_refused_with_an_error() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    let group = lab.group(1, 1, &[2, 3]);
    let mut send = |dest: std::net::Ipv4Addr, receivers: Vec<u32>, len: usize| {
        let data = SharedBytes::new(vec![0; len]);
        lab.command(1, Command::SendData { dest, receivers, data }).expect_err("refused")
    };
    assert_eq!(send(group, vec![2], 0), CommandError::EmptyBuffer);
    assert_eq!(send(group, vec![], 1), CommandError::NoReceivers);
    assert!(matches!(send(group, vec![2, 3, 2], 1), CommandError::BadReceiver(2, _)));
    assert!(matches!(send(group, vec![1], 1), CommandError::BadReceiver(1, _)));
    let unknown = [239, 255, 9, 9].into();
    assert_eq!(send(unknown, vec![2], 1), CommandError::UnknownGroupAddress(unknown));
    assert!(matches!(send([10, 0, 0, 2].into(), vec![3], 1), CommandError::BadReceiver(3, _)));
    assert!(matches!(send([8, 8, 8, 8].into(), vec![3], 1), CommandError::UnknownAddress(_)));
    let huge = Command::ReceiveData { dest: group, source: 2, expected_bytes: u64::MAX / 2 };
    assert!(matches!(lab.command(1, huge), Err(CommandError::OutOfMemory(_))));
}

#[test]
fn changes_of_peers_are_events() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    assert_eq!(lab.take(1).events, [Event::LinkCarries { remote: 2, carries: true }]);
    let data = pattern(10_000, 1);
    let dest = [10, 0, 0, 2].into();
    let incoming = lab.receive(dest, 1, 2, data.len());
    let outgoing = lab.send(dest, 1, &[2], data.clone());
    assert!(lab.run_until_finished(1, outgoing));
    let peer = |state| Event::SessionPeer { session: outgoing, node: 2, state };
    let mut events = lab.take(1).events;
    let finished = events.pop();
    assert!(matches!(finished, Some(Event::SessionFinished { report, data: None })
        if report.session == outgoing && report.complete()));
    let opened = Event::SessionOpened { session: outgoing };
    assert_eq!(events, [opened, peer(SessionState::Active), peer(SessionState::Complete)]);
    assert_eq!(*lab.data(2, incoming), data);
}

/// A fault of a receiver during a transfer.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Unaffected,
    NeverReceives,
    ReceivesLate(u64),
    Leaves(u64),
    Stops(u64),
    LinkOutage(u64),
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::Unaffected),
        1 => Just(Fault::NeverReceives),
        1 => (1u64..700).prop_map(Fault::ReceivesLate),
        1 => (0u64..400).prop_map(Fault::Leaves),
        1 => (0u64..400).prop_map(Fault::Stops),
        1 => (0u64..400).prop_map(Fault::LinkOutage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn despite_any_faults_every_receiver_has_every_byte_or_is_reported_with_a_reason(
        seed in any::<u64>(),
        faults in proptest::collection::vec(faults(), 1..7),
        loss in 0.0..0.1f64,
        len in 1usize..3_000_000,
    ) {
        let nodes = faults.len() as u32 + 1;
        let mut lab = limited(Lab::star(nodes, seed, &Wire { loss, delay_ns: MS, ..Wire::default() }), limits());
        lab.shape_all(&LinkSpec { rate_bps: Some(100_000_000), ..LinkSpec::default() });
        let receivers: Vec<u32> = (2..=nodes).collect();
        let group = lab.group(1, 1, &receivers);
        let data = pattern(len, seed);
        let mut incoming: Vec<Option<u64>> = Vec::new();
        for (&node, fault) in receivers.iter().zip(&faults) {
            let early = !matches!(fault, Fault::NeverReceives | Fault::ReceivesLate(_));
            incoming.push(early.then(|| lab.receive(group, 1, node, len)));
        }
        let outgoing = lab.send(group, 1, &receivers, data.clone());
        for ms in 0..1_000 {
            lab.run_for(MS);
            for (index, fault) in faults.iter().enumerate() {
                let node = receivers[index];
                match *fault {
                    Fault::ReceivesLate(at) if at == ms => incoming[index] = Some(lab.receive(group, 1, node, len)),
                    Fault::Leaves(at) if at == ms => drop(lab.command(node, Command::LeaveGroup { group_id: 1 })),
                    Fault::Stops(at) if at == ms => lab.kill(node),
                    Fault::LinkOutage(at) if at == ms => lab.set_link(1, node, false),
                    Fault::LinkOutage(at) if at + 300 == ms => lab.set_link(1, node, true),
                    _ => {}
                }
            }
        }
        let ended = lab.report(1, outgoing).state.is_final() || lab.run_until_finished(1, outgoing);
        prop_assert!(ended, "the sender hangs: {:?}", lab.report(1, outgoing));
        for (index, peer) in lab.report(1, outgoing).peers.into_iter().enumerate() {
            if peer.state != SessionState::Complete {
                prop_assert!(peer.state.is_final() && !peer.reason.is_empty(), "{peer:?}");
                prop_assert!(!matches!(faults[index], Fault::Unaffected | Fault::ReceivesLate(_)), "{peer:?}");
            } else if !matches!(faults[index], Fault::Stops(_)) {
                let session = incoming[index].expect("the receive call was made");
                prop_assert!(*lab.data(peer.node, session) == data);
            }
        }
    }
}

#[test]
fn a_receiver_that_left_the_group_is_reported_immediately_until_it_joins_again() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    let group = lab.group(1, 1, &[2]);
    let incoming = lab.receive(group, 1, 2, 1000);
    lab.command(2, Command::LeaveGroup { group_id: 1 }).expect("left");
    assert_eq!(lab.report(2, incoming).state, SessionState::Left);
    let before = lab.now();
    let outgoing = lab.send(group, 1, &[2], pattern(1000, 1));
    assert!(lab.run_until_finished(1, outgoing));
    assert!((lab.now() - before).as_millis() < 10);
    assert_eq!(states(&mut lab, outgoing), [(2, SessionState::Left)]);
    lab.command(2, Command::JoinGroup { group_id: 1 }).expect("joined");
    let outgoing = lab.send(group, 1, &[2], pattern(1000, 2));
    lab.run_for(500 * MS);
    let incoming = lab.receive(group, 1, 2, 1000);
    assert!(lab.run_until_finished(1, outgoing));
    assert_eq!(*lab.data(2, incoming), pattern(1000, 2));
}
