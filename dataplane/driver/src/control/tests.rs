//! The connection against a controller of a few lines, over a real socket.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};

use nm_messages::{
    decode_frames, encode, Ack, AddNode, CreateGroup, Error, Frame, InstallRoutes, LinkSpec,
    NodeSettings, NodeSpec, ToNode, Welcome,
};
use tokio_tungstenite::tungstenite::{accept, Message, WebSocket};

use super::*;

const LONG: Duration = Duration::from_secs(20);

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
        assert!(matches!(peer.hear().message, ToController::Hello(hello) if hello.token == "word"));
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
        let bytes = encode(&Frame {
            id: 0,
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

/// Hands that write down what they are asked to do.
struct Recorder(Mutex<Sender<Effect>>);

impl Hands for Recorder {
    fn carry_out(&self, effect: Effect) -> Result<(), String> {
        let _ = self.0.lock().expect("no panic").send(effect);
        Ok(())
    }
    fn measure(&self) -> Option<Metrics> {
        None
    }
    fn connected(&self, _up: bool, _reason: &str) {}
}

struct Fixture {
    place: Place,
    registered: Receiver<Result<(), ControlError>>,
    effects: Receiver<Effect>,
}

fn attach_node(addr: String, limit: Duration) -> Fixture {
    attach_with(addr, limit, true)
}

fn attach_with(addr: String, limit: Duration, reconnect: bool) -> Fixture {
    let (record, effects) = channel();
    let (answer, registered) = channel();
    let who = Introduction {
        node_id: 2,
        private_network_name: "lab".to_owned(),
        private_address: None,
        link_port: 4000,
        public_network_addr: String::new(),
        link_door: None,
        external: false,
        process: 9,
        mtu: 1500,
    };
    let hands = Arc::new(Recorder(Mutex::new(record)));
    let door = Door {
        addr,
        token: Secret("word".to_owned()),
        process: 9,
    };
    let reply = Box::new(move |result| drop(answer.send(result)));
    let place = attach(
        door,
        Registration {
            who,
            hands,
            limit,
            reconnect,
        },
        reply,
    )
    .expect("a thread");
    Fixture {
        place,
        registered,
        effects,
    }
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
    let report = node.place.link_report();
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
    let bytes = encode(&Frame {
        id: 41,
        node: 2,
        message: ToNode::from(add),
    })
    .expect("a message");
    peer.socket
        .send(Message::Binary(bytes.into()))
        .expect("sent");
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
