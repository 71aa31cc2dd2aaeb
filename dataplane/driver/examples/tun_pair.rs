//! Create a line or ring of nodes with TUN devices in namespaces, to run programs in and to measure.
//!
//! ```text
//! cargo run --release -p nm-driver --example tun_pair -- --nodes 3 &
//! ip netns exec nmx1 ping 10.0.0.3
//! ip netns exec nmx3 iperf3 -s -1 -D && ip netns exec nmx1 iperf3 -c 10.0.0.3 -C cubic
//! ```
//!
//! Namespaces are called `PREFIX1` … `PREFIXn`; node n has address 10.0.0.n. The program ends, and cleans up, when
//! its standard input ends or after `--seconds`.

use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nm_driver::runtime::{
    Carrier, LinkKind, LinkSecret, LinkSetup, NodePort, NodeSetup, NodeSink, OffloadChoice,
    Runtime, RuntimeConfig, TunNamespace, TunSetup,
};
use nm_engine::{Command, Delivery, Event, LinkSpec, NodeConfig, NodeId};
use nm_kernel::namespace;

type Failure = Box<dyn std::error::Error>;

const HELP: &str = "tun_pair [--nodes N] [--shape line|ring] [--link memory|shared|unix|tcp] [--shards N] [--shard N] [--pin] [--prefix NAME]
         [--offload auto|off] [--mtu BYTES] [--delay-us N] [--rate-bps N] [--loss P] [--block N] [--seconds N] [--stats] [--one-write-per-packet]";

struct Options {
    nodes: u32,
    ring: bool,
    link: String,
    prefix: String,
    offload: OffloadChoice,
    mtu: u16,
    spec: LinkSpec,
    runtime: RuntimeConfig,
    seconds: Option<u64>,
    stats: bool,
    shard: Option<usize>,
}

impl Options {
    /// The runtime configuration of one node, where each has a process of its own.
    fn runtime_of(&self, id: NodeId) -> RuntimeConfig {
        let name = format!("{}{id}-{}.sock", self.prefix, std::process::id());
        let socket = std::env::temp_dir().join(name);
        RuntimeConfig {
            socket: matches!(self.link.as_str(), "shared" | "unix").then_some(socket),
            shared_memory: self.link == "shared",
            ..self.runtime.clone()
        }
    }
}

fn main() -> Result<(), Failure> {
    let options = parse(std::env::args().skip(1))?;
    let mut lab = Lab {
        holds: Vec::new(),
        runtimes: Vec::new(),
        ports: Vec::new(),
    };
    let outcome = lab.build(&options).map(|()| {
        eprintln!(
            "ready: {} nodes, offload {}",
            options.nodes,
            lab.ports[0].offload()
        );
        wait(options.seconds);
        if options.stats {
            lab.show();
        }
    });
    lab.clean();
    outcome
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let mut options = Options {
        nodes: 2,
        ring: false,
        link: "memory".into(),
        prefix: "nmx".into(),
        offload: OffloadChoice::Auto,
        mtu: 1500,
        spec: LinkSpec::default(),
        runtime: RuntimeConfig::default(),
        seconds: None,
        stats: false,
        shard: None,
    };
    while let Some(name) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or(format!("{name} needs a value\n{HELP}"))
        };
        match name.as_str() {
            "--nodes" => options.nodes = value()?.parse()?,
            "--shape" => options.ring = value()? == "ring",
            "--link" => options.link = value()?,
            "--shards" => options.runtime.shards = Some(value()?.parse()?),
            "--shard" => options.shard = Some(value()?.parse()?),
            "--pin" => options.runtime.pin = true,
            "--block" => options.runtime.nodes_per_block = value()?.parse()?,
            "--prefix" => options.prefix = value()?,
            "--offload" if value()? == "off" => options.offload = OffloadChoice::Off,
            "--offload" => {}
            "--mtu" => options.mtu = value()?.parse()?,
            "--delay-us" => options.spec.delay_us = value()?.parse()?,
            "--rate-bps" => options.spec.rate_bps = Some(value()?.parse()?),
            "--loss" => options.spec.loss = value()?.parse()?,
            "--seconds" => options.seconds = Some(value()?.parse()?),
            "--stats" => options.stats = true,
            "--one-write-per-packet" => options.runtime.batched_writes = false,
            _ => return Err(format!("unknown option {name}\n{HELP}").into()),
        }
    }
    Ok(options)
}

struct Lab {
    holds: Vec<PathBuf>,
    runtimes: Vec<Arc<Runtime>>,
    ports: Vec<NodePort>,
}

impl Lab {
    fn build(&mut self, options: &Options) -> Result<(), Failure> {
        std::fs::create_dir_all("/run/netns")?;
        let mut shared = None;
        for id in 1..=options.nodes {
            let runtime = match &shared {
                Some(runtime) if options.link == "memory" => Arc::clone(runtime),
                _ => Runtime::start(options.runtime_of(id))?,
            };
            shared = Some(runtime.clone());
            self.add(options, id, &runtime)?;
            self.runtimes.push(runtime);
        }
        for id in 1..=options.nodes {
            self.connect(options, id)?;
        }
        Ok(())
    }

    fn add(&mut self, options: &Options, id: NodeId, runtime: &Runtime) -> Result<(), Failure> {
        let space = namespace::create()?;
        let path = PathBuf::from(format!("/run/netns/{}{id}", options.prefix));
        namespace::mount(space.as_fd(), &path)?;
        self.holds.push(path);
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + id);
        let tun = TunSetup {
            name: "utun".into(),
            interface: TunSetup::interface(address, 16, u32::from(options.mtu)),
            offload: options.offload,
            queues: 1,
            device: "/dev/net/tun".into(),
            namespace: TunNamespace::Descriptor(space),
        };
        let config = NodeConfig {
            mtu: options.mtu,
            ..NodeConfig::new(id)
        };
        self.ports.push(runtime.add_node(NodeSetup {
            config,
            tun: Some(tun),
            sink: Arc::new(NullSink),
            lab: "tun-pair".into(),
            shard: options.shard,
        })?);
        Ok(())
    }

    fn connect(&self, options: &Options, id: NodeId) -> Result<(), Failure> {
        let last = options.nodes;
        let (before, after) = match options.ring {
            true => (Some((id + last - 2) % last + 1), Some(id % last + 1)),
            false => ((id > 1).then(|| id - 1), (id < last).then_some(id + 1)),
        };
        let mut neighbours: Vec<NodeId> = before.into_iter().chain(after).collect();
        neighbours.dedup();
        for remote in neighbours {
            let kind = match options.link != "memory" {
                false => LinkKind::Memory,
                true if remote > id => LinkKind::Accept,
                true => {
                    let address = self.runtimes[remote as usize - 1].listen_address();
                    LinkKind::Dial(address.ok_or("no listener")?)
                }
            };
            self.ports[id as usize - 1].connect_link(LinkSetup {
                remote,
                remote_name: format!("n{remote}"),
                kind,
                socket: options.runtime_of(remote).socket,
                spec: options.spec.clone(),
                secret: LinkSecret::from_bytes(&[7; 32]),
            })?;
        }
        let next_hop = |dst: NodeId| match dst {
            0 => 0,
            _ if dst == id => 0,
            _ if options.ring && (dst + last - id) % last <= last / 2 => id % last + 1,
            _ if options.ring => (id + last - 2) % last + 1,
            _ if dst > id => id + 1,
            _ => id - 1,
        };
        let table = Some((0..=last).map(next_hop).collect());
        self.ports[id as usize - 1].command(Command::InstallRoutes {
            table,
            routes: vec![],
            removed: vec![],
        })?;
        Ok(())
    }

    fn show(&self) {
        for runtime in self
            .runtimes
            .iter()
            .take(if self.runtimes.len() > 4 { 1 } else { 4 })
        {
            eprintln!("{:#?}", runtime.stats());
        }
        for port in [&self.ports[0], &self.ports[self.ports.len() - 1]] {
            if let Ok(stats) = port.stats() {
                eprintln!("{:#?}", stats.links);
            }
        }
    }

    fn clean(&mut self) {
        for port in self.ports.drain(..) {
            port.close();
        }
        self.runtimes.clear();
        for path in self.holds.drain(..) {
            if let Err(error) = namespace::unmount(&path) {
                eprintln!("{error}");
            }
        }
    }
}

fn wait(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
        None => {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
        }
    }
}

struct NullSink;

impl NodeSink for NullSink {
    fn event(&self, _event: Event) {}
    fn deliver(&self, _delivery: Delivery) -> bool {
        false
    }
    fn link_state(&self, _remote: NodeId, _carrier: Option<Carrier>, _reason: &str) {}
}
