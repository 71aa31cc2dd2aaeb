//! Tests of links between runtimes and inside one, without devices: connect, carry, disconnect, reconnect.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::{
    config_for, dial, fresh_path, join, node, runtime, runtime_for, TestNode, CARRIERS, TOKEN,
};
use nm_driver::runtime::{Carrier, LinkKind, Runtime, RuntimeConfig};
use nm_engine::{
    Command, CommandOutput, Event, FlowFilter, LinkSpec, SessionState, SharedBytes, Target,
};

fn address(runtime: &Runtime) -> SocketAddr {
    runtime.listen_address().expect("it listens")
}

/// Two nodes in two runtimes; the second dials the first.
fn over(carrier: Carrier) -> (Arc<Runtime>, TestNode, Arc<Runtime>, TestNode) {
    let (home, away) = (runtime_for(carrier, 1), runtime_for(carrier, 1));
    let (one, two) = (node(&home, 1), node(&away, 2));
    one.link(2, LinkKind::Accept);
    dial(&two, &home, 1);
    one.record.wait_link(2, true);
    two.record.wait_link(1, true);
    let found = (one.record.carrier(2), two.record.carrier(1));
    assert_eq!(found, (Some(carrier), Some(carrier)));
    one.route(&[(2, 2)]);
    two.route(&[(1, 1)]);
    (home, one, away, two)
}

/// Sends a message from one node to the other and waits until it arrives.
fn send_text(from: &TestNode, to: &TestNode, text: &[u8]) {
    let filter = FlowFilter {
        src_node: from.id,
        group: None,
        src_port: 45_535,
        dst_port: 8_888,
    };
    let receiver = match to.port.command(Command::RegisterReceiver { filter }) {
        Ok(CommandOutput::Receiver(receiver)) => Some(receiver),
        _ => None,
    };
    let payload = SharedBytes::new(text.to_vec());
    from.command(Command::SendMessage {
        target: Target::Node(to.id),
        src_port: None,
        dst_port: None,
        payload,
    });
    to.record.wait("the message", |record| {
        record.messages.pop().filter(|message| message == text)
    });
    if let Some(receiver) = receiver {
        to.command(Command::CloseReceiver { receiver });
    }
}

/// Sends `length` bytes without loss and compares them.
fn lossless(from: &TestNode, to: &TestNode, length: usize) {
    let data: Vec<u8> = (0..length)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
        .collect();
    let address = nm_engine::AddressPlan::default().node_addr(to.id);
    let receive = Command::ReceiveData {
        dest: address,
        source: from.id,
        expected_bytes: length as u64,
    };
    let CommandOutput::Session(session) = to.command(receive) else {
        panic!("a session")
    };
    let send = Command::SendData {
        dest: address,
        receivers: vec![to.id],
        data: SharedBytes::new(data.clone()),
    };
    let CommandOutput::Session(outgoing) = from.command(send) else {
        panic!("a session")
    };
    for (end, session) in [(from, outgoing), (to, session)] {
        let state = end.record.wait("the end of the session", |record| {
            record.events.iter().find_map(|event| match event {
                Event::SessionFinished { report, .. } if report.session == session => {
                    Some(report.state)
                }
                _ => None,
            })
        });
        assert_eq!(state, SessionState::Complete);
    }
    let got = to.record.wait("the data", |record| {
        record.events.iter().find_map(|event| match event {
            Event::SessionFinished {
                report,
                data: Some(data),
            } if report.session == session => Some(Arc::clone(&data.0)),
            _ => None,
        })
    });
    assert!(*got == data, "the bytes differ");
}

#[test]
fn a_session_crosses_memory_links_on_one_shard_and_between_two() {
    for shards in [1, 2] {
        let runtime = runtime(shards);
        let (one, two) = (node(&runtime, 1), node(&runtime, 2));
        join(&one, &two);
        one.route(&[(2, 2)]);
        two.route(&[(1, 1)]);
        assert_eq!(two.port.shard(), shards - 1);
        lossless(&one, &two, 10_000_000);
        send_text(&two, &one, b"and back");
    }
}

#[test]
fn a_session_crosses_every_kind_of_link_between_processes() {
    for carrier in CARRIERS {
        let (home, one, away, two) = over(carrier);
        send_text(&one, &two, b"hello");
        lossless(&one, &two, 20_000_000);
        lossless(&two, &one, 5_000_000);
        let moved = |home: &Runtime| {
            let shard = home.stats().shards[0];
            (shard.stream_in_bytes, shard.stream_out_bytes)
        };
        // The bytes that one side has sent equal those that the other has read; only the acceptor's side of the
        // handshake is not counted.
        let deadline = std::time::Instant::now() + common::LIMIT;
        loop {
            let ((home_in, home_out), (away_in, away_out)) = (moved(&home), moved(&away));
            let (there, back) = (home_out.abs_diff(away_in), away_out.abs_diff(home_in));
            if there <= 128 && back == 0 && home_out > 20_000_000 {
                break;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{carrier}: {home_out} → {away_in}, {away_out} → {home_in}"
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_unix_socket_without_listener_falls_back_to_tcp() {
    let (home, away) = (runtime(1), runtime(1));
    let (one, two) = (node(&home, 1), node(&away, 2));
    one.link(2, LinkKind::Accept);
    let (missing, stale) = (fresh_path(), fresh_path());
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a fresh path"));
    for socket in [&missing, &stale] {
        let kind = LinkKind::Dial(address(&home));
        two.link_at(1, kind, Some(socket), LinkSpec::default(), TOKEN);
        two.record.wait_link(1, true);
        assert_eq!(two.record.carrier(1), Some(Carrier::Tcp));
    }
    std::fs::remove_file(&stale).expect("it was there");
}

#[test]
fn a_unix_socket_of_another_process_falls_back_to_tcp() {
    // As when two machines use the same path: a process listens there, but not the neighbour's.
    let other = runtime_for(Carrier::Shared, 1);
    let (home, away) = (runtime(1), runtime(1));
    let (one, two) = (node(&home, 1), node(&away, 2));
    one.link(2, LinkKind::Accept);
    let socket = other.socket().expect("usable").expect("it has one");
    let kind = LinkKind::Dial(address(&home));
    two.link_at(1, kind, Some(socket), LinkSpec::default(), TOKEN);
    two.record.wait_link(1, true);
    one.record.wait_link(2, true);
    assert_eq!(two.record.carrier(1), Some(Carrier::Tcp));
    assert!(other.stats().shards[0].handshakes_refused > 0);
}

#[test]
fn a_link_uses_the_simpler_carrier_of_its_two_ends() {
    for (mine, theirs, expected) in [
        (Carrier::Shared, Carrier::Unix, Carrier::Unix),
        (Carrier::Unix, Carrier::Shared, Carrier::Unix),
        (Carrier::Shared, Carrier::Tcp, Carrier::Tcp),
    ] {
        let (home, away) = (runtime_for(theirs, 1), runtime_for(mine, 1));
        let (one, two) = (node(&home, 1), node(&away, 2));
        one.link(2, LinkKind::Accept);
        dial(&two, &home, 1);
        one.record.wait_link(2, true);
        two.record.wait_link(1, true);
        assert_eq!(two.record.carrier(1), Some(expected));
        two.route(&[(1, 1)]);
        send_text(&two, &one, b"across");
    }
}

#[test]
fn an_unusable_path_is_reported_and_a_used_one_is_removed() {
    let config = |socket| RuntimeConfig {
        shards: Some(1),
        socket: Some(socket),
        ..RuntimeConfig::default()
    };
    let home = Runtime::start(config("/nowhere/at/all.sock".into())).expect("links can use TCP");
    let reason = home.socket().expect_err("no such folder").to_owned();
    assert!(reason.contains("/nowhere/at/all.sock"), "{reason}");
    let path = fresh_path();
    let home = Runtime::start(config(path.clone())).expect("started");
    assert!(path.exists());
    drop(home);
    assert!(!path.exists());
}

#[test]
fn the_accepting_end_may_be_added_after_the_dialling_one() {
    let (home, away) = (runtime(1), runtime(1));
    let (one, two) = (node(&home, 1), node(&away, 2));
    two.link(1, LinkKind::Dial(address(&home)));
    std::thread::sleep(Duration::from_millis(30));
    one.link(2, LinkKind::Accept);
    one.record.wait_link(2, true);
    two.record.wait_link(1, true);
}

#[test]
fn a_lost_and_a_restored_link_are_reported_at_both_ends() {
    CARRIERS.into_iter().for_each(lose_and_restore);
}

fn lose_and_restore(carrier: Carrier) {
    let (home, one, away, two) = over(carrier);
    let port = address(&home);
    let socket = home
        .socket()
        .expect("usable")
        .map(std::path::Path::to_owned);
    one.port.close();
    drop(home);
    let reason = two.record.wait_loss(1);
    assert_eq!(
        reason,
        "the neighbour ended the link: the neighbouring node was closed"
    );
    // Meanwhile the dialler retries, and a new process takes the port over. The old listener is closed when its shard
    // has ended, which dropping the runtime waits for.
    let config = RuntimeConfig {
        shards: Some(1),
        listen: Some(port),
        socket,
        ..config_for(carrier, 1)
    };
    let home = Runtime::start(config).expect("the port is free again");
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    one.record.wait_link(2, true);
    two.record.wait_link(1, true);
    let back = two.record.carrier(1);
    // A dialler that retried while there was no socket has used TCP.
    assert!(
        back == Some(carrier) || back == Some(Carrier::Tcp),
        "{back:?}"
    );
    one.route(&[(2, 2)]);
    send_text(&one, &two, b"back again");
    two.port.close();
    assert!(one.record.wait_link(2, false).contains("closed"));
    drop(away);
}

#[test]
fn a_wrong_key_is_refused_and_the_right_one_still_works() {
    let (home, away) = (runtime(1), runtime(1));
    let (one, two) = (node(&home, 1), node(&away, 2));
    one.link(2, LinkKind::Accept);
    two.link_with(
        1,
        LinkKind::Dial(address(&home)),
        LinkSpec::default(),
        "guess",
    );
    assert_eq!(
        two.record.wait_link(1, false),
        "the answering process is not the neighbour: it could not prove that it has the link's key"
    );
    assert!(one
        .record
        .wait("a look", |record| Some(record.links.is_empty())));
    two.link_with(
        1,
        LinkKind::Dial(address(&home)),
        LinkSpec::default(),
        TOKEN,
    );
    two.record.wait_link(1, true);
    one.record.wait_link(2, true);
}

#[test]
fn a_connection_to_an_unknown_node_is_refused_with_the_reason() {
    let (home, away) = (runtime(1), runtime(1));
    let two = node(&away, 2);
    two.link(9, LinkKind::Dial(address(&home)));
    assert_eq!(
        two.record.wait_link(9, false),
        "the neighbour refused the link: no node 9 of lab test here"
    );
}

#[test]
fn unauthenticated_connections_are_refused_and_change_nothing() {
    let (home, one, _away, two) = over(Carrier::Tcp);
    for noise in [
        &[0xffu8; 64][..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0; 18],
    ] {
        let mut stream = TcpStream::connect(address(&home)).expect("the socket is open");
        stream
            .set_read_timeout(Some(common::LIMIT))
            .expect("timeout");
        stream.write_all(noise).expect("sent");
        let mut answer = Vec::new();
        // Closed with a reason, or reset because more was sent than was read.
        let _ = stream.read_to_end(&mut answer);
    }
    send_text(&one, &two, b"still here");
    assert!(home.stats().shards[0].handshakes_refused >= 3);
}

#[test]
fn a_link_that_is_removed_and_made_again_carries_packets() {
    let runtime = runtime(2);
    let (one, two) = (node(&runtime, 1), node(&runtime, 2));
    join(&one, &two);
    one.port.remove_link(2).expect("it was there");
    assert_eq!(
        two.record.wait_link(1, false),
        "the neighbour removed the link"
    );
    assert!(one.port.remove_link(2).is_err());
    one.link(2, LinkKind::Memory);
    two.record.wait_link(1, true);
    one.record.wait_link(2, true);
    one.route(&[(2, 2)]);
    send_text(&one, &two, b"again");
}

#[test]
fn a_node_number_is_taken_until_the_node_is_closed() {
    let runtime = runtime(1);
    let one = node(&runtime, 1);
    let setup = |id| nm_driver::runtime::NodeSetup {
        config: nm_engine::NodeConfig::new(id),
        tun: None,
        sink: Arc::new(common::RecordingSink::default()),
        lab: "test".into(),
        shard: None,
    };
    let error = runtime.add_node(setup(1)).err().expect("taken");
    assert_eq!(error.id(), "runtime.node_exists");
    one.port.close();
    one.port.close();
    let port = runtime.add_node(setup(1)).expect("free again");
    drop(runtime);
    assert_eq!(port.stats().err().map(|e| e.id()), Some("node.closed"));
}

#[test]
fn an_idle_runtime_makes_no_turns() {
    let (_home, _one, away, _two) = over(Carrier::Shared);
    let runtime = runtime(2);
    let nodes: Vec<_> = (1..=50).map(|id| node(&runtime, id)).collect();
    for pair in nodes.windows(2) {
        join(&pair[0], &pair[1]);
    }
    let turns = || {
        runtime
            .stats()
            .shards
            .iter()
            .map(|shard| shard.turns)
            .sum::<u64>()
            + away.stats().shards[0].turns
    };
    std::thread::sleep(Duration::from_millis(100));
    let before = turns();
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        turns() - before < 20,
        "{} turns in half a second",
        turns() - before
    );
}
