//! Fixtures of the runtime's tests: nodes with and without devices, links, and sinks that record events.
#![allow(dead_code)] // Each test binary uses its own part of this.

pub mod flows;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nm_driver::runtime::{
    Carrier, LinkKind, LinkSecret, LinkSetup, NodePort, NodeSetup, NodeSink, OffloadChoice,
    Runtime, RuntimeConfig, TunNamespace, TunSetup,
};
use nm_engine::{Command, CommandOutput, Delivery, Event, LinkSpec, NodeConfig, NodeId};
use nm_flows::FlowEvent;
use nm_kernel::namespace;
use nm_kernel::tun::{TunDevice, DEFAULT_DEVICE};

/// Time limit of every wait in these tests.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The text from which the links of most tests derive their keys.
pub const TOKEN: &str = "open sesame";

/// A key derived from a text.
pub fn key(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// The same key as the driver's type.
pub fn secret(text: &str) -> LinkSecret {
    LinkSecret::from_bytes(&key(text)).expect("the right length")
}

/// The events that a node's sink received.
#[derive(Default)]
pub struct Record {
    pub links: Vec<(NodeId, bool, String)>,
    /// The last carrier of each link.
    pub carriers: BTreeMap<NodeId, Carrier>,
    pub events: Vec<Event>,
    /// Events of user-space flows.
    pub flows: Vec<FlowEvent>,
    pub messages: Vec<Vec<u8>>,
    /// The nodes that failed connections claimed to be, with the reported counts.
    pub refused: Vec<(NodeId, u64)>,
}

/// A sink that records everything and can be waited on.
#[derive(Default)]
pub struct RecordingSink {
    record: Mutex<Record>,
    changed: Condvar,
}

impl RecordingSink {
    fn note(&self, change: impl FnOnce(&mut Record)) {
        change(
            &mut self
                .record
                .lock()
                .expect("no test panics while it holds this"),
        );
        self.changed.notify_all();
    }

    /// Waits until `question` returns a value.
    pub fn wait<T>(&self, what: &str, question: impl Fn(&mut Record) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut record = self
            .record
            .lock()
            .expect("no test panics while it holds this");
        loop {
            if let Some(answer) = question(&mut record) {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what} did not happen; links: {:?}, events: {:?}",
                record.links,
                record.events
            );
            record = self.changed.wait_timeout(record, left).expect("likewise").0;
        }
    }

    /// The current or last carrier of a link.
    pub fn carrier(&self, remote: NodeId) -> Option<Carrier> {
        self.wait("the lock", |record| {
            Some(record.carriers.get(&remote).copied())
        })
    }

    /// Waits until the last reported state of a link is this; returns the reason.
    pub fn wait_link(&self, remote: NodeId, up: bool) -> String {
        self.wait(&format!("link to {remote} up={up}"), |record| {
            let last = record
                .links
                .iter()
                .rev()
                .find(|(node, ..)| *node == remote)?;
            (last.1 == up).then(|| last.2.clone())
        })
    }
}

impl NodeSink for RecordingSink {
    fn event(&self, event: Event) {
        self.note(|record| record.events.push(event));
    }

    fn deliver(&self, delivery: Delivery) -> bool {
        self.note(|record| record.messages.push(delivery.payload().to_vec()));
        true
    }

    fn flows(&self, events: Vec<FlowEvent>) {
        self.note(|record| record.flows.extend(events));
    }

    fn incoming_refused(&self, from: NodeId, times: u64) {
        self.note(|record| record.refused.push((from, times)));
    }

    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        let up = carrier.is_some();
        self.note(|record| {
            record.links.push((remote, up, reason.into()));
            record
                .carriers
                .extend(carrier.map(|carrier| (remote, carrier)));
        });
    }
}

/// A node under test.
pub struct TestNode {
    pub id: NodeId,
    pub port: NodePort,
    pub record: Arc<RecordingSink>,
    pub space: Option<OwnedFd>,
}

impl TestNode {
    pub fn command(&self, command: Command) -> CommandOutput {
        self.port.command(command).expect("the engine accepts it")
    }

    /// Routes everything for `dst` to `next`.
    pub fn route(&self, pairs: &[(NodeId, NodeId)]) {
        let most = pairs.iter().map(|&(dst, _)| dst).max().unwrap_or(0) as usize;
        let mut table = vec![0; most + 1];
        for &(dst, next) in pairs {
            table[dst as usize] = next;
        }
        self.command(Command::InstallRoutes {
            table: Some(table),
            routes: vec![],
            removed: vec![],
        });
    }

    pub fn link(&self, remote: NodeId, kind: LinkKind) {
        self.link_with(remote, kind, LinkSpec::default(), TOKEN);
    }

    pub fn link_with(&self, remote: NodeId, kind: LinkKind, spec: LinkSpec, token: &str) {
        self.link_at(remote, kind, None, spec, token);
    }

    /// The same, with the neighbour's unix socket.
    pub fn link_at(
        &self,
        remote: NodeId,
        kind: LinkKind,
        socket: Option<&Path>,
        spec: LinkSpec,
        token: &str,
    ) {
        let setup = LinkSetup {
            remote,
            remote_name: format!("n{remote}"),
            kind,
            socket: socket.map(Path::to_owned),
            spec,
            secret: Some(secret(token)),
        };
        self.port
            .connect_link(setup)
            .expect("the engine accepts it");
    }

    /// Runs a program inside the node's namespace; returns whether it succeeded, and its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let space = self.space.as_ref().expect("a node with a device");
        let output = namespace::run_in(Some(space.as_fd()), || {
            Ok(std::process::Command::new(program).args(arguments).output())
        });
        let output = output
            .expect("the namespace can be entered")
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// Runs `work` inside the node's namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = self.space.as_ref().expect("a node with a device");
        namespace::run_in(Some(space.as_fd()), || Ok(work())).expect("the namespace can be entered")
    }
}

/// A runtime with that many shards and a listener on loopback.
pub fn runtime(shards: usize) -> Arc<Runtime> {
    let config = RuntimeConfig {
        shards: Some(shards),
        nodes_per_block: 1,
        ..RuntimeConfig::default()
    };
    Runtime::start(config).expect("a runtime needs no privilege")
}

/// The carriers of links between two runtimes.
pub const CARRIERS: [Carrier; 3] = [Carrier::Shared, Carrier::Unix, Carrier::Tcp];

/// A path that no other test uses.
pub fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("nm-driver-{}-{number}.sock", std::process::id()))
}

/// The configuration of a runtime whose links to others use at best `carrier`.
pub fn config_for(carrier: Carrier, shards: usize) -> RuntimeConfig {
    RuntimeConfig {
        shards: Some(shards),
        nodes_per_block: 1,
        socket: (carrier != Carrier::Tcp).then(fresh_path),
        shared_memory: carrier == Carrier::Shared,
        ..RuntimeConfig::default()
    }
}

/// A runtime with that configuration.
pub fn runtime_for(carrier: Carrier, shards: usize) -> Arc<Runtime> {
    Runtime::start(config_for(carrier, shards)).expect("a runtime needs no privilege")
}

/// Makes `from` dial `to`, a node of `home`, by every available transport.
pub fn dial(from: &TestNode, home: &Runtime, to: NodeId) {
    let address = home.listen_address().expect("it listens");
    let socket = home.socket().expect("a usable path");
    from.link_at(
        to,
        LinkKind::Dial(address),
        socket,
        LinkSpec::default(),
        TOKEN,
    );
}

fn setup(id: NodeId, record: &Arc<RecordingSink>, shard: Option<usize>) -> NodeSetup {
    NodeSetup {
        config: NodeConfig::new(id),
        tun: None,
        sink: record.clone(),
        lab: "test".into(),
        shard,
    }
}

/// A node without a device.
pub fn node(runtime: &Runtime, id: NodeId) -> TestNode {
    let record = Arc::new(RecordingSink::default());
    let port = runtime.add_node(setup(id, &record, None)).expect("added");
    TestNode {
        id,
        port,
        record,
        space: None,
    }
}

/// A node with a device in a namespace of its own.
pub fn tun_node(
    runtime: &Runtime,
    id: NodeId,
    shard: Option<usize>,
    offload: OffloadChoice,
) -> TestNode {
    let record = Arc::new(RecordingSink::default());
    let space = namespace::create().expect("namespace");
    let mut setup = setup(id, &record, shard);
    setup.tun = Some(TunSetup {
        name: "utun".into(),
        interface: TunSetup::interface(Ipv4Addr::new(10, 0, 0, id as u8), 16, 1500),
        offload,
        queues: 1,
        device: DEFAULT_DEVICE.into(),
        namespace: TunNamespace::Descriptor(space.try_clone().expect("a free descriptor")),
    });
    let port = runtime.add_node(setup).expect("added");
    TestNode {
        id,
        port,
        record,
        space: Some(space),
    }
}

/// Whether the process may create namespaces and devices; prints the reason if not.
pub fn permitted() -> bool {
    let outcome = namespace::create().and_then(|space| {
        namespace::run_in(Some(space.as_fd()), || {
            TunDevice::open(Path::new(DEFAULT_DEVICE), "nmt", false)
        })
    });
    if let Err(error) = &outcome {
        eprintln!("skipped: {error}");
    }
    outcome.is_ok()
}

/// Links two nodes of one runtime.
pub fn join(a: &TestNode, b: &TestNode) {
    a.link(b.id, LinkKind::Memory);
    b.link(a.id, LinkKind::Memory);
    a.record.wait_link(b.id, true);
    b.record.wait_link(a.id, true);
}

/// The link protocol implemented by the tests, independently of the driver's own code.
pub mod raw {
    use std::io::Read;

    use hmac::{Hmac, KeyInit, Mac};
    use nm_engine::NodeId;
    use sha2::Sha256;

    pub const HEADER: usize = 22;
    pub const HELLO: u16 = 0x8001;
    pub const WELCOME: u16 = 0x8002;
    pub const REFUSE: u16 = 0x8003;
    pub const BYE: u16 = 0x8004;
    pub const CHALLENGE: u16 = 0x8005;
    pub const PROOF: u16 = 0x8006;

    /// A frame with these flags and this body.
    pub fn frame(flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(body);
        bytes
    }

    /// Reads one frame: its flags and its body. `None` when the stream has ended.
    pub fn read_frame(stream: &mut impl Read) -> Option<(u16, Vec<u8>)> {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).ok()?;
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).ok()?;
        Some((u16::from_le_bytes([header[4], header[5]]), body))
    }

    pub fn hello(lab: &str, from: NodeId, to: NodeId, nonce: [u8; 32]) -> Vec<u8> {
        let mut body = vec![3];
        body.extend_from_slice(&from.to_le_bytes());
        body.extend_from_slice(&to.to_le_bytes());
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&(lab.len() as u16).to_le_bytes());
        body.extend_from_slice(lab.as_bytes());
        frame(HELLO, &body)
    }

    /// The proof of one end; `accepts` selects which.
    pub fn proof(
        key: &[u8; 32],
        accepts: bool,
        (from, to): (NodeId, NodeId),
        nonces: [[u8; 32]; 2],
    ) -> [u8; 32] {
        let mut transcript = match accepts {
            true => b"nm link accept\0".to_vec(),
            false => b"nm link dial\0".to_vec(),
        };
        transcript.push(3);
        transcript.extend_from_slice(&4u64.to_le_bytes());
        transcript.extend_from_slice(b"test");
        transcript.extend_from_slice(&from.to_le_bytes());
        transcript.extend_from_slice(&to.to_le_bytes());
        nonces
            .iter()
            .for_each(|nonce| transcript.extend_from_slice(nonce));
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(&transcript);
        mac.finalize().into_bytes().into()
    }

    /// A dialler's handshake up to its proof, which is returned and not sent: the shared memory may be sent with it.
    pub fn prove(
        stream: &mut (impl Read + std::io::Write),
        key: &[u8; 32],
        from: NodeId,
        to: NodeId,
    ) -> Vec<u8> {
        let mine = [0x11; 32];
        stream
            .write_all(&hello("test", from, to, mine))
            .expect("sent");
        let (flags, body) = read_frame(stream).expect("an answer");
        assert_eq!(flags, CHALLENGE, "{}", String::from_utf8_lossy(&body));
        let theirs: [u8; 32] = body[..32].try_into().expect("a nonce");
        let nonces = [mine, theirs];
        assert_eq!(
            body[32..],
            proof(key, true, (from, to), nonces),
            "it has the key"
        );
        frame(PROOF, &proof(key, false, (from, to), nonces))
    }
}
