//! Flows in max mode, over real sockets: nodes of one server in the namespace of the test.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nm_driver::max::{
    Credentials, FlowReport, FlowSink, Found, Limits, Membership, NextHop, NodeLinks, NodeSetup,
    Query, Router, Server,
};
use nm_engine::{HopTarget, NodeId};
use socket2::SockRef;

/// Time limit of every wait in these tests.
const LIMIT: Duration = Duration::from_secs(10);

/// The routes of a line of nodes to its last one.
struct Line {
    node: NodeId,
    last: NodeId,
    links: Arc<Mutex<NodeLinks>>,
}

impl Line {
    fn new(node: NodeId, last: NodeId) -> Self {
        let links = Arc::default();
        Self { node, last, links }
    }
}

impl Router for Line {
    fn links(&self) -> NodeLinks {
        self.links.lock().expect("no test panics with this").clone()
    }

    fn next_hop(&self, query: Query, then: Box<dyn FnOnce(Found) + Send>) {
        let known = match query.target {
            HopTarget::Node(node) => node == self.last,
            HopTarget::Address(address) => address.is_loopback(),
        };
        let next = (self.node < self.last).then_some(self.node + 1);
        then(match known {
            true => Ok(NextHop {
                exit: self.last,
                next,
                route: 0,
            }),
            false => Err("no route".to_owned()),
        });
    }
}

/// The latest report of each flow.
#[derive(Default)]
struct Reports {
    flows: Mutex<BTreeMap<u64, FlowReport>>,
    changed: Condvar,
}

impl FlowSink for Reports {
    fn flows(&self, reports: Vec<FlowReport>) {
        let mut flows = self.flows.lock().expect("no test panics with this");
        flows.extend(reports.into_iter().map(|report| (report.flow, report)));
        self.changed.notify_all();
    }
}

impl Reports {
    fn wait(&self, what: &str, fits: impl Fn(&FlowReport) -> bool) -> FlowReport {
        let deadline = Instant::now() + LIMIT;
        let mut flows = self.flows.lock().expect("no test panics with this");
        loop {
            if let Some(found) = flows.values().find(|report| fits(report)) {
                return found.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no report: {what}; there are {:?}", *flows);
            flows = self.changed.wait_timeout(flows, left).expect("likewise").0;
        }
    }

    fn wait_ended(&self) -> FlowReport {
        self.wait("a flow that ended", |report| report.end_us.is_some())
    }
}

/// A line of nodes, of which clients enter at the first.
struct Fixture {
    server: Server,
    nodes: Vec<Membership>,
    /// The state of the relay, node 2.
    relay: Arc<Mutex<NodeLinks>>,
    reports: Arc<Reports>,
}

impl Fixture {
    fn new(count: NodeId) -> Self {
        Self::with(count, Limits::default(), None)
    }

    fn with(count: NodeId, limits: Limits, credentials: Option<Credentials>) -> Self {
        let server = Server::start(limits).expect("a thread");
        let (reports, relay) = (Arc::<Reports>::default(), Arc::default());
        let add = |node| {
            let mut line = Line::new(node, count);
            if node == 2 {
                line.links = Arc::clone(&relay);
            }
            let setup = NodeSetup {
                lab: Arc::from("line"),
                node,
                namespace: None,
                listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
                credentials: credentials.clone(),
                redirected: false,
                router: Arc::new(line),
                sink: Arc::clone(&reports) as _,
            };
            server.add(setup).expect("a listener")
        };
        let nodes = (1..=count).map(add).collect();
        Self {
            server,
            nodes,
            relay,
            reports,
        }
    }

    /// A node that takes no part.
    fn extra(&self) -> Membership {
        let setup = NodeSetup {
            lab: Arc::from("other"),
            node: 1,
            namespace: None,
            listen: Vec::new(),
            credentials: None,
            redirected: false,
            router: Arc::new(Line::new(1, 1)),
            sink: Arc::<Reports>::default(),
        };
        self.server.add(setup).expect("no listener")
    }

    /// Changes the state of node 2, as its engine would.
    fn change(&self, change: impl FnOnce(&mut NodeLinks)) {
        change(&mut self.relay.lock().expect("no test panics with this"));
        self.nodes[1].changed().notify();
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.nodes[0].addresses()[0]).expect("a listener");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// A client that has asked for a port of the loopback address, and the reply's code.
    fn ask(&self, address: [u8; 4], port: u16) -> (TcpStream, u8) {
        let mut client = self.dial();
        let mut request = b"\x05\x01\x00\x05\x01\x00\x01".to_vec();
        request.extend(address);
        request.extend(port.to_be_bytes());
        client.write_all(&request).expect("sent");
        let mut reply = [0; 12];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..3], [5, 0, 5]);
        (client, reply[3])
    }

    fn connect(&self, server: &TcpListener) -> (TcpStream, TcpStream) {
        let port = server.local_addr().expect("bound").port();
        let (client, code) = self.ask([127, 0, 0, 1], port);
        assert_eq!(code, 0);
        let (peer, _) = server.accept().expect("a connection");
        peer.set_read_timeout(Some(LIMIT)).expect("a limit");
        (client, peer)
    }
}

fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

/// Bytes that differ from their neighbours at every distance that a pipe or a buffer has.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

fn error_of(mut stream: &TcpStream) -> Option<ErrorKind> {
    stream.read(&mut [0]).err().map(|error| error.kind())
}

#[test]
fn bytes_cross_one_to_seven_nodes_both_ways_and_each_end_ends_one_direction() {
    for count in [1, 2, 3, 7] {
        let (fixture, server) = (Fixture::new(count), listen());
        let (mut client, mut peer) = fixture.connect(&server);
        let (request, answer) = (payload(5 << 20), payload(3 << 20));
        let expected = answer.clone();
        let (sent, length) = (request.clone(), request.len() as u64);
        let serving = thread::spawn(move || {
            let mut found = Vec::new();
            peer.read_to_end(&mut found)
                .expect("the end of the request");
            peer.write_all(&answer)
                .expect("the other direction is open");
            found
        });
        client.write_all(&sent).expect("sent");
        client.shutdown(Shutdown::Write).expect("half closed");
        let mut found = Vec::new();
        client
            .read_to_end(&mut found)
            .expect("the end of the answer");
        assert!(found == expected, "{count} nodes");
        assert!(serving.join().expect("served") == request, "{count} nodes");
        let report = fixture.reports.wait_ended();
        assert_eq!(report.route, (1..=count).collect::<Vec<_>>());
        assert_eq!(
            (report.sent, report.received),
            (length, expected.len() as u64)
        );
        assert_eq!(report.reason, "");
        assert!(report.end_us >= Some(report.start_us));
    }
}

#[test]
fn a_reset_of_either_end_resets_the_other() {
    for by_client in [true, false] {
        let (fixture, server) = (Fixture::new(3), listen());
        let (client, peer) = fixture.connect(&server);
        let (resets, other) = if by_client {
            (client, peer)
        } else {
            (peer, client)
        };
        SockRef::from(&resets)
            .set_linger(Some(Duration::ZERO))
            .expect("an option");
        drop(resets);
        assert_eq!(
            error_of(&other),
            Some(ErrorKind::ConnectionReset),
            "{by_client}"
        );
        assert_eq!(fixture.reports.wait_ended().reason, "reset");
    }
}

#[test]
fn a_relay_that_goes_resets_both_ends() {
    let (mut fixture, server) = (Fixture::new(3), listen());
    let (client, peer) = fixture.connect(&server);
    drop(fixture.nodes.remove(1));
    assert_eq!(error_of(&client), Some(ErrorKind::ConnectionReset));
    assert_eq!(error_of(&peer), Some(ErrorKind::ConnectionReset));
    let report = fixture.reports.wait_ended();
    assert_eq!(report.reason, "the node was stopped");
    // A new flow finds no next hop in max mode, and is connected from the node before it.
    let _others = fixture.connect(&server);
    let again = fixture
        .reports
        .wait("the second flow", |found| found.flow != report.flow);
    assert_eq!(again.route, [1]);
}

type Change = fn(&mut NodeLinks);

fn set_link(state: &mut NodeLinks, remote: NodeId, carries: bool) {
    state.links.insert(remote, carries);
}

#[test]
fn a_flow_is_held_while_a_node_is_paused_or_a_link_is_down_and_loses_nothing() {
    let holds: [(Change, Change); 3] = [
        (|state| state.paused = true, |state| state.paused = false),
        (
            |state| set_link(state, 1, false),
            |state| set_link(state, 1, true),
        ),
        (
            |state| set_link(state, 3, false),
            |state| set_link(state, 3, true),
        ),
    ];
    let (fixture, server) = (Fixture::new(4), listen());
    let (mut client, mut peer) = fixture.connect(&server);
    for (index, (hold, release)) in holds.into_iter().enumerate() {
        fixture.change(hold);
        // The worker reads its messages in order: when another node has gone, it has seen the change.
        drop(fixture.extra());
        client.write_all(b"held").expect("the buffers take it");
        let short = Duration::from_millis(50);
        peer.set_read_timeout(Some(short)).expect("a limit");
        let none = peer.read(&mut [0; 4]).expect_err("nothing passes");
        assert_eq!(none.kind(), ErrorKind::WouldBlock, "{index}");
        fixture.change(release);
        peer.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut found = [0; 4];
        peer.read_exact(&mut found).expect("it goes on");
        assert_eq!(&found, b"held");
    }
}

#[test]
fn a_flow_that_is_held_too_long_is_reset_and_the_reason_is_reported() {
    let limits = Limits {
        held: Duration::from_millis(20),
        ..Limits::default()
    };
    let cases: [(Change, &str); 2] = [
        (
            |state| set_link(state, 1, false),
            "held for 0.02 s: the link from node 2 to node 1 is down",
        ),
        (
            |state| state.paused = true,
            "held for 0.02 s: node 2 is paused",
        ),
    ];
    for (change, reason) in cases {
        let (fixture, server) = (Fixture::with(3, limits, None), listen());
        let (client, peer) = fixture.connect(&server);
        fixture.change(change);
        assert_eq!(error_of(&client), Some(ErrorKind::ConnectionReset));
        assert_eq!(error_of(&peer), Some(ErrorKind::ConnectionReset));
        assert_eq!(fixture.reports.wait_ended().reason, reason);
    }
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender_and_loses_nothing() {
    let (fixture, server) = (Fixture::new(3), listen());
    let (mut client, mut peer) = fixture.connect(&server);
    client.set_nonblocking(true).expect("non-blocking");
    let block = payload(1 << 16);
    let (mut sent, mut quiet_since) = (0u64, Instant::now());
    while quiet_since.elapsed() < Duration::from_millis(300) {
        match client.write(&block[(sent % (1 << 16)) as usize..]) {
            Ok(count) => {
                sent += count as u64;
                quiet_since = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::yield_now();
            }
        }
        assert!(sent < 64 << 20, "{sent} bytes are in transit");
    }
    client.shutdown(Shutdown::Write).expect("half closed");
    let mut found = Vec::new();
    peer.read_to_end(&mut found).expect("the end");
    assert_eq!(found.len() as u64, sent);
    let rest = (sent % (1 << 16)) as usize;
    assert!(
        found
            .chunks(1 << 16)
            .all(|chunk| *chunk == block[..chunk.len()]),
        "{rest}"
    );
}

#[test]
fn destinations_that_cannot_be_reached_are_answered_with_the_reason() {
    let fixture = Fixture::new(3);
    let closed = {
        let server = listen();
        server.local_addr().expect("bound").port()
    };
    assert_eq!(
        fixture.ask([127, 0, 0, 1], closed).1,
        5,
        "refused by the exit"
    );
    assert_eq!(fixture.ask([203, 0, 113, 1], 80).1, 3, "out of the lab");
    let report = fixture
        .reports
        .wait("the refusal", |report| report.destination.ends_with(":80"));
    assert_eq!(
        (report.reason.as_str(), report.route.len()),
        ("no route", 0)
    );
    let mut client = fixture.dial();
    client
        .write_all(b"\x05\x01\x00\x05\x01\x00\x03\x07no-host\x00\x50")
        .expect("sent");
    let mut reply = [0; 12];
    client.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[3], 4, "an unknown name");
    assert_eq!(client.read(&mut reply).expect("closed in order"), 0);
}

#[test]
fn clients_that_send_rubbish_or_stop_halfway_are_closed_and_hold_up_nobody() {
    let limits = Limits {
        client: Duration::from_millis(200),
        ..Limits::default()
    };
    let fixture = Fixture::with(2, limits, None);
    let halfway: Vec<TcpStream> = (0..20).map(|_| fixture.dial()).collect();
    for (index, mut client) in halfway.iter().enumerate() {
        client
            .write_all(&b"\x05\x01\x00\x05\x01"[..index % 6])
            .expect("sent");
    }
    for rubbish in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
        b"\x05\x00",
    ] {
        let mut client = fixture.dial();
        client.write_all(rubbish).expect("sent");
        let mut found = Vec::new();
        // Unread rubbish turns the close into a reset, which is an end as well.
        let _ = client.read_to_end(&mut found);
        assert!(found.is_empty() || found == [5, 0xff], "{found:?}");
    }
    let server = listen();
    let (mut client, mut peer) = fixture.connect(&server);
    client.write_all(b"x").expect("sent");
    peer.read_exact(&mut [0])
        .expect("others are served meanwhile");
    for mut client in &halfway {
        let mut found = Vec::new();
        let outcome = client.read_to_end(&mut found);
        let timed_out =
            |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(
            !outcome.as_ref().is_err_and(timed_out),
            "closed by the time limit: {outcome:?}"
        );
    }
}

#[test]
fn clients_that_never_name_a_destination_keep_nobody_out_and_small_pieces_gain_no_time() {
    let limits = Limits {
        client: Duration::from_millis(300),
        flows: 8,
        unnamed: 4,
        ..Limits::default()
    };
    let (fixture, server) = (Fixture::with(2, limits, None), listen());
    let idle: Vec<TcpStream> = (0..12).map(|_| fixture.dial()).collect();
    let (_client, _peer) = fixture.connect(&server);
    for oldest in &idle[..8] {
        assert_eq!(error_of(oldest), Some(ErrorKind::ConnectionReset));
    }
    // Each byte is on time, and all of them together are not.
    let mut slow = fixture.dial();
    let pause = Duration::from_millis(10);
    slow.set_read_timeout(Some(pause)).expect("a limit");
    let request = [&b"\x05\xff"[..], &[0; 255]].concat();
    let ended = request.iter().any(|byte| {
        let sent = slow.write_all(&[*byte]);
        let answer = slow.read(&mut [0]);
        sent.is_err() || answer.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert!(ended, "the whole request was read");
}

#[test]
fn flows_above_the_limit_are_reset_and_others_go_on() {
    let limits = Limits {
        flows: 3,
        ..Limits::default()
    };
    let (fixture, server) = (Fixture::with(2, limits, None), listen());
    let mut flows: Vec<_> = (0..3).map(|_| fixture.connect(&server)).collect();
    let refused = fixture.dial();
    assert_eq!(error_of(&refused), Some(ErrorKind::ConnectionReset));
    let (client, peer) = &mut flows[0];
    client.write_all(b"x").expect("sent");
    peer.read_exact(&mut [0]).expect("the first ones go on");
    drop(flows);
    fixture.reports.wait_ended();
}

#[test]
fn a_password_is_asked_for() {
    let (username, password) = ("ada".to_owned(), "lovelace".to_owned());
    let credentials = Credentials { username, password };
    let fixture = Fixture::with(1, Limits::default(), Some(credentials));
    for (password, expected) in [
        (b"\x08lovelace", &[5, 2, 1, 0][..]),
        (b"\x08lovelacf", &[5, 2, 1, 1]),
    ] {
        let mut client = fixture.dial();
        client
            .write_all(b"\x05\x02\x00\x02\x01\x03ada")
            .expect("sent");
        client.write_all(password).expect("sent");
        let mut found = vec![0; 4];
        client.read_exact(&mut found).expect("an answer");
        assert_eq!(found, expected);
    }
}

#[test]
fn a_node_that_has_gone_leaves_its_address_to_the_next_one_at_once() {
    let server = Server::start(Limits::default()).expect("a thread");
    let setup = |listen| NodeSetup {
        lab: Arc::from("again"),
        node: 1,
        namespace: None,
        listen: vec![listen],
        credentials: None,
        redirected: false,
        router: Arc::new(Line::new(1, 1)),
        sink: Arc::<Reports>::default(),
    };
    let first = server
        .add(setup(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .expect("a listener");
    let address = first.addresses()[0];
    let client = TcpStream::connect(address).expect("a listener");
    drop(first);
    for _ in 0..20 {
        let again = server.add(setup(address)).expect("the address is free");
        assert_eq!(again.addresses(), [address]);
    }
    drop(client);
    // A node that ends after its server waits for nobody.
    let last = server.add(setup(address)).expect("the address is free");
    drop(server);
    drop(last);
}

/// Chooses route 7 at the first node, and keeps what each node was asked.
struct Chooses {
    line: Line,
    asked: Arc<Mutex<Vec<Query>>>,
}

impl Router for Chooses {
    fn next_hop(&self, query: Query, then: Box<dyn FnOnce(Found) + Send>) {
        self.asked
            .lock()
            .expect("no test panics with this")
            .push(query);
        let route = query.route.unwrap_or(7);
        let chosen = move |found: Found| then(found.map(|hop| NextHop { route, ..hop }));
        self.line.next_hop(query, Box::new(chosen));
    }
}

#[test]
fn the_nodes_behind_the_first_are_asked_for_its_route_and_told_the_addresses_of_the_flow() {
    let (server, asked) = (
        Server::start(Limits::default()).expect("a thread"),
        Arc::default(),
    );
    let add = |node| {
        let line = Line::new(node, 3);
        let setup = NodeSetup {
            lab: Arc::from("line"),
            node,
            namespace: None,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            credentials: None,
            redirected: false,
            router: Arc::new(Chooses {
                line,
                asked: Arc::clone(&asked),
            }),
            sink: Arc::<Reports>::default(),
        };
        server.add(setup).expect("a listener")
    };
    let fixture = Fixture {
        nodes: (1..=3).map(add).collect(),
        server,
        relay: Arc::default(),
        reports: Arc::default(),
    };
    let listener = listen();
    let (client, _peer) = fixture.connect(&listener);
    let asked = asked.lock().expect("no test panics with this");
    let routes: Vec<_> = asked.iter().map(|query| query.route).collect();
    assert_eq!(routes, [None, Some(7), Some(7)]);
    for query in asked.iter() {
        let flow = query.flow;
        let ends = (
            SocketAddr::new(flow.src, flow.src_port),
            SocketAddr::new(flow.dst, flow.dst_port),
        );
        assert_eq!(ends.0, client.local_addr().expect("bound"));
        assert_eq!(ends.1, listener.local_addr().expect("bound"));
        assert_eq!((query.source, flow.protocol), (1, 6));
    }
}
