//! Tests of schedulers and marks with sockets of the kernel over TUN devices, in separate namespaces.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{join, permitted, runtime, tun_node, TestNode};
use nm_driver::runtime::OffloadChoice;
use nm_engine::{
    ClassKey, Classes, Command, CommandOutput, LinkSpec, LinkStats, QueueDiscipline, Scheduler,
};

/// Two nodes, the first of which sends to the second over a link with these impairments.
fn pair(
    spec: LinkSpec,
) -> (
    std::sync::Arc<nm_driver::runtime::Runtime>,
    TestNode,
    TestNode,
) {
    let runtime = runtime(1);
    let nodes = [1, 2].map(|id| tun_node(&runtime, id, None, OffloadChoice::Auto));
    let [one, two] = nodes;
    join(&one, &two);
    one.route(&[(2, 2)]);
    two.route(&[(1, 1)]);
    assert!(matches!(
        one.command(Command::SetLink { remote: 2, spec }),
        CommandOutput::Done
    ));
    (runtime, one, two)
}

fn statistics(node: &TestNode) -> LinkStats {
    let mut stats = node.port.stats().expect("the shard answers");
    stats.links.remove(0)
}

#[test]
fn two_flows_share_a_link_by_their_weights() {
    if !permitted() {
        return;
    }
    const PORTS: [u16; 2] = [5_001, 5_002];
    let weights = [(5_001, 1), (5_002, 4)].into();
    let by = ClassKey::DstPort;
    let (_runtime, one, two) = pair(LinkSpec {
        rate_bps: Some(10_000_000),
        limit_packets: Some(50),
        scheduler: Scheduler::Drr(Classes { by, weights }),
        ..LinkSpec::default()
    });
    let receivers = PORTS.map(|port| {
        let socket = two.inside(|| UdpSocket::bind(("0.0.0.0", port)).expect("bound"));
        let timeout = Some(Duration::from_millis(20));
        socket.set_read_timeout(timeout).expect("timeout");
        socket
    });
    let ended = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let counting = receivers.each_ref().map(|socket| {
            scope.spawn(|| {
                let (mut buffer, mut count) = ([0; 2_000], 0u32);
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(_) => count += 1,
                        Err(_) if ended.load(Ordering::Relaxed) => return count,
                        Err(_) => {}
                    }
                }
            })
        });
        let sender = one.inside(|| UdpSocket::bind(("0.0.0.0", 0)).expect("bound"));
        let end = Instant::now() + Duration::from_secs(2);
        // Each flow offers about 20 Mbit/s.
        while Instant::now() < end {
            for port in [PORTS, PORTS].concat() {
                sender
                    .send_to(&[0; 1_200], ("10.0.0.2", port))
                    .expect("sent");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        ended.store(true, Ordering::Relaxed);
        counting.map(|thread| f64::from(thread.join().expect("the receiver ends")))
    });
    let stats = statistics(&one);
    assert!(
        stats.tx.packets > 1_000,
        "the link was saturated: {stats:?}"
    );
    let ratio = counts[1] / counts[0];
    assert!((3.2..4.8).contains(&ratio), "{counts:?} {stats:?}");
}

#[test]
fn a_tcp_flow_with_ecn_is_marked_and_loses_nothing() {
    if !permitted() {
        return;
    }
    let (_runtime, one, two) = pair(LinkSpec {
        rate_bps: Some(20_000_000),
        delay_us: 10_000,
        limit_bytes: Some(8_000_000),
        queue: QueueDiscipline::Codel {
            target_us: 5_000,
            interval_us: 100_000,
        },
        ecn: true,
        ..LinkSpec::default()
    });
    for node in [&one, &two] {
        node.inside(|| std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1"))
            .expect("the namespace has its own setting");
    }
    let listener = two.inside(|| TcpListener::bind(("0.0.0.0", 5_003)).expect("bound"));
    let data = vec![7u8; 6_000_000];
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accepted");
            let timeout = Some(common::LIMIT);
            stream.set_read_timeout(timeout).expect("timeout");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("everything arrives");
            got.len()
        });
        let mut stream = one.inside(|| TcpStream::connect("10.0.0.2:5003").expect("connected"));
        let timeout = Some(common::LIMIT);
        stream.set_write_timeout(timeout).expect("timeout");
        stream.write_all(&data).expect("sent");
        drop(stream);
        receiver.join().expect("the receiver ends")
    });
    assert_eq!(received, data.len());
    let stats = statistics(&one);
    assert!(stats.impaired.ecn > 0, "{stats:?}");
    assert_eq!(stats.tx.drops.total(), 0, "{stats:?}");
    let arrived = counter(&two, "IpExt", "InCEPkts");
    assert!(
        arrived > 0 && arrived <= stats.impaired.ecn,
        "{arrived} of {}",
        stats.impaired.ecn
    );
}

/// A counter of the kernel in a node's namespace.
fn counter(node: &TestNode, protocol: &str, name: &str) -> u64 {
    let text = node.inside(|| std::fs::read_to_string("/proc/thread-self/net/netstat"));
    let text = text.expect("the kernel has counters");
    let prefix = format!("{protocol}:");
    let mut lines = text.lines().filter(|line| line.starts_with(&prefix));
    let (names, values) = lines.next().zip(lines.next()).expect("names and values");
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs
        .find(|(other, _)| *other == name)
        .expect("the counter");
    value.parse().expect("a number")
}
