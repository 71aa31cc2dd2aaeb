//! Orders of the controller, and their acknowledgements.

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::*;

#[test]
fn an_order_with_a_number_is_acknowledged_and_an_invalid_one_gets_an_error() {
    let (_listener, node, mut peer) = registered_node();
    let add = AddNode {
        remote_node_id: 3,
        remote_name: "c".to_owned(),
        remote_addr: String::new(),
        remote_socket: String::new(),
        remote_process: 1,
        same_process: true,
        dial: false,
        link: LinkSpec::default(),
        version: 1,
        secret: nm_messages::Secret::default(),
        down: false,
    };
    peer.order(41, 2, add);
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 41));
    peer.socket
        .send(Message::Binary(vec![0xc1].into()))
        .expect("sent");
    assert!(
        matches!(peer.handle_message().message, ToController::Error(error) if error.error == "protocol.malformed")
    );
    drop(node);
}

#[test]
fn an_order_is_acknowledged_when_its_steps_have_ended_and_does_not_delay_others() {
    let (listener, addr) = listen();
    // Node 2 does not complete its steps, as with a stalled packet thread.
    let nodes = connect_with(addr, [(2, true), (3, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    peer.register(3);
    peer.order(50, 2, link_to(4, "", 7));
    peer.order(51, 2, routes_of(8));
    peer.order(52, 3, routes_of(9));
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 52));
    peer.expect_ready();
    let held: Vec<Done> = nodes[0].held.iter().take(3).collect();
    assert_eq!(
        nodes[0].registered.try_recv().ok(),
        None,
        "it was not configured yet"
    );
    for done in held {
        done(Ok(()));
    }
    let answers = [peer.handle_message().message, peer.handle_message().message];
    assert!(
        matches!(&answers[0], ToController::Ack(ack) if ack.re == 50),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[1], ToController::Ack(ack) if ack.re == 51),
        "{answers:?}"
    );
    assert_eq!(nodes[0].registered.recv_timeout(LONG), Ok(Ok(())));
}

#[test]
fn pending_and_failed_versions_are_not_registered_as_in_force() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, true)], no_names());
    let done = || nodes[0].held.recv_timeout(LONG).expect("an effect");
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    done()(Ok(()));
    peer.order(1, 2, link_to(4, "", 7));
    done()(Err("the packet path refused it".to_owned()));
    let report = peer.handle_message();
    let ToController::LinkState(state) = &report.message else {
        panic!("{report:?}")
    };
    assert_eq!(
        (state.up, state.reason.as_str()),
        (false, "the packet path refused it")
    );
    let answer = peer.handle_message().message;
    assert!(
        matches!(&answer, ToController::Error(error) if error.re == 1 && error.message.contains("refused it")),
        "{answer:?}"
    );
    peer.order(2, 2, link_to(5, "", 8));
    done()(Ok(()));
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 2));
    peer.order(3, 2, routes_of(9));
    let late = done();
    drop(peer);

    let mut peer = Peer::welcome(&listener);
    let have = peer.register(2).have;
    assert_eq!(have.routes, None, "still under way");
    assert_eq!(have.links.into_iter().collect::<Vec<_>>(), [(4, 0), (5, 8)]);
    late(Ok(()));
    drop(peer);
    let mut peer = Peer::welcome(&listener);
    assert_eq!(peer.register(2).have.routes, Some(9));
}

#[test]
fn a_link_is_made_without_another_order_when_its_name_resolves_later() {
    let (listener, addr) = listen();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let lookup = move |_: &str| match counted.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(io::Error::other("no such name")),
        _ => Ok(vec![SocketAddr::from(([10, 0, 0, 9], 8080))]),
    };
    let nodes = connect_with(addr, [(2, false)], Arc::new(lookup));
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert!(matches!(
        nodes[0].effects.recv_timeout(LONG),
        Ok(Effect::Configure(_))
    ));
    peer.order(5, 2, link_to(4, "far.example:8080", 7));
    let report = peer.handle_message();
    let ToController::LinkState(state) = &report.message else {
        panic!("{report:?}")
    };
    let reason = "\"far.example:8080\" cannot be resolved: no such name";
    assert_eq!((state.up, state.reason.as_str()), (false, reason));
    // A change meanwhile is included in the link that is made, and is acknowledged then.
    let link = LinkSpec {
        rate_bps: Some(1000),
        ..LinkSpec::default()
    };
    peer.order(
        6,
        2,
        SetLink {
            remote_node_id: 4,
            link,
            version: 8,
            down: false,
        },
    );
    let made = nodes[0].effects.recv_timeout(LONG).expect("a link");
    let Effect::Connect(add, address) = &made else {
        panic!("{made:?}")
    };
    assert_eq!((add.version, add.link.rate_bps), (8, Some(1000)));
    assert_eq!(*address, Some(SocketAddr::from(([10, 0, 0, 9], 8080))));
    let mut acked = Vec::new();
    while acked.len() < 2 {
        match peer.handle_message().message {
            ToController::Ack(ack) => acked.push(ack.re),
            other => panic!("{other:?}"),
        }
    }
    acked.sort_unstable();
    assert_eq!(
        (acked.as_slice(), tries.load(Ordering::SeqCst)),
        ([5, 6].as_slice(), 3)
    );
}

#[test]
fn a_name_server_that_never_answers_delays_nothing_else() {
    let (listener, addr) = listen();
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let lookup = move |_: &str| {
        let _ = gate.lock().map(|gate| gate.recv());
        Err(io::Error::other("released"))
    };
    let nodes = connect_with(addr, [(2, false), (3, false)], Arc::new(lookup));
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    peer.register(3);
    // More names than lookup threads.
    for remote in 10..60 {
        peer.order(remote, 2, link_to(remote, &format!("host-{remote}:1"), 1));
    }
    peer.order(5, 3, link_to(4, "", 7));
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 5));
    let mut reported = 0;
    while reported < 50 {
        match peer.handle_message().message {
            ToController::LinkState(state) if !state.up => {
                assert!(
                    state.reason.ends_with("no answer within 300 ms"),
                    "{state:?}"
                );
                reported += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // Removed links no longer wait for a name, and their orders are answered.
    for remote in 10..60 {
        peer.order(
            100 + remote,
            2,
            RemoveNode {
                remote_node_id: remote,
            },
        );
    }
    let mut acked = std::collections::BTreeSet::new();
    while acked.len() < 100 {
        if let ToController::Ack(ack) = peer.handle_message().message {
            acked.insert(ack.re);
        }
    }
    drop((release, nodes));
}

/// Random valid and invalid orders in any sequence are all answered, and none of them blocks the thread.
#[test]
fn random_orders_in_any_sequence_are_answered() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    let mut random = SplitMix64::seed_from_u64(1);
    let mut roll = |below: u64| random.next_u64() % below;
    let many = 2_000;
    for id in 1..=many {
        let message = random_order(&mut roll);
        peer.order(id, if roll(9) == 0 { 77 } else { 2 }, message);
    }
    // Removing the remaining links ends their lookups.
    for remote in 0..4 {
        peer.order(
            many + 1 + remote,
            2,
            RemoveNode {
                remote_node_id: remote,
            },
        );
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < many as usize + 4 {
        match peer.handle_message().message {
            ToController::Ack(ack) => assert!(answered.insert(ack.re)),
            ToController::Error(error) => assert!(answered.insert(error.re)),
            _ => {}
        }
    }
    drop(nodes);
}

/// An order with random values, valid or not.
fn random_order(roll: &mut impl FnMut(u64) -> u64) -> ToNode {
    let addrs = [
        "",
        "10.0.0.1:80",
        "far.example:80",
        "invalid",
        ":0",
        "x:99999",
    ];
    let remote = roll(4) as u32;
    match roll(8) {
        0 => link_to(remote, addrs[roll(6) as usize], roll(5)).into(),
        1 => RemoveNode {
            remote_node_id: remote,
        }
        .into(),
        2 => SetLink {
            remote_node_id: remote,
            link: LinkSpec::default(),
            version: roll(5),
            down: false,
        }
        .into(),
        3 => routes_of(roll(5)).into(),
        4 => InstallRoutes {
            table: Some(vec![1; roll(9) as usize].into()),
            reset: false,
            removed: vec![roll(9)],
            ..routes_of(roll(5))
        }
        .into(),
        5 => nm_messages::InstallGroupDirectory {
            version: roll(5),
            groups: vec![nm_messages::Group {
                group_id: remote,
                group_ip: ["239.255.0.1", "here"][roll(2) as usize].to_owned(),
                src_node_id: remote,
                label: String::new(),
            }],
            removed: vec![remote],
            reset: roll(2) == 0,
        }
        .into(),
        6 => nm_messages::InstallGroupRoutes {
            group_id: remote,
            src_node_id: remote,
            version: roll(5),
            routes: vec![],
        }
        .into(),
        _ => settings(remote).into(),
    }
}
