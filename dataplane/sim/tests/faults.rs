//! Test sessions with peers that are late, absent, leave, die, or return.

use nm_engine::{
    Command, CommandError, Event, LinkSpec, NodeConfig, SessionConfig, SessionState, SharedBytes,
};
use nm_sim::{pattern, Lab, Wire};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// Short limits, so that virtual time stays readable.
fn limits() -> SessionConfig {
    SessionConfig { ready_grace_ms: 1_000, peer_timeout_ms: 2_000, ..SessionConfig::default() }
}

/// The lab with a node 1, the sender, that has other limits.
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
fn a_receiver_that_never_comes_is_named_and_the_others_complete() {
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
fn a_receiver_that_comes_late_but_in_time_is_like_the_others() {
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
    assert!((lab.now() - before).as_millis() < 50, "it asks, and need not wait for the next invitation");
}

#[test]
fn receivers_that_wait_for_the_last_one_do_not_give_up() {
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
fn a_receiver_without_room_is_refused_by_name() {
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
fn a_receiver_that_leaves_midway_has_left_and_the_others_complete() {
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
fn a_receiver_that_dies_is_given_up_and_does_not_hold_up_the_others() {
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
fn the_controllers_word_ends_the_wait_for_a_dead_node() {
    let mut lab = Lab::star(3, 1, &Wire::default());
    let group = lab.group(1, 1, &[2, 3]);
    let data = pattern(1_000_000, 1);
    lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2, 3], data);
    lab.run_for(100 * MS);
    lab.kill(3);
    lab.command(1, Command::NodeGone { node: 3, reason: "its process ended".into() }).expect("told");
    let before = lab.now();
    assert!(lab.run_until_finished(1, outgoing));
    assert!((lab.now() - before).as_millis() < 600);
    assert_eq!(lab.report(1, outgoing).peers[1].reason, "the node is gone: its process ended");
}

#[test]
fn a_receiver_that_has_everything_and_ends_at_once_is_complete_though_the_controller_is_faster() {
    let mut lab = Lab::line(2, 1, &Wire { delay_ns: 50 * MS, ..Wire::default() });
    let group = lab.group(1, 1, &[2]);
    let data = pattern(1_000_000, 1);
    let incoming = lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2], data);
    assert!(lab.run_until_finished(2, incoming));
    lab.command(1, Command::NodeGone { node: 2, reason: "its process ended".into() }).expect("told");
    assert!(lab.run_until_finished(1, outgoing));
    assert_eq!(lab.report(1, outgoing).peers[0].state, SessionState::Complete);
}

#[test]
fn a_sender_that_dies_leaves_its_receivers_with_a_reason() {
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
fn a_restarted_sender_and_its_receivers_find_each_other_again() {
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
fn a_link_that_is_away_for_a_while_costs_time_but_no_byte() {
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
fn what_cannot_be_sent_is_refused_by_name() {
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
fn peers_are_announced_as_they_change() {
    let mut lab = Lab::line(2, 1, &Wire::default());
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

/// What strikes a receiver in the middle of a transfer.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    NeverComes,
    ComesLate(u64),
    Leaves(u64),
    Dies(u64),
    LosesItsLink(u64),
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Stays),
        1 => Just(Fate::NeverComes),
        1 => (1u64..700).prop_map(Fate::ComesLate),
        1 => (0u64..400).prop_map(Fate::Leaves),
        1 => (0u64..400).prop_map(Fate::Dies),
        1 => (0u64..400).prop_map(Fate::LosesItsLink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_sender_ends_with_exact_bytes_or_a_reason_for_everyone(
        seed in any::<u64>(),
        fates in proptest::collection::vec(fates(), 1..7),
        loss in 0.0..0.1f64,
        len in 1usize..3_000_000,
    ) {
        let nodes = fates.len() as u32 + 1;
        let mut lab = limited(Lab::star(nodes, seed, &Wire { loss, delay_ns: MS, ..Wire::default() }), limits());
        lab.shape_all(&LinkSpec { rate_bps: Some(100_000_000), ..LinkSpec::default() });
        let receivers: Vec<u32> = (2..=nodes).collect();
        let group = lab.group(1, 1, &receivers);
        let data = pattern(len, seed);
        let mut incoming: Vec<Option<u64>> = Vec::new();
        for (&node, fate) in receivers.iter().zip(&fates) {
            let early = !matches!(fate, Fate::NeverComes | Fate::ComesLate(_));
            incoming.push(early.then(|| lab.receive(group, 1, node, len)));
        }
        let outgoing = lab.send(group, 1, &receivers, data.clone());
        for ms in 0..1_000 {
            lab.run_for(MS);
            for (index, fate) in fates.iter().enumerate() {
                let node = receivers[index];
                match *fate {
                    Fate::ComesLate(at) if at == ms => incoming[index] = Some(lab.receive(group, 1, node, len)),
                    Fate::Leaves(at) if at == ms => drop(lab.command(node, Command::LeaveGroup { group_id: 1 })),
                    Fate::Dies(at) if at == ms => lab.kill(node),
                    Fate::LosesItsLink(at) if at == ms => lab.set_link(1, node, false),
                    Fate::LosesItsLink(at) if at + 300 == ms => lab.set_link(1, node, true),
                    _ => {}
                }
            }
        }
        let ended = lab.report(1, outgoing).state.is_final() || lab.run_until_finished(1, outgoing);
        prop_assert!(ended, "the sender hangs: {:?}", lab.report(1, outgoing));
        for (index, peer) in lab.report(1, outgoing).peers.into_iter().enumerate() {
            if peer.state != SessionState::Complete {
                prop_assert!(peer.state.is_final() && !peer.reason.is_empty(), "{peer:?}");
                prop_assert!(!matches!(fates[index], Fate::Stays | Fate::ComesLate(_)), "{peer:?}");
            } else if !matches!(fates[index], Fate::Dies(_)) {
                let session = incoming[index].expect("it came");
                prop_assert!(*lab.data(peer.node, session) == data);
            }
        }
    }
}

#[test]
fn a_receiver_that_has_left_the_group_is_named_at_once_until_it_comes_back() {
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
