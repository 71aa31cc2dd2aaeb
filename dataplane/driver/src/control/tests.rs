//! Tests of the connection against a minimal controller, over a real socket.

mod connection;
mod flows;
mod orders;
mod peer;
mod refusals;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nm_engine::{FlowMetrics, NodeMetrics, NodeStats, RoutedFlows};
use nm_messages::{
    Ack, AddNode, AppFlowStart, CreateGroup, Error, Frame, InstallRoutes, LinkMeasurements,
    LinkSpec, ListFlowRoutes, Metrics, NodeSample, NodeSettings, NodeSpec, RemoveNode, SetLink,
    ToController, ToNode, Value,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::tungstenite::Message;

use self::peer::Peer;
use super::connection::Connection;
use super::interface::MAX_REQUESTS;
use super::resolve::{Lookup, Resolver};
use super::*;
use crate::config::Secret;
use crate::runtime::Carrier;

const LONG: Duration = Duration::from_secs(20);
/// Time limit of one step on the control thread, with a margin for a busy machine of two cores.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// Checks that a thread never blocks: a task on it runs every few milliseconds and records how late it is.
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
        metrics_ms: 1_000,
    }
}

/// A neighbour whose end of the link exists already: the link comes up while the order is still being carried out.
const UP_AT_ONCE: u32 = 999;

/// An executor that records effects and ends them at once or when the test releases them.
struct Recorder {
    record: Mutex<Sender<Effect>>,
    /// Receives the completion callbacks that are held back instead of called.
    held: Option<Mutex<Sender<Done>>>,
    panics: Arc<AtomicBool>,
    links: Mutex<Option<LinkReport>>,
}

impl Executor for Recorder {
    fn report_links_to(&self, report: LinkReport) {
        *self.links.lock().expect("no panic") = Some(report);
    }
    fn carry_out(&self, effect: Effect, done: Done) {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "as asked for");
        if let Effect::Connect(add, _) = &effect {
            if add.remote_node_id == UP_AT_ONCE {
                let links = self.links.lock().expect("no panic");
                let report = links.as_ref().expect("a link report");
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
    fn collect(&self, done: Box<dyn FnOnce(Option<NodeMetrics>) + Send>) {
        done(None);
    }
    fn report(&self, _found: NodeMetrics) -> Option<Metrics> {
        None
    }
    fn keep_flows(&self, _flows: Vec<FlowMetrics>) {}
    fn flows_began(&self, _flows: &[FlowMetrics]) -> Option<AppFlowStart> {
        None
    }
    fn measurements(&self, _stats: &NodeStats) -> LinkMeasurements {
        unreachable!("it has no counters")
    }
    fn sample(&self, _stats: &NodeStats) -> NodeSample {
        unreachable!("it has no counters")
    }
    fn routed_flows(&self, limit: usize, done: Box<dyn FnOnce(Option<RoutedFlows>) + Send>) {
        let flows = (limit > 0).then(RoutedFlows::default);
        match &self.held {
            Some(held) => {
                let release: Done = Box::new(move |_| done(flows));
                let _ = held.lock().expect("no panic").send(release);
            }
            None => done(flows),
        }
    }
    fn connected(&self, _up: bool, _reason: &str) {}
}

/// A node's token.
fn token_of(node: u32) -> String {
    format!("token-{node}")
}

struct Fixture {
    handle: ControlHandle,
    registered: Receiver<Result<(), ControlError>>,
    effects: Receiver<Effect>,
    held: Receiver<Done>,
    panics: Arc<AtomicBool>,
    _watchdog: Watchdog,
}

impl Fixture {
    /// Requests a group; the answer arrives in the channel.
    fn create_group(&self, limit: Duration) -> Receiver<Result<Option<Value>, ControlError>> {
        let (answer, answered) = channel();
        let reply = Box::new(move |result| drop(answer.send(result)));
        let label = "x".to_owned();
        self.handle.request(CreateGroup { label }, limit, reply);
        answered
    }
}

/// A node that is registered, and the controller's side of its connection.
fn registered_node() -> (TcpListener, Fixture, Peer) {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    (listener, node, peer)
}

fn attach_node(addr: String, limit: Duration) -> Fixture {
    attach_with(addr, limit, true)
}

fn attach_with(addr: String, limit: Duration, reconnect: bool) -> Fixture {
    attach_to(endpoint(addr), limit, reconnect)
}

fn attach_to(endpoint: Endpoint, limit: Duration, reconnect: bool) -> Fixture {
    let node = Setup::new(2, limit, reconnect, false);
    let reply = node.reply;
    let handle = attach(endpoint, node.registration, reply).expect("a thread");
    let watchdog = Watchdog::over(pool::spawn);
    node.rest.complete(handle, watchdog)
}

fn endpoint(addr: String) -> Endpoint {
    Endpoint {
        addr,
        authority: String::new(),
        process: 9,
    }
}

/// What a node passes to a connection, and what the test keeps.
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
    fn complete(self, handle: ControlHandle, watchdog: Watchdog) -> Fixture {
        Fixture {
            handle,
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
        let identity = Identity {
            node_id,
            token: Secret(token_of(node_id)),
            private_network_name: "lab".to_owned(),
            private_address: None,
            link_port: 4000,
            public_network_addr: String::new(),
            link_socket: None,
            external: false,
            process: 9,
            mtu: 1500,
        };
        let executor = Recorder {
            record: Mutex::new(record),
            held: holds.then(|| Mutex::new(hold)),
            panics: panics.clone(),
            links: Mutex::default(),
        };
        Setup {
            registration: Registration {
                identity,
                executor: Arc::new(executor),
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

/// A connection on a thread of its own whose names are looked up by `lookup`.
fn connect_with(
    addr: String,
    nodes: impl IntoIterator<Item = (u32, bool)>,
    lookup: Arc<Lookup>,
) -> Vec<Fixture> {
    let (input, inputs) = unbounded_channel();
    // The nodes are attached first, because a connection without any ends at once.
    let attach = |(node, holds)| {
        let setup = Setup::new(node, LONG, true, holds);
        let attach = Input::Attach(Box::new(setup.registration), setup.reply);
        assert!(input.send(attach).is_ok());
        (node, setup.rest)
    };
    let attached: Vec<_> = nodes.into_iter().map(attach).collect();
    let (send, started) = channel();
    let sender = input.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let _ = send.send(runtime.handle().clone());
        let resolver = Resolver::new(lookup, Duration::from_millis(300));
        let endpoint = endpoint(addr);
        runtime.block_on(Connection::new(endpoint, sender, inputs, resolver, pool::retire).run());
        runtime.shutdown_background(); // a look-up may be stuck for as long as the test holds it
    });
    let handle = started.recv().expect("a runtime");
    let complete = |(node, rest): (u32, Rest)| {
        let input = input.clone();
        let watchdog = Watchdog::over(|task| drop(handle.spawn(task)));
        rest.complete(ControlHandle::new(node, input), watchdog)
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

fn link_to(remote: u32, addr: &str, version: u64) -> AddNode {
    AddNode {
        remote_node_id: remote,
        remote_name: format!("n{remote}"),
        remote_addr: addr.to_owned(),
        remote_socket: String::new(),
        remote_process: 1,
        same_process: addr.is_empty(),
        dial: !addr.is_empty(),
        link: LinkSpec::default(),
        version,
        secret: Default::default(),
        down: false,
    }
}

fn routes_of(version: u64) -> InstallRoutes {
    InstallRoutes {
        version,
        table: Some(vec![0; 16].into()),
        routes: vec![],
        removed: vec![],
        reset: true,
        pins: vec![],
        removed_pins: vec![],
    }
}

fn no_names() -> Arc<Lookup> {
    Arc::new(|_: &str| Err(io::Error::other("no such name")))
}
