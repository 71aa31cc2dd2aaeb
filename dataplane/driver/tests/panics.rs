//! Catch a panic on a packet thread and restart only the engine of the node that caused it.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    dial, join, node, permitted, runtime, runtime_for, tun_node, RecordingSink, TestNode, CARRIERS,
    LIMIT,
};
use nm_driver::runtime::{
    Carrier, LinkKind, NodeSetup, NodeSink, OffloadChoice, Runtime, RuntimeConfig, TunNamespace,
    TunSetup,
};
use nm_engine::{
    Command, CommandOutput, Delivery, Event, FlowFilter, NodeConfig, NodeId, SessionState,
    SharedBytes, Target,
};

/// A sink that panics on the packet thread, in place of an engine that does.
#[derive(Default)]
struct Faulty {
    record: RecordingSink,
    armed: AtomicBool,
    restarts: AtomicU32,
}

impl Faulty {
    fn fail(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            panic!("injected");
        }
    }
}

impl NodeSink for Faulty {
    fn event(&self, event: Event) {
        self.record.event(event);
    }
    fn deliver(&self, delivery: Delivery) -> bool {
        self.fail();
        self.record.deliver(delivery)
    }
    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        if carrier.is_some() {
            self.fail();
        }
        self.record.link_state(remote, carrier, reason);
    }
    fn engine_restarted(&self, reason: &str) {
        self.restarts.fetch_add(1, Ordering::SeqCst);
        self.record.link_state(u32::MAX, None, reason);
    }
}

struct FaultyNode {
    node: TestNode,
    sink: Arc<Faulty>,
}

fn faulty(home: &Runtime, id: NodeId) -> FaultyNode {
    let sink = Arc::new(Faulty::default());
    let port = home
        .add_node(NodeSetup {
            config: NodeConfig::new(id),
            tun: None,
            sink: sink.clone(),
            lab: "test".into(),
            shard: Some(0),
        })
        .expect("added");
    let node = TestNode {
        id,
        port,
        record: Arc::new(RecordingSink::default()),
        space: None,
    };
    FaultyNode { node, sink }
}

fn receive(node: &TestNode, from: NodeId) {
    let filter = FlowFilter {
        src_node: from,
        group: None,
        src_port: 45_535,
        dst_port: 8_888,
    };
    node.command(Command::RegisterReceiver { filter });
}

fn send(from: &TestNode, to: NodeId, text: &[u8]) {
    from.command(Command::SendMessage {
        target: Target::Node(to),
        src_port: None,
        dst_port: None,
        payload: SharedBytes::new(text.to_vec()),
    });
}

/// A message that makes its receiver fail. The sender's request may be pending at that time and then fails too.
fn poison(from: &TestNode, to: NodeId) {
    let command = Command::SendMessage {
        target: Target::Node(to),
        src_port: None,
        dst_port: None,
        payload: SharedBytes::new(b"poison".to_vec()),
    };
    if let Err(error) = from.port.command(command) {
        assert_eq!(error.id(), "node.engine_failed");
    }
}

fn arrives(from: &TestNode, to: &TestNode, record: &RecordingSink, text: &[u8]) {
    send(from, to.id, text);
    record.wait("the message", |record| {
        record.messages.pop().filter(|message| message == text)
    });
}

/// Nodes 1 and 3 do not fail and are linked in memory on the same thread to node 2, which fails.
struct Scene {
    home: Arc<Runtime>,
    one: TestNode,
    two: FaultyNode,
    three: TestNode,
}

fn scene() -> Scene {
    let home = runtime(1);
    let (one, two, three) = (node(&home, 1), faulty(&home, 2), node(&home, 3));
    join(&one, &three);
    for other in [&one, &three] {
        other.link(2, LinkKind::Memory);
        two.node.link(other.id, LinkKind::Memory);
        other.record.wait_link(2, true);
    }
    one.route(&[(2, 2), (3, 3)]);
    three.route(&[(1, 1), (2, 2)]);
    receive(&two.node, 1);
    receive(&three, 1);
    Scene {
        home,
        one,
        two,
        three,
    }
}

#[test]
fn only_the_failed_node_is_restarted() {
    let Scene {
        home,
        one,
        two,
        three,
    } = scene();
    let FaultyNode { node: faulty, sink } = &two;
    let open = Command::ReceiveData {
        dest: nm_engine::AddressPlan::default().node_addr(2),
        source: 1,
        expected_bytes: 1_000_000,
    };
    let CommandOutput::Session(session) = faulty.command(open) else {
        panic!("a session")
    };
    faulty.command(Command::JoinGroup { group_id: 7 });
    sink.armed.store(true, Ordering::SeqCst);
    // A packet from its neighbour makes it fail.
    poison(&one, 2);
    let reason = sink.record.wait_link(u32::MAX, false);
    assert!(
        reason.starts_with("the packet engine of node 2 failed: injected (driver/tests/panics.rs:"),
        "{reason}"
    );
    // Its sink receives the end of everything that has ended.
    assert_eq!(sink.record.wait_link(1, false), reason);
    sink.record.wait("the end of the session", |record| {
        record.events.iter().find_map(|event| match event {
            Event::SessionFinished { report, .. } if report.session == session => {
                assert_eq!(report.state, SessionState::Failed);
                Some(())
            }
            _ => None,
        })
    });
    // The neighbours get the state of the link and the reason.
    for other in [&one, &three] {
        let text = other.record.wait_link(2, false);
        assert!(text.contains("failed and was restarted"), "{text}");
    }
    arrives(&one, &three, &three.record, b"the others continue");
    let stats = faulty.port.stats().expect("the handle stays valid");
    assert!(stats.links.is_empty());
    // The controller's next orders.
    faulty.link(1, LinkKind::Memory);
    one.record.wait_link(2, true);
    receive(faulty, 1);
    arrives(&one, faulty, &sink.record, b"back again");
    assert_eq!(home.stats().shards[0].panics, 1);
    assert_eq!(sink.restarts.load(Ordering::SeqCst), 1);
    let joined = |record: &mut common::Record| {
        let joins = record.events.iter();
        let member = |event: &&Event| matches!(event, Event::LocalMemberJoined { group_id: 7 });
        (joins.filter(member).count() == 2).then_some(())
    };
    sink.record.wait("the membership again", joined);
}

#[test]
fn the_device_of_a_failed_node_stays_and_carries_packets_again() {
    if !permitted() {
        return;
    }
    let home = runtime(1);
    let one = tun_node(&home, 1, Some(0), OffloadChoice::Auto);
    let sink = Arc::new(Faulty::default());
    let space = nm_kernel::namespace::create().expect("namespace");
    let descriptor = space.try_clone().expect("a free descriptor");
    let port = home
        .add_node(NodeSetup {
            config: NodeConfig::new(2),
            tun: Some(TunSetup {
                name: "utun".into(),
                interface: TunSetup::interface([10, 0, 0, 2].into(), 16, 1500),
                offload: OffloadChoice::Auto,
                queues: 1,
                device: nm_kernel::tun::DEFAULT_DEVICE.into(),
                namespace: TunNamespace::Descriptor(descriptor),
            }),
            sink: sink.clone(),
            lab: "test".into(),
            shard: Some(0),
        })
        .expect("added");
    let two = FaultyNode {
        node: TestNode {
            id: 2,
            port,
            record: Arc::new(RecordingSink::default()),
            space: Some(space),
        },
        sink,
    };
    let ping = || {
        let (ok, text) = one.run("ping", &["-c", "5", "-i", "0.01", "-W", "5", "10.0.0.2"]);
        assert!(ok && text.contains(" 0% packet loss"), "{text}");
    };
    for round in 0..2 {
        join_faulty(&one, &two);
        one.route(&[(2, 2)]);
        two.node.route(&[(1, 1)]);
        ping();
        if round == 0 {
            receive(&two.node, 1);
            two.sink.armed.store(true, Ordering::SeqCst);
            poison(&one, 2);
            two.sink.record.wait_link(u32::MAX, false);
            one.record.wait_link(2, false);
        }
    }
    assert_eq!(home.stats().shards[0].panics, 1);
}

#[test]
fn a_pending_request_fails_when_its_thread_panics() {
    let home = runtime(1);
    let (one, two) = (node(&home, 1), faulty(&home, 2));
    one.link(2, LinkKind::Memory);
    two.sink.armed.store(true, Ordering::SeqCst);
    let setup = memory_link_to_one();
    let error = two.node.port.connect_link(setup.clone()).expect_err("lost");
    assert_eq!(error.id(), "node.engine_failed");
    two.node.port.connect_link(setup).expect("the second time");
    one.record.wait_link(2, true);
}

#[test]
fn links_to_other_processes_survive_a_panic_of_another_node() {
    for carrier in CARRIERS {
        let (home, away) = (runtime_for(carrier, 1), runtime_for(carrier, 1));
        let (one, two, four) = (node(&home, 1), faulty(&home, 2), node(&away, 4));
        // One link that is up, one that is being dialled, one that waits to be dialled.
        one.link(4, LinkKind::Accept);
        dial(&four, &home, 1);
        one.record.wait_link(4, true);
        four.record.wait_link(1, true);
        one.route(&[(2, 2), (4, 4)]);
        four.route(&[(1, 1)]);
        join_faulty(&one, &two);
        receive(&two.node, 1);
        receive(&four, 1);
        receive(&one, 4);
        two.sink.armed.store(true, Ordering::SeqCst);
        poison(&one, 2);
        two.sink.record.wait_link(u32::MAX, false);
        arrives(&one, &four, &four.record, b"there");
        arrives(&four, &one, &one.record, b"and back");
        let downs = one.record.wait("a look", |record| {
            Some(
                record
                    .links
                    .iter()
                    .filter(|link| link.0 == 4 && !link.1)
                    .count(),
            )
        });
        assert_eq!(downs, 0, "{carrier}");
    }
}

fn join_faulty(one: &TestNode, two: &FaultyNode) {
    one.link(two.node.id, LinkKind::Memory);
    two.node.link(one.id, LinkKind::Memory);
    one.record.wait_link(two.node.id, true);
}

#[test]
fn a_neighbour_reconnects_to_a_restarted_node() {
    for carrier in CARRIERS {
        let (home, away) = (runtime_for(carrier, 1), runtime_for(carrier, 1));
        let (two, four) = (faulty(&home, 2), node(&away, 4));
        two.node.link(4, LinkKind::Accept);
        dial(&four, &home, 2);
        four.record.wait_link(2, true);
        four.route(&[(2, 2)]);
        receive(&two.node, 4);
        two.sink.armed.store(true, Ordering::SeqCst);
        poison(&four, 2);
        two.sink.record.wait_link(u32::MAX, false);
        four.record.wait_link(2, false);
        two.node.link(4, LinkKind::Accept);
        four.record.wait_link(2, true);
        receive(&two.node, 4);
        arrives(&four, &two.node, &two.sink.record, b"again");
    }
}

#[test]
fn repeated_panics_restart_every_node_of_the_thread() {
    let Scene { home, one, two, .. } = scene();
    for count in 1..=5 {
        two.sink.armed.store(true, Ordering::SeqCst);
        poison(&one, 2);
        let deadline = Instant::now() + LIMIT;
        while two.sink.restarts.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "restart {count}");
            std::thread::sleep(Duration::from_millis(1));
        }
        if count < 5 {
            two.node.link(1, LinkKind::Memory);
            one.record.wait_link(2, true);
            receive(&two.node, 1);
        }
    }
    // The fifth time it counts as the thread's fault and restarts the other engines as well. The restart of node 1's
    // neighbour may be reported after its own, so the reason need not be the last one.
    one.record.wait("a restart of its own engine", |record| {
        record.links.iter().find_map(|(remote, up, reason)| {
            (*remote == 3 && !up && reason.starts_with("packet thread 0 failed: injected"))
                .then_some(())
        })
    });
    assert_eq!(home.stats().shards[0].panics, 5);
    one.port.stats().expect("it still runs");
}

#[test]
fn too_many_panics_of_a_thread_end_its_process() {
    const CHILD: &str = "NM_TEST_PANICS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        // In the child: a node that fails whenever its link comes up, ten times.
        let home = Runtime::start(RuntimeConfig {
            shards: Some(1),
            ..RuntimeConfig::default()
        })
        .expect("started");
        let (one, two) = (node(&home, 1), faulty(&home, 2));
        one.link(2, LinkKind::Memory);
        for _ in 0..20 {
            two.sink.armed.store(true, Ordering::SeqCst);
            one.link(2, LinkKind::Memory);
            let setup = memory_link_to_one();
            let _ = two.node.port.connect_link(setup);
        }
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "too_many_panics_of_a_thread_end_its_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        text.contains(
            "packet thread 0 failed 10 times within a minute, the last time with: injected"
        ),
        "{text}"
    );
    assert!(text.contains("`nm up` starts it again"), "{text}");
}

fn memory_link_to_one() -> nm_driver::runtime::LinkSetup {
    nm_driver::runtime::LinkSetup {
        remote: 1,
        remote_name: "n1".into(),
        kind: LinkKind::Memory,
        socket: None,
        spec: nm_engine::LinkSpec::default(),
        secret: None,
    }
}
