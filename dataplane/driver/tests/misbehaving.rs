//! Test that a neighbour or owner that misbehaves affects no other node.

mod common;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{frame, prove, read_frame, BYE, WELCOME};
use common::{
    dial, join, key, node, permitted, runtime, runtime_for, tun_node, RecordingSink, TestNode,
    CARRIERS, LIMIT, TOKEN,
};
use nm_driver::runtime::{Carrier, LinkKind, NodeSetup, NodeSink, OffloadChoice, Runtime};
use nm_engine::{Command, Delivery, Event, FlowFilter, NodeConfig, NodeId, SharedBytes, Target};
use nm_kernel::local;
use nm_kernel::ring::{RingMemory, RingWriter};

/// A neighbour whose bytes the test writes itself.
enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
    Shared(UnixStream, RingWriter),
}

impl Raw {
    fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).expect("sent"),
            Self::Unix(stream) => stream.write_all(bytes).expect("sent"),
            Self::Shared(doorbell, out) => {
                assert_eq!(out.write(&[IoSlice::new(bytes)]), Ok(bytes.len()));
                doorbell.write_all(&[1]).expect("written");
            }
        }
    }
}

/// A neighbour after its welcome.
fn raw_neighbour(home: &Runtime, carrier: Carrier, from: NodeId, to: NodeId) -> Raw {
    if carrier == Carrier::Tcp {
        let address: SocketAddr = home.listen_address().expect("it listens");
        let mut stream = TcpStream::connect(address).expect("the socket is open");
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        let proof = prove(&mut stream, &key(TOKEN), from, to);
        stream.write_all(&proof).expect("sent");
        assert!(!welcomed(&mut stream));
        return Raw::Tcp(stream);
    }
    if carrier == Carrier::Unix {
        let (mut stream, proof) = proven(home, from, to);
        stream.write_all(&proof).expect("sent");
        assert!(!welcomed(&mut stream));
        return Raw::Unix(stream);
    }
    let (out, _, memory) = RingMemory::make().expect("memory");
    let (mut stream, proof) = proven(home, from, to);
    local::send_with(&stream, &proof, memory.as_fd()).expect("sent");
    assert!(welcomed(&mut stream), "the memory is taken");
    Raw::Shared(stream, out)
}

/// A unix socket whose handshake lacks only the dialler's proof.
fn proven(home: &Runtime, from: NodeId, to: NodeId) -> (UnixStream, Vec<u8>) {
    let socket = home.socket().expect("usable").expect("it has one");
    let mut stream = UnixStream::connect(socket).expect("the socket is open");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    let proof = prove(&mut stream, &key(TOKEN), from, to);
    (stream, proof)
}

/// Reads a welcome; returns whether it is one to shared memory.
fn welcomed(stream: &mut impl Read) -> bool {
    let (flags, body) = read_frame(stream).expect("an answer");
    assert_eq!(flags, WELCOME, "{}", String::from_utf8_lossy(&body));
    body == [1]
}

fn message(from: &TestNode, to: NodeId, payload: Vec<u8>) {
    let payload = SharedBytes::new(payload);
    from.command(Command::SendMessage {
        target: Target::Node(to),
        src_port: None,
        dst_port: None,
        payload,
    });
}

#[test]
fn every_end_of_a_stream_is_reported_with_its_reason() {
    for carrier in CARRIERS {
        ends_of_a_stream_over(carrier);
    }
}

fn ends_of_a_stream_over(carrier: Carrier) {
    let home = runtime_for(carrier, 1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let mut half = frame(0, &[0x45; 100]);
    half.truncate(60);
    let mut large = frame(0, &[]);
    large[..4].copy_from_slice(&70_000u32.to_le_bytes());
    let cases: [(&[u8], &str); 5] = [
        (&[], "closed the link"),
        (&half, "in the middle of a packet"),
        (&large, "a frame of 70000 bytes; at most 65535"),
        (
            &frame(WELCOME, &[]),
            "violates the link protocol: a second welcome",
        ),
        (
            &frame(BYE, b"closed by the test"),
            "ended the link: closed by the test",
        ),
    ];
    for (bytes, reason) in cases {
        let mut neighbour = raw_neighbour(&home, carrier, 2, 1);
        one.record.wait_link(2, true);
        if !bytes.is_empty() {
            neighbour.send(bytes);
        }
        let half_closed = match &neighbour {
            Raw::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Raw::Unix(stream) | Raw::Shared(stream, _) => stream.shutdown(Shutdown::Write),
        };
        half_closed.expect("half closed");
        let text = one.record.wait_link(2, false);
        assert!(text.contains(reason), "{text:?} should contain {reason:?}");
    }
}

#[test]
fn an_invalid_packet_is_counted_and_the_link_stays_up() {
    for carrier in CARRIERS {
        invalid_packets_over(carrier);
    }
}

fn invalid_packets_over(carrier: Carrier) {
    let home = runtime_for(carrier, 1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let mut neighbour = raw_neighbour(&home, carrier, 2, 1);
    one.record.wait_link(2, true);
    for body in [&[][..], &[0x45], &[0xff; 300], &[0x45; 40]] {
        neighbour.send(&frame(0, body));
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let dropped: u64 = one
            .port
            .stats()
            .expect("it still runs")
            .links
            .iter()
            .map(|link| link.rx.drops.total())
            .sum();
        if dropped >= 4 {
            break;
        }
        assert!(Instant::now() < deadline, "{dropped} of 4 counted");
        std::thread::yield_now();
    }
    assert!(
        one.record
            .wait("the link", |record| record.links.last().cloned())
            .1,
        "still up"
    );
}

#[test]
fn a_neighbour_that_does_not_read_does_not_delay_others() {
    for carrier in CARRIERS {
        no_delay_over(carrier);
    }
}

fn no_delay_over(carrier: Carrier) {
    let home = runtime_for(carrier, 1);
    let (one, three) = (node(&home, 1), node(&home, 3));
    join(&one, &three);
    one.link(2, LinkKind::Accept);
    one.route(&[(2, 2), (3, 3)]);
    let _silent = raw_neighbour(&home, carrier, 2, 1);
    one.record.wait_link(2, true);
    // More than the socket's buffers and the queue hold together.
    for _ in 0..600 {
        message(&one, 2, vec![1; 60_000]);
    }
    let filter = FlowFilter {
        src_node: 1,
        group: None,
        src_port: 45_535,
        dst_port: 8_888,
    };
    three.command(Command::RegisterReceiver { filter });
    let start = Instant::now();
    message(&one, 3, b"hello".to_vec());
    three
        .record
        .wait("the message", |record| record.messages.pop());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(home.stats().shards[0].stream_full > 0);
}

#[test]
fn a_link_with_room_resumes_only_the_nodes_that_wait_for_it() {
    if !permitted() {
        return;
    }
    for carrier in CARRIERS {
        let (home, away) = (runtime_for(carrier, 1), runtime_for(carrier, 1));
        let one = tun_node(&home, 1, None, OffloadChoice::Off);
        let (three, four) = (node(&home, 3), node(&away, 4));
        one.link(2, LinkKind::Accept);
        one.route(&[(2, 2)]);
        three.link(4, LinkKind::Accept);
        dial(&four, &home, 3);
        three.record.wait_link(4, true);
        three.route(&[(4, 4)]);
        let _silent = raw_neighbour(&home, carrier, 2, 1);
        one.record.wait_link(2, true);
        // The link to the neighbour that does not read is soon full; every message to the other is flushed at once.
        let socket = one.inside(|| UdpSocket::bind("10.0.0.1:0").expect("a socket"));
        let pauses = || home.stats().shards[0].pauses;
        let deadline = Instant::now() + LIMIT;
        let mut after = 0;
        while after < 500 {
            for _ in 0..10 {
                let _ = socket.send_to(&[1; 1400], "10.0.0.2:9");
            }
            message(&three, 4, vec![1; 100]);
            after += u32::from(pauses() > 0);
            assert!(Instant::now() < deadline, "{carrier}: never full");
        }
        // Once, and perhaps once more while the kernel's buffers still accepted some.
        assert!(pauses() <= 3, "{} pauses with {carrier}", pauses());
    }
}

#[test]
fn corrupted_shared_memory_ends_its_link_only() {
    let home = runtime_for(Carrier::Shared, 1);
    let (one, three) = (node(&home, 1), node(&home, 3));
    join(&one, &three);
    one.link(2, LinkKind::Accept);
    // The positions of the writer and the reader are in the first page of the memory, two cache lines apart. The
    // neighbour may write all of it, so it writes random bytes everywhere.
    for value in [u64::MAX, 1 << 40, (1 << 20) + 1] {
        let (_out, _back, memory) = RingMemory::make().expect("memory");
        let writer = File::from(memory.try_clone().expect("a free descriptor"));
        let (stream, proof) = proven(&home, 2, 1);
        local::send_with(&stream, &proof, memory.as_fd()).expect("sent");
        assert!(welcomed(&mut &stream));
        one.record.wait_link(2, true);
        for line in 0..64 {
            writer
                .write_all_at(&value.to_le_bytes(), line * 64)
                .expect("a file of this test");
        }
        // The shard may have read it by itself already, and closed.
        let _ = (&stream).write_all(&[1]);
        let reason = one.record.wait_link(2, false);
        assert!(reason.contains("corrupted the shared memory"), "{reason}");
    }
    one.route(&[(3, 3)]);
    assert!(
        one.record
            .wait("the link to 3", |record| {
                record.links.iter().rev().find(|link| link.0 == 3).cloned()
            })
            .1
    );
}

#[test]
fn an_invalid_memory_descriptor_is_ignored_and_the_link_stays_on_the_socket() {
    let home = runtime_for(Carrier::Shared, 1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let (stream, proof) = proven(&home, 2, 1);
    let file = File::open("/dev/zero").expect("/dev/zero exists");
    local::send_with(&stream, &proof, file.as_fd()).expect("sent");
    assert!(!welcomed(&mut &stream));
    one.record.wait_link(2, true);
    assert_eq!(one.record.carrier(2), Some(Carrier::Unix));
}

/// A sink whose callback blocks, which is forbidden, until the test opens the gate.
struct BlockingSink {
    record: RecordingSink,
    gate: Mutex<Receiver<()>>,
}

impl NodeSink for BlockingSink {
    fn event(&self, event: Event) {
        self.record.event(event);
    }
    fn deliver(&self, delivery: Delivery) -> bool {
        self.record.deliver(delivery)
    }
    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        if carrier.is_some() {
            let gate = self.gate.lock().expect("no panic");
            // Bounded, so that a failed assertion does not leave a thread behind.
            let _ = gate.recv_timeout(Duration::from_secs(60));
        }
        self.record.link_state(remote, carrier, reason);
    }
    fn shard_stalled(&self, shard: usize, for_ms: u64, nodes: &[NodeId]) {
        self.record.link_state(
            u32::MAX,
            Some(Carrier::Memory),
            &format!("{shard} {for_ms} {nodes:?}"),
        );
    }
    fn shard_resumed(&self, shard: usize, _nodes: &[NodeId]) {
        self.record
            .link_state(u32::MAX, None, &format!("{shard} moves"));
    }
}

#[test]
fn a_stalled_shard_is_reported_and_the_others_continue() {
    let home = runtime(3);
    let (open, gate) = channel();
    let blocking = Arc::new(BlockingSink {
        record: RecordingSink::default(),
        gate: Mutex::new(gate),
    });
    let port = home
        .add_node(NodeSetup {
            config: NodeConfig::new(1),
            tun: None,
            sink: blocking.clone(),
            lab: "test".into(),
            shard: Some(0),
        })
        .expect("added");
    let tap = Arc::new(nm_driver::runtime::Tap::new(vec![]));
    port.add_tap(&tap).expect("added");
    let (two, three) = (node_on(&home, 2, 1), node_on(&home, 3, 2));
    // Its result depends on which end of the link was first; it only has to return.
    let stuck = std::thread::spawn({
        let port = port.clone();
        move || {
            let setup = nm_driver::runtime::LinkSetup {
                remote: 2,
                remote_name: "n2".into(),
                kind: LinkKind::Memory,
                socket: None,
                spec: nm_engine::LinkSpec::default(),
                secret: None,
            };
            port.connect_link(setup)
        }
    });
    two.link(1, LinkKind::Memory);
    let reported = blocking.record.wait_link(u32::MAX, true);
    assert!(
        reported.starts_with("0 ") && reported.ends_with(" [1]"),
        "{reported}"
    );
    assert!(home.stats().shards[0].stalled);
    assert!(!home.stats().shards[1].stalled);
    // A thread that serves all nodes must not be blocked by one: refused at once, not after half a minute.
    let asked = Instant::now();
    let refused = port.stats().expect_err("a stalled thread");
    assert_eq!(refused.id(), "node.stalled");
    assert!(asked.elapsed() < Duration::from_secs(10));
    port.remove_tap(&tap);
    assert!(asked.elapsed() < Duration::from_secs(10));
    // The gate is still closed, so the other shards have done this beside the stuck one.
    join(&two, &three);
    open.send(()).expect("the shard waits for it");
    let _ = stuck.join().expect("it ends");
    assert_eq!(blocking.record.wait_link(u32::MAX, false), "0 moves");
    port.stats()
        .expect("the shard goes on, with what came before");
    assert_eq!(Arc::strong_count(&tap), 1, "it was removed");
}

fn node_on(home: &Runtime, id: NodeId, shard: usize) -> TestNode {
    let record = Arc::new(RecordingSink::default());
    let port = home
        .add_node(NodeSetup {
            config: NodeConfig::new(id),
            tun: None,
            sink: record.clone(),
            lab: "test".into(),
            shard: Some(shard),
        })
        .expect("added");
    TestNode {
        id,
        port,
        record,
        space: None,
    }
}
