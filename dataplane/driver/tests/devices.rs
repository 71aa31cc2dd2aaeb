//! Tests with ordinary programs over TUN devices, in separate namespaces.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::{join, permitted, runtime, tun_node, TestNode};
use nm_driver::runtime::{LinkKind, OffloadChoice, Runtime, RuntimeConfig};
use nm_engine::LinkSpec;
use nm_kernel::write_batch::WriteBatch;

/// A line of three nodes on the given shards.
fn line(runtime: &Runtime, shards: [usize; 3], offload: OffloadChoice) -> [TestNode; 3] {
    let nodes = [1, 2, 3].map(|id| tun_node(runtime, id, Some(shards[id as usize - 1]), offload));
    join(&nodes[0], &nodes[1]);
    join(&nodes[1], &nodes[2]);
    nodes[0].route(&[(2, 2), (3, 2)]);
    nodes[1].route(&[(1, 1), (3, 3)]);
    nodes[2].route(&[(1, 2), (2, 2)]);
    nodes
}

fn ping(from: &TestNode, to: &str, count: u32) {
    let (ok, text) = from.run(
        "ping",
        &["-c", &count.to_string(), "-i", "0.01", "-W", "2", to],
    );
    assert!(ok && text.contains(" 0% packet loss"), "{text}");
}

/// Sends `length` bytes over TCP from one node to another and compares what arrives.
fn transfer(from: &TestNode, to: &TestNode, length: usize) {
    let listener = to.inside(|| TcpListener::bind(("0.0.0.0", 0)).expect("bind"));
    let port = listener.local_addr().expect("bound").port();
    let data: Vec<u8> = (0..length)
        .map(|i| (i ^ (i >> 9) ^ (i >> 17)) as u8)
        .collect();
    let address = format!("10.0.0.{}:{port}", to.id);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accepted");
            stream
                .set_read_timeout(Some(common::LIMIT))
                .expect("timeout");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("everything arrives");
            got
        });
        let mut stream = from.inside(|| TcpStream::connect(&address).expect("connected"));
        stream
            .set_write_timeout(Some(common::LIMIT))
            .expect("timeout");
        stream.write_all(&data).expect("sent");
        drop(stream);
        assert!(
            receiver.join().expect("the receiver ends") == data,
            "the bytes differ"
        );
    });
}

/// A socket at a node's address, whose reads have a time limit.
fn udp(node: &TestNode, port: u16) -> UdpSocket {
    let address = format!("10.0.0.{}:{port}", node.id);
    let socket = node.inside(|| UdpSocket::bind(&address).expect("bind"));
    socket
        .set_read_timeout(Some(common::LIMIT))
        .expect("timeout");
    socket
}

#[test]
fn ping_and_tcp_pass_over_two_hops_on_one_shard() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let nodes = line(&runtime, [0, 0, 0], OffloadChoice::Auto);
    ping(&nodes[0], "10.0.0.3", 5);
    ping(&nodes[2], "10.0.0.2", 5);
    transfer(&nodes[0], &nodes[2], 8 << 20);
    transfer(&nodes[2], &nodes[0], 3 << 20);
}

#[test]
fn packets_arrive_whether_or_not_they_are_written_several_at_a_time() {
    if !permitted() {
        return;
    }
    for batched_writes in [true, false] {
        let config = RuntimeConfig {
            shards: Some(1),
            batched_writes,
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::start(config).expect("a runtime needs no privilege");
        // Without offload a transfer has many packets per batch, some of them segmented by the engine.
        let nodes = line(&runtime, [0, 0, 0], OffloadChoice::Off);
        transfer(&nodes[0], &nodes[2], 8 << 20);
        let stats = runtime.stats().shards[0];
        let offered = batched_writes && WriteBatch::new().is_ok();
        assert_eq!(
            stats.tun_batched > stats.tun_writes / 4,
            offered,
            "{stats:?}"
        );
        assert!(offered || stats.tun_batched == 0, "{stats:?}");
    }
}

#[test]
fn ping_and_tcp_pass_between_shards() {
    if !permitted() {
        return;
    }
    let runtime = runtime(3);
    let nodes = line(&runtime, [0, 1, 2], OffloadChoice::Auto);
    ping(&nodes[0], "10.0.0.3", 5);
    transfer(&nodes[0], &nodes[2], 8 << 20);
    let stats = runtime.stats();
    assert!(
        stats.shards.iter().all(|shard| shard.handed_over > 0),
        "{stats:?}"
    );
}

#[test]
fn a_device_without_offload_gets_only_ordinary_packets() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let plain = tun_node(&runtime, 1, None, OffloadChoice::Off);
    let offload = tun_node(&runtime, 2, None, OffloadChoice::Auto);
    join(&plain, &offload);
    plain.route(&[(2, 2)]);
    offload.route(&[(1, 1)]);
    assert_eq!(plain.port.offload().to_string(), "off (switched off)");
    ping(&plain, "10.0.0.2", 3);
    // Super-packets of the first are segmented for the other; ordinary packets of the other stay unchanged.
    transfer(&offload, &plain, 4 << 20);
    transfer(&plain, &offload, 4 << 20);
}

#[test]
fn nodes_are_placed_in_blocks_unless_their_packets_are_plain() {
    if !permitted() {
        return;
    }
    let config = RuntimeConfig {
        shards: Some(2),
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::start(config).expect("a runtime needs no privilege");
    let shard_of = |id, offload| tun_node(&runtime, id, None, offload).port.shard();
    let offloaded = [1, 2].map(|id| shard_of(id, OffloadChoice::Auto));
    let plain = [3, 4].map(|id| shard_of(id, OffloadChoice::Off));
    assert_eq!((offloaded, plain), ([0, 0], [0, 1]));
}

#[test]
fn datagrams_are_echoed() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let nodes = line(&runtime, [0, 0, 0], OffloadChoice::Auto);
    let (server, client) = (udp(&nodes[2], 7000), udp(&nodes[0], 7001));
    let mut buffer = [0; 2000];
    for size in [0, 1, 1472] {
        client
            .send_to(&vec![7; size], "10.0.0.3:7000")
            .expect("sent");
        let (got, from) = server.recv_from(&mut buffer).expect("it arrives");
        assert_eq!(got, size);
        server.send_to(&buffer[..got], from).expect("sent back");
        assert_eq!(client.recv(&mut buffer).expect("an echo"), size);
    }
}

#[test]
fn datagrams_that_were_written_together_arrive_one_by_one_as_they_were_sent() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let nodes = line(&runtime, [0, 0, 0], OffloadChoice::Auto);
    let (server, client) = (udp(&nodes[2], 7000), udp(&nodes[0], 7001));
    client.connect("10.0.0.3:7000").expect("a route");
    let before: u64 = written(&runtime);
    let mut buffer = [0; 2000];
    // A burst fits the receiver's buffer; most lengths are equal, some differ.
    let length = |number: usize| {
        if number.is_multiple_of(17) {
            number % 400
        } else {
            300
        }
    };
    let datagram = |number: usize| vec![number as u8; length(number)];
    for burst in 0..20 {
        let numbers = burst * 100..(burst + 1) * 100;
        for number in numbers.clone() {
            client.send(&datagram(number)).expect("sent");
        }
        for number in numbers {
            let got = server.recv(&mut buffer).expect("it arrives");
            assert!(buffer[..got] == datagram(number), "datagram {number}");
        }
    }
    let written = written(&runtime) - before;
    assert!(written < 2000, "2000 datagrams took {written} writes");
}

fn written(runtime: &Runtime) -> u64 {
    runtime
        .stats()
        .shards
        .iter()
        .map(|shard| shard.tun_writes)
        .sum()
}

#[test]
fn a_delay_of_ten_milliseconds_is_measured_as_ten_milliseconds() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let nodes = [1, 2].map(|id| tun_node(&runtime, id, None, OffloadChoice::Auto));
    let spec = LinkSpec {
        delay_us: 10_000,
        ..LinkSpec::default()
    };
    for (node, remote) in [(&nodes[0], 2), (&nodes[1], 1)] {
        node.link_with(remote, LinkKind::Memory, spec.clone(), common::TOKEN);
        node.route(&[(remote, remote)]);
    }
    nodes[0].record.wait_link(2, true);
    nodes[1].record.wait_link(1, true);
    let (socket, echo) = (udp(&nodes[0], 7001), udp(&nodes[1], 7000));
    let best = (0..10)
        .map(|_| {
            let (start, mut buffer) = (Instant::now(), [0; 16]);
            socket.send_to(b"ping", "10.0.0.2:7000").expect("sent");
            let (_, from) = echo.recv_from(&mut buffer).expect("it arrives");
            echo.send_to(b"pong", from).expect("sent back");
            socket.recv(&mut buffer).expect("an echo");
            start.elapsed()
        })
        .min()
        .expect("ten times");
    assert!(best >= Duration::from_millis(20), "{best:?}");
    assert!(best < Duration::from_millis(22), "{best:?}");
}

/// Two nodes whose links to each other have these impairments.
fn impaired_pair(runtime: &Runtime, spec: &LinkSpec) -> [TestNode; 2] {
    let nodes = [1, 2].map(|id| tun_node(runtime, id, None, OffloadChoice::Auto));
    for (node, remote) in [(&nodes[0], 2), (&nodes[1], 1)] {
        node.link_with(remote, LinkKind::Memory, spec.clone(), common::TOKEN);
        node.route(&[(remote, remote)]);
    }
    nodes[0].record.wait_link(2, true);
    nodes[1].record.wait_link(1, true);
    nodes
}

/// The number of packets with a wrong checksum that a node's kernel received for `protocol`.
fn checksum_errors(node: &TestNode, protocol: &str) -> u64 {
    let (ok, text) = node.run("cat", &["/proc/net/snmp"]);
    assert!(ok, "{text}");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let field = fields.find(|(name, _)| *name == "InCsumErrors");
    field.expect("the counter").1.parse().expect("a number")
}

/// Waits until a node has sent this number of packets to a port.
fn wait_sent(node: &TestNode, port: u16, packets: u64) {
    let deadline = Instant::now() + common::LIMIT;
    let sent = || {
        let flows = node.port.stats().expect("running").flows;
        flows
            .iter()
            .find(|flow| flow.dst_port == port)
            .map_or(0, |flow| flow.packets)
    };
    while sent() < packets {
        assert!(Instant::now() < deadline, "{} of {packets}", sent());
    }
}

#[test]
fn the_kernel_drops_corrupted_packets_and_tcp_sends_them_again() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let spec = LinkSpec {
        corrupt: 0.02,
        ..LinkSpec::default()
    };
    let nodes = impaired_pair(&runtime, &spec);
    transfer(&nodes[0], &nodes[1], 2 << 20);
    let corrupted = |node: &TestNode| {
        node.port.stats().expect("running").links[0]
            .impaired
            .corrupt
    };
    let found = checksum_errors(&nodes[1], "Tcp:");
    assert!(
        found > 0 && found <= corrupted(&nodes[0]),
        "{found} of {}",
        corrupted(&nodes[0])
    );
    // Datagrams: every one of them is dropped when it is read, and after the change none.
    let all = LinkSpec {
        corrupt: 1.0,
        ..LinkSpec::default()
    };
    nodes[0].port.set_link(2, all).expect("a valid change");
    let (client, server) = (udp(&nodes[0], 7001), udp(&nodes[1], 7000));
    for number in 0..20 {
        client
            .send_to(&[number; 1000], "10.0.0.2:7000")
            .expect("sent");
    }
    wait_sent(&nodes[0], 7000, 20);
    nodes[0]
        .port
        .set_link(2, LinkSpec::default())
        .expect("a valid change");
    client.send_to(b"intact", "10.0.0.2:7000").expect("sent");
    let mut buffer = [0; 2000];
    let got = server.recv(&mut buffer).expect("it arrives");
    assert_eq!(
        &buffer[..got],
        b"intact",
        "the first datagram that is not dropped"
    );
    assert_eq!(checksum_errors(&nodes[1], "Udp:"), 20);
}

#[test]
fn datagrams_are_duplicated_and_tcp_discards_copies() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let spec = LinkSpec {
        duplicate: 1.0,
        ..LinkSpec::default()
    };
    let nodes = impaired_pair(&runtime, &spec);
    let (client, server) = (udp(&nodes[0], 7001), udp(&nodes[1], 7000));
    let mut buffer = [0; 2000];
    // Each round fits the receiver's buffer.
    for round in 0..5 {
        for number in 0..10 {
            let datagram = [10 * round + number; 1000];
            client.send_to(&datagram, "10.0.0.2:7000").expect("sent");
        }
        for copy in 0..20 {
            let got = server.recv(&mut buffer).expect("it arrives");
            assert_eq!((got, buffer[0]), (1000, 10 * round + copy / 2));
        }
    }
    let half = LinkSpec {
        duplicate: 0.5,
        ..LinkSpec::default()
    };
    nodes[0].port.set_link(2, half).expect("a valid change");
    transfer(&nodes[0], &nodes[1], 2 << 20);
    let link = nodes[0].port.stats().expect("running").links.remove(0);
    assert!(link.impaired.duplicate > 500, "{link:?}");
}

#[test]
fn a_closed_node_is_removed_at_once_and_can_be_added_again() {
    if !permitted() {
        return;
    }
    let runtime = runtime(1);
    let one = tun_node(&runtime, 1, None, OffloadChoice::Auto);
    let two = tun_node(&runtime, 2, None, OffloadChoice::Auto);
    join(&one, &two);
    one.route(&[(2, 2)]);
    let start = Instant::now();
    two.port.close();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        one.record.wait_link(2, false),
        "the neighbouring node was closed"
    );
    assert!(two.port.stats().is_err());
    let again = tun_node(&runtime, 2, None, OffloadChoice::Auto);
    again.link(1, LinkKind::Memory);
    again.route(&[(1, 1)]);
    one.record.wait_link(2, true);
    ping(&one, "10.0.0.2", 3);
}

#[test]
fn a_device_whose_setup_fails_is_removed() {
    if !permitted() {
        return;
    }
    let home = runtime(1);
    let space = nm_kernel::namespace::create().expect("namespace");
    let setup = |mtu| nm_driver::runtime::NodeSetup {
        config: nm_engine::NodeConfig::new(1),
        tun: Some(nm_driver::runtime::TunSetup {
            name: "utun".into(),
            // The kernel refuses an MTU below 68.
            interface: nm_driver::runtime::TunSetup::interface([10, 0, 0, 1].into(), 16, mtu),
            offload: OffloadChoice::Off,
            queues: 2,
            device: nm_kernel::tun::DEFAULT_DEVICE.into(),
            namespace: nm_driver::runtime::TunNamespace::Descriptor(
                space.try_clone().expect("a free descriptor"),
            ),
        }),
        sink: std::sync::Arc::new(common::RecordingSink::default()),
        lab: "test".into(),
        shard: None,
    };
    let error = home.add_node(setup(10)).err().expect("refused");
    assert!(error.id().starts_with("kernel."), "{error}");
    let devices = nm_kernel::namespace::run_in(Some(std::os::fd::AsFd::as_fd(&space)), || {
        Ok(std::fs::read_to_string("/proc/thread-self/net/dev"))
    });
    let devices = devices.expect("entered").expect("readable");
    assert!(!devices.contains("utun"), "{devices}");
    home.add_node(setup(1500)).expect("unaffected");
}
