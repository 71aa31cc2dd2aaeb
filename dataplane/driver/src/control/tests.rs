//! The connection against a controller of a few lines, over a real socket.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nm_messages::{
    decode_frames, encode, Ack, AddNode, CreateGroup, Error, Frame, InstallRoutes, LinkSpec,
    NodeSettings, NodeSpec, RemoveNode, SetLink, ToNode, Welcome,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::tungstenite::{accept, Message, WebSocket};

use super::connection::Connection;
use super::resolve::{Lookup, Resolver};
use super::*;
use crate::config::Secret;

const LONG: Duration = Duration::from_secs(20);
/// The longest that one step on the control thread may take, with a margin for a busy machine of two cores.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// Watches a thread that must never wait: a task on it comes round every few milliseconds and notes how late it is.
struct Watchdog {
    latest_ms: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Watchdog {
    fn over(
        spawn: impl FnOnce(std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send>>),
    ) -> Self {
        let (latest_ms, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (latest, end) = (latest_ms.clone(), over.clone());
        spawn(Box::pin(async move {
            while !end.load(Ordering::Relaxed) {
                let before = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                let late = before.elapsed().as_millis();
                latest.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }));
        Watchdog { latest_ms, over }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let late = Duration::from_millis(self.latest_ms.load(Ordering::Relaxed));
        if !std::thread::panicking() {
            assert!(
                late < LONGEST_STEP,
                "the control thread was held up for {late:?}"
            );
        }
    }
}

/// One accepted connection of the fake controller.
struct Peer {
    socket: WebSocket<TcpStream>,
    heard: std::collections::VecDeque<Frame<ToController>>,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time limit");
        Peer {
            socket: accept(stream).expect("a websocket"),
            heard: Default::default(),
        }
    }

    /// Accepts, and answers the greeting.
    fn welcome(listener: &TcpListener) -> Self {
        let mut peer = Peer::accept(listener);
        let hello = peer.hear();
        let word = word_of(hello.node);
        assert!(matches!(hello.message, ToController::Hello(hello) if hello.token == word));
        peer.say(
            0,
            Welcome {
                protocol: 1,
                lab: "lab".to_owned(),
                incarnation: 1,
            },
        );
        peer
    }

    fn hear(&mut self) -> Frame<ToController> {
        while self.heard.is_empty() {
            if let Message::Binary(bytes) = self.socket.read().expect("a message") {
                self.heard
                    .extend(decode_frames::<ToController>(&bytes).expect("frames"));
            }
        }
        self.heard.pop_front().expect("just filled")
    }

    fn say(&mut self, node: u32, message: impl Into<ToNode>) {
        self.ask(0, node, message);
    }

    fn ask(&mut self, id: u32, node: u32, message: impl Into<ToNode>) {
        let bytes = encode(&Frame {
            id,
            node,
            message: message.into(),
        })
        .expect("a message");
        self.socket
            .send(Message::Binary(bytes.into()))
            .expect("sent");
    }

    /// Accepts a registration and returns what came with it.
    fn register(&mut self, node: u32) -> nm_messages::StartUp {
        let frame = self.hear();
        assert_eq!(frame.node, node);
        let ToController::StartUp(start_up) = frame.message else {
            panic!("{frame:?}")
        };
        assert_eq!(start_up.token, word_of(node));
        self.say(
            node,
            Ack {
                re: frame.id,
                value: None,
            },
        );
        self.say(node, settings(node));
        start_up
    }
}

fn settings(node_id: u32) -> NodeSettings {
    NodeSettings {
        node_id,
        net_mask: "255.255.0.0".to_owned(),
        virtual_base_addr: "10.0.0.0".to_owned(),
        user_space_base_addr: "192.168.0.0".to_owned(),
        external_base_addr: "172.16.8.3".to_owned(),
        multicast_pool_base: "239.255.0.0".to_owned(),
        multicast_pool_mask: "255.255.0.0".to_owned(),
        max_server_port: 8081,
        protocol: "tcp".to_owned(),
        scheduler_type: "fifo".to_owned(),
        seed: 1,
        node_spec: NodeSpec {
            node_id,
            operating_mode: "normal".to_owned(),
        },
    }
}

/// A neighbour whose end is there already: the link is up while the order is still being carried out.
const UP_AT_ONCE: u32 = 999;

/// Hands that write down what they are asked to do, and do it at once or when they are told to.
struct Recorder {
    record: Mutex<Sender<Effect>>,
    /// Where what is to be done goes instead of being done.
    held: Option<Mutex<Sender<Done>>>,
    panics: Arc<AtomicBool>,
    links: Mutex<Option<LinkReport>>,
}

impl Hands for Recorder {
    fn report_links_to(&self, report: LinkReport) {
        *self.links.lock().expect("no panic") = Some(report);
    }
    fn carry_out(&self, effect: Effect, done: Done) {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "as asked for");
        if let Effect::Connect(add, _) = &effect {
            if add.remote_node_id == UP_AT_ONCE {
                let links = self.links.lock().expect("no panic");
                let report = links.as_ref().expect("a way to tell of links");
                report.send(add.remote_node_id, Some(Carrier::Memory), "at once");
            }
        }
        let _ = self.record.lock().expect("no panic").send(effect);
        match &self.held {
            Some(held) => drop(held.lock().expect("no panic").send(done)),
            None => done(Ok(())),
        }
    }
    fn measure(&self, done: Box<dyn FnOnce(Option<NodeStats>) + Send>) {
        done(None);
    }
    fn report(&self, _stats: NodeStats) -> Option<Metrics> {
        None
    }
    fn connected(&self, _up: bool, _reason: &str) {}
}

/// A node's token.
fn word_of(node: u32) -> String {
    format!("word-{node}")
}

struct Fixture {
    place: Place,
    registered: Receiver<Result<(), ControlError>>,
    effects: Receiver<Effect>,
    held: Receiver<Done>,
    panics: Arc<AtomicBool>,
    _watchdog: Watchdog,
}

fn attach_node(addr: String, limit: Duration) -> Fixture {
    attach_with(addr, limit, true)
}

fn attach_with(addr: String, limit: Duration, reconnect: bool) -> Fixture {
    let door = Door { addr, process: 9 };
    let node = Setup::new(2, limit, reconnect, false);
    let reply = node.reply;
    let place = attach(door, node.registration, reply).expect("a thread");
    let watchdog = Watchdog::over(hub::spawn);
    node.rest.complete(place, watchdog)
}

/// What a node brings to a connection, and what the test keeps of it.
struct Setup {
    registration: Registration,
    reply: Reply<()>,
    rest: Rest,
}

struct Rest {
    registered: Receiver<Result<(), ControlError>>,
    effects: Receiver<Effect>,
    held: Receiver<Done>,
    panics: Arc<AtomicBool>,
}

impl Rest {
    fn complete(self, place: Place, watchdog: Watchdog) -> Fixture {
        Fixture {
            place,
            registered: self.registered,
            effects: self.effects,
            held: self.held,
            panics: self.panics,
            _watchdog: watchdog,
        }
    }
}

impl Setup {
    fn new(node_id: u32, limit: Duration, reconnect: bool, holds: bool) -> Self {
        let (record, effects) = channel();
        let (answer, registered) = channel();
        let (hold, held) = channel();
        let panics = Arc::new(AtomicBool::new(false));
        let who = Introduction {
            node_id,
            token: Secret(word_of(node_id)),
            private_network_name: "lab".to_owned(),
            private_address: None,
            link_port: 4000,
            public_network_addr: String::new(),
            link_door: None,
            external: false,
            process: 9,
            mtu: 1500,
        };
        let hands = Recorder {
            record: Mutex::new(record),
            held: holds.then(|| Mutex::new(hold)),
            panics: panics.clone(),
            links: Mutex::default(),
        };
        Setup {
            registration: Registration {
                who,
                hands: Arc::new(hands),
                limit,
                reconnect,
            },
            reply: Box::new(move |result| drop(answer.send(result))),
            rest: Rest {
                registered,
                effects,
                held,
                panics,
            },
        }
    }
}

/// A connection of the test's own, on a thread of its own, whose names are looked up by `lookup`.
fn connect_with(
    addr: String,
    nodes: impl IntoIterator<Item = (u32, bool)>,
    lookup: Arc<Lookup>,
) -> Vec<Fixture> {
    let (input, inputs) = unbounded_channel();
    // The nodes come first, because a connection without any ends at once.
    let attach = |(node, holds)| {
        let setup = Setup::new(node, LONG, true, holds);
        let attach = Input::Attach(Box::new(setup.registration), setup.reply);
        assert!(input.send(attach).is_ok());
        (node, setup.rest)
    };
    let attached: Vec<_> = nodes.into_iter().map(attach).collect();
    let (send, started) = channel();
    let ours = input.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let _ = send.send(runtime.handle().clone());
        let resolver = Resolver::new(lookup, Duration::from_millis(300));
        let door = Door { addr, process: 9 };
        runtime.block_on(Connection::new(door, ours, inputs, resolver).run());
        runtime.shutdown_background(); // a look-up may be stuck for as long as the test holds it
    });
    let handle = started.recv().expect("a runtime");
    let complete = |(node, rest): (u32, Rest)| {
        let input = input.clone();
        let watchdog = Watchdog::over(|task| drop(handle.spawn(task)));
        rest.complete(Place { node, input }, watchdog)
    };
    attached.into_iter().map(complete).collect()
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = format!(
        "ws://{}/control",
        listener.local_addr().expect("an address")
    );
    (listener, addr)
}

#[test]
fn a_node_is_registered_when_the_controller_has_said_who_it_is() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    let start_up = peer.register(2);
    assert_eq!(start_up.private_network_addr, "127.0.0.1:4000");
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    assert!(matches!(
        node.effects.recv_timeout(LONG),
        Ok(Effect::Configure(_))
    ));
    node.place.detach("done");
    assert!(
        matches!(peer.hear().message, ToController::Goodbye(goodbye) if goodbye.reason == "done")
    );
}

#[test]
fn a_wrong_token_is_told_by_name() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::accept(&listener);
    let frame = peer.hear();
    let error = "control.token".to_owned();
    peer.say(
        0,
        Error {
            re: frame.id,
            error,
            message: "no".to_owned(),
            hint: None,
        },
    );
    let error = node
        .registered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("a refusal");
    assert_eq!(error.id(), "control.token");
}

#[test]
fn nobody_there_is_told_within_the_time() {
    let (listener, addr) = listen();
    drop(listener);
    let node = attach_node(addr.clone(), Duration::from_millis(200));
    let error = node
        .registered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("unreachable");
    assert!(
        matches!(&error, ControlError::Unreachable { addr: found, .. } if *found == addr),
        "{error:?}"
    );
}

#[test]
fn a_controller_that_starts_late_is_found() {
    let (listener, addr) = listen();
    let port = listener.local_addr().expect("an address");
    drop(listener);
    let node = attach_node(addr, LONG);
    let listener = TcpListener::bind(port).expect("the same port");
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
}

#[test]
fn after_a_loss_the_node_shows_what_it_has_and_asks_again() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    let routes = InstallRoutes {
        version: 77,
        table: None,
        routes: vec![],
        removed: vec![],
        reset: false,
    };
    peer.say(2, routes);
    assert!(matches!(
        peer.hear().message,
        ToController::NodeTopologyReady(_)
    ));
    let (answer, answered) = channel();
    let reply = Box::new(move |result| drop(answer.send(result)));
    node.place.request(
        CreateGroup {
            label: "x".to_owned(),
        },
        LONG,
        reply,
    );
    assert!(matches!(peer.hear().message, ToController::CreateGroup(_)));
    drop(peer);

    let mut peer = Peer::welcome(&listener);
    assert_eq!(peer.register(2).have.routes, Some(77));
    let again = peer.hear();
    assert!(
        matches!(&again.message, ToController::CreateGroup(asked) if asked.label == "x"),
        "{again:?}"
    );
    peer.say(
        2,
        Ack {
            re: again.id,
            value: Some(Value::from(5)),
        },
    );
    assert_eq!(answered.recv_timeout(LONG), Ok(Ok(Some(Value::from(5)))));
    assert!(
        matches!(peer.hear().message, ToController::NodeTopologyReady(_)),
        "said anew"
    );
}

#[test]
fn a_node_whose_engine_is_a_new_one_registers_with_nothing_on_the_same_connection() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    let routes = |version| InstallRoutes {
        version,
        table: None,
        routes: vec![],
        removed: vec![],
        reset: true,
    };
    peer.say(2, routes(77));
    assert!(matches!(
        peer.hear().message,
        ToController::NodeTopologyReady(_)
    ));
    let report = LinkReport(node.place.clone());
    report.tell("node.engine_restarted", Value::Nil);
    report.restarted();
    assert!(
        matches!(peer.hear().message, ToController::NodeEvent(event) if event.name == "node.engine_restarted")
    );
    assert_eq!(peer.register(2).have, nm_messages::Have::default());
    peer.say(2, routes(77));
    assert!(
        matches!(peer.hear().message, ToController::NodeTopologyReady(_)),
        "said anew, once it has everything again"
    );
}

#[test]
fn a_link_that_is_up_at_once_is_told() {
    let (listener, addr) = listen();
    let _node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    peer.say(2, routes_of(1));
    assert!(matches!(
        peer.hear().message,
        ToController::NodeTopologyReady(_)
    ));
    peer.say(2, link_to(UP_AT_ONCE, "", 1));
    let told = peer.hear();
    let ToController::LinkState(state) = &told.message else {
        panic!("{told:?}")
    };
    assert_eq!((state.remote_node_id, state.up), (UP_AT_ONCE, true));
}

#[test]
fn a_request_that_nobody_answers_ends_by_name() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    let (answer, answered) = channel();
    let reply = Box::new(move |result| drop(answer.send(result)));
    node.place.request(
        CreateGroup {
            label: "x".to_owned(),
        },
        Duration::from_millis(50),
        reply,
    );
    let error = answered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("too late");
    assert!(
        matches!(
            error,
            ControlError::Timeout {
                what: "CreateGroup",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn an_order_with_a_number_is_acknowledged_and_nonsense_is_answered() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    let add = AddNode {
        remote_node_id: 3,
        remote_name: "c".to_owned(),
        remote_addr: String::new(),
        remote_door: String::new(),
        remote_process: 1,
        same_process: true,
        dial: false,
        link: LinkSpec::default(),
        version: 1,
        secret: nm_messages::Secret::default(),
    };
    peer.ask(41, 2, add);
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 41));
    peer.socket
        .send(Message::Binary(vec![0xc1].into()))
        .expect("sent");
    assert!(
        matches!(peer.hear().message, ToController::Error(error) if error.error == "protocol.malformed")
    );
    drop(node);
}

#[test]
fn a_node_that_must_not_reconnect_is_told_that_there_is_no_controller() {
    let (listener, addr) = listen();
    let node = attach_with(addr, LONG, false);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    drop(peer);
    let ask = || {
        let (answer, answered) = channel();
        let reply = Box::new(move |result| drop(answer.send(result)));
        node.place.request(
            CreateGroup {
                label: "x".to_owned(),
            },
            LONG,
            reply,
        );
        answered
            .recv_timeout(LONG)
            .expect("an answer")
            .expect_err("no controller")
    };
    assert_eq!(ask(), ControlError::Lost);
    drop(listener);
}

fn link_to(remote: u32, addr: &str, version: u64) -> AddNode {
    AddNode {
        remote_node_id: remote,
        remote_name: format!("n{remote}"),
        remote_addr: addr.to_owned(),
        remote_door: String::new(),
        remote_process: 1,
        same_process: addr.is_empty(),
        dial: !addr.is_empty(),
        link: LinkSpec::default(),
        version,
        secret: Default::default(),
    }
}

fn routes_of(version: u64) -> InstallRoutes {
    InstallRoutes {
        version,
        table: Some(vec![0; 16].into()),
        routes: vec![],
        removed: vec![],
        reset: true,
    }
}

fn no_names() -> Arc<Lookup> {
    Arc::new(|_: &str| Err(io::Error::other("no such name")))
}

#[test]
fn an_order_is_acknowledged_when_it_has_taken_place_and_the_others_do_not_wait_for_it() {
    let (listener, addr) = listen();
    // Node 2 stands still, as with a packet thread that does.
    let nodes = connect_with(addr, [(2, true), (3, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    peer.register(3);
    peer.ask(50, 2, link_to(4, "", 7));
    peer.ask(51, 2, routes_of(8));
    peer.ask(52, 3, routes_of(9));
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 52));
    assert!(matches!(
        peer.hear().message,
        ToController::NodeTopologyReady(_)
    ));
    let held: Vec<Done> = nodes[0].held.iter().take(3).collect();
    assert_eq!(
        nodes[0].registered.try_recv().ok(),
        None,
        "it was not configured yet"
    );
    for done in held {
        done(Ok(()));
    }
    let answers = [peer.hear().message, peer.hear().message];
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
fn what_is_under_way_or_has_failed_is_not_shown_as_held() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, true)], no_names());
    let done = || nodes[0].held.recv_timeout(LONG).expect("an effect");
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    done()(Ok(()));
    peer.ask(1, 2, link_to(4, "", 7));
    done()(Err("the packet path refused it".to_owned()));
    let told = peer.hear();
    let ToController::LinkState(state) = &told.message else {
        panic!("{told:?}")
    };
    assert_eq!(
        (state.up, state.reason.as_str()),
        (false, "the packet path refused it")
    );
    let answer = peer.hear().message;
    assert!(
        matches!(&answer, ToController::Error(error) if error.re == 1 && error.message.contains("refused it")),
        "{answer:?}"
    );
    peer.ask(2, 2, link_to(5, "", 8));
    done()(Ok(()));
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 2));
    peer.ask(3, 2, routes_of(9));
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
fn a_name_that_is_found_later_brings_its_link_up_without_another_order() {
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
    peer.ask(5, 2, link_to(4, "far.example:8080", 7));
    let told = peer.hear();
    let ToController::LinkState(state) = &told.message else {
        panic!("{told:?}")
    };
    let reason = "\"far.example:8080\" cannot be resolved: no such name";
    assert_eq!((state.up, state.reason.as_str()), (false, reason));
    // A change meanwhile is part of what is made in the end, and is acknowledged then.
    let link = LinkSpec {
        rate_bps: Some(1000),
        ..LinkSpec::default()
    };
    peer.ask(
        6,
        2,
        SetLink {
            remote_node_id: 4,
            link,
            version: 8,
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
        match peer.hear().message {
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
fn a_name_server_that_never_answers_holds_up_nobody() {
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
    // More names than threads that look them up.
    for remote in 10..60 {
        peer.ask(remote, 2, link_to(remote, &format!("host-{remote}:1"), 1));
    }
    peer.ask(5, 3, link_to(4, "", 7));
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 5));
    let mut said = 0;
    while said < 50 {
        match peer.hear().message {
            ToController::LinkState(state) if !state.up => {
                assert!(
                    state.reason.ends_with("no answer within 300 ms"),
                    "{state:?}"
                );
                said += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // Taken back, nobody waits for them any more, and the orders are answered.
    for remote in 10..60 {
        peer.ask(
            100 + remote,
            2,
            RemoveNode {
                remote_node_id: remote,
            },
        );
    }
    let mut acked = std::collections::BTreeSet::new();
    while acked.len() < 100 {
        if let ToController::Ack(ack) = peer.hear().message {
            acked.insert(ack.re);
        }
    }
    drop((release, nodes));
}

#[test]
fn a_node_with_a_wrong_token_does_not_keep_the_others_out() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false), (3, false)], no_names());
    let mut peer = Peer::accept(&listener);
    let hello = peer.hear();
    assert_eq!(hello.node, 2);
    let refusal = |re| Error {
        re,
        error: "control.token".to_owned(),
        message: "no".to_owned(),
        hint: None,
    };
    peer.say(0, refusal(hello.id));
    let refused = nodes[0].registered.recv_timeout(LONG).expect("an answer");
    assert_eq!(refused.expect_err("a refusal").id(), "control.token");
    let mut peer = Peer::welcome(&listener);
    peer.register(3);
    assert_eq!(nodes[1].registered.recv_timeout(LONG), Ok(Ok(())));
}

#[test]
fn a_mistake_of_ours_ends_the_line_and_everything_is_told_again() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(nodes[0].registered.recv_timeout(LONG), Ok(Ok(())));
    peer.ask(4, 2, routes_of(9));
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 4));
    nodes[0].panics.store(true, Ordering::SeqCst);
    peer.ask(5, 2, link_to(4, "", 7));
    let mut peer = Peer::welcome(&listener);
    assert_eq!(peer.register(2).have, nm_messages::Have::default());
    peer.ask(6, 2, link_to(4, "", 7));
    assert!(matches!(peer.hear().message, ToController::Ack(ack) if ack.re == 6));
}

#[test]
fn settings_that_make_no_sense_are_told_to_who_waits_for_the_registration() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    let frame = peer.hear();
    peer.say(
        2,
        Ack {
            re: frame.id,
            value: None,
        },
    );
    let mut nonsense = settings(2);
    nonsense.net_mask = "wide".to_owned();
    peer.say(2, nonsense);
    let refused = nodes[0].registered.recv_timeout(LONG).expect("an answer");
    assert_eq!(refused.expect_err("a refusal").id(), "order.refused");
}

/// A controller that says anything in any order is answered and obeyed as far as it makes sense, and no order of it
/// holds up the thread.
#[test]
fn a_controller_that_says_anything_in_any_order_is_answered() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    let mut roll = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    let addrs = [
        "",
        "10.0.0.1:80",
        "far.example:80",
        "nonsense",
        ":0",
        "x:99999",
    ];
    let many = 2_000;
    for id in 1..=many {
        let remote = roll(4) as u32;
        let message: ToNode = match roll(8) {
            0 => link_to(remote, addrs[roll(6) as usize], roll(5)).into(),
            1 => RemoveNode {
                remote_node_id: remote,
            }
            .into(),
            2 => SetLink {
                remote_node_id: remote,
                link: LinkSpec::default(),
                version: roll(5),
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
        };
        peer.ask(id, if roll(9) == 0 { 77 } else { 2 }, message);
    }
    // Taking away what is left ends what waits for a name.
    for remote in 0..4 {
        peer.ask(
            many + 1 + remote,
            2,
            RemoveNode {
                remote_node_id: remote,
            },
        );
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < many as usize + 4 {
        match peer.hear().message {
            ToController::Ack(ack) => assert!(answered.insert(ack.re)),
            ToController::Error(error) => assert!(answered.insert(error.re)),
            _ => {}
        }
    }
    drop(nodes);
}
