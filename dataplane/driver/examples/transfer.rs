//! Measure one lossless transfer to every node of a line: memory or TCP links, no devices.
//!
//! ```text
//! cargo run --release -p nm-driver --example transfer -- 4 90 memory
//! ```
//!
//! Arguments: nodes, megabytes, `memory` or `tcp`, shards (1), loss of each link (0), rounds (3). Node 1 sends to
//! a group; the tree is the line itself, so each node forwards to the next.

use std::net::Ipv4Addr;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nm_driver::runtime::{
    Carrier, LinkKind, LinkSecret, LinkSetup, NodePort, NodeSetup, NodeSink, Runtime, RuntimeConfig,
};
use nm_engine::{
    Command, CommandOutput, Delivery, Event, GroupInfo, GroupRoute, LinkSpec, NodeConfig, NodeId,
    SessionState, SharedBytes,
};

type Failure = Box<dyn std::error::Error>;

const GROUP: u32 = 1;
const GROUP_IP: Ipv4Addr = Ipv4Addr::new(239, 255, 0, 1);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, otherwise: f64| -> Result<f64, Failure> {
        Ok(arguments
            .get(index)
            .map_or(Ok(otherwise), |text| text.parse())?)
    };
    let (nodes, megabytes) = (number(0, 4.0)? as u32, number(1, 90.0)?);
    let tcp = arguments.get(2).is_some_and(|kind| kind == "tcp");
    let (shards, loss, rounds) = (
        number(3, 1.0)? as usize,
        number(4, 0.0)?,
        number(5, 3.0)? as u32,
    );
    let line = Line::build(nodes, tcp, shards, loss)?;
    let data = SharedBytes::new(vec![7u8; (megabytes * 1e6) as usize]);
    for _ in 0..rounds {
        line.transfer(&data)?;
    }
    Ok(())
}

struct Line {
    ports: Vec<NodePort>,
    events: Receiver<(NodeId, Event)>,
    runtimes: Vec<Arc<Runtime>>,
}

impl Line {
    fn build(nodes: u32, tcp: bool, shards: usize, loss: f64) -> Result<Self, Failure> {
        let (sender, events) = channel();
        let config = RuntimeConfig {
            shards: Some(shards),
            nodes_per_block: 1,
            ..RuntimeConfig::default()
        };
        let mut line = Line {
            ports: Vec::new(),
            events,
            runtimes: Vec::new(),
        };
        for id in 1..=nodes {
            let runtime = match line.runtimes.last() {
                Some(runtime) if !tcp => runtime.clone(),
                _ => Runtime::start(config.clone())?,
            };
            line.ports.push(runtime.add_node(NodeSetup {
                config: NodeConfig::new(id),
                tun: None,
                sink: Arc::new(ResultSink {
                    id,
                    sender: Mutex::new(sender.clone()),
                }),
                lab: "transfer".into(),
                shard: None,
            })?);
            line.runtimes.push(runtime);
        }
        for id in 1..=nodes {
            line.connect(id, nodes, tcp, loss)?;
        }
        std::thread::sleep(Duration::from_millis(300));
        Ok(line)
    }

    fn connect(&self, id: NodeId, nodes: u32, tcp: bool, loss: f64) -> Result<(), Failure> {
        self.connect_links(id, nodes, tcp, loss)?;
        self.install_routes(id, nodes)
    }

    fn connect_links(&self, id: NodeId, nodes: u32, tcp: bool, loss: f64) -> Result<(), Failure> {
        let port = &self.ports[id as usize - 1];
        for remote in [id - 1, id + 1]
            .into_iter()
            .filter(|&remote| remote >= 1 && remote <= nodes)
        {
            let kind = match tcp {
                false => LinkKind::Memory,
                true if remote > id => LinkKind::Accept,
                true => LinkKind::Dial(
                    self.runtimes[remote as usize - 1]
                        .listen_address()
                        .ok_or("no listener")?,
                ),
            };
            let (remote_name, spec) = (
                format!("n{remote}"),
                LinkSpec {
                    loss,
                    ..LinkSpec::default()
                },
            );
            port.connect_link(LinkSetup {
                remote,
                remote_name,
                kind,
                socket: None,
                spec,
                secret: LinkSecret::from_bytes(&[7; 32]),
            })?;
        }
        Ok(())
    }

    fn install_routes(&self, id: NodeId, nodes: u32) -> Result<(), Failure> {
        let port = &self.ports[id as usize - 1];
        let toward = |dst: u32| match dst {
            0 => 0,
            _ if dst < id => id - 1,
            _ if dst > id => id + 1,
            _ => 0,
        };
        let table = Some((0..=nodes).map(toward).collect());
        port.command(Command::InstallRoutes {
            table,
            routes: vec![],
            removed: vec![],
        })?;
        let group = GroupInfo {
            group_id: GROUP,
            group_ip: GROUP_IP,
            source: 1,
            label: "all".into(),
        };
        port.command(Command::InstallGroups {
            groups: vec![group],
            removed: vec![],
        })?;
        let next_hops = if id < nodes { vec![id + 1] } else { vec![] };
        let routes = vec![GroupRoute {
            tree_id: 0,
            next_hops,
            local: id > 1,
        }];
        port.command(Command::InstallGroupRoutes {
            group_id: GROUP,
            source: 1,
            routes,
        })?;
        if id > 1 {
            port.command(Command::JoinGroup { group_id: GROUP })?;
        }
        Ok(())
    }

    fn transfer(&self, data: &SharedBytes) -> Result<(), Failure> {
        let nodes = self.ports.len() as u32;
        let expected_bytes = data.as_slice().len() as u64;
        for port in &self.ports[1..] {
            port.command(Command::ReceiveData {
                dest: GROUP_IP,
                source: 1,
                expected_bytes,
            })?;
        }
        let start = Instant::now();
        let receivers = (2..=nodes).collect();
        let send = Command::SendData {
            dest: GROUP_IP,
            receivers,
            data: data.clone(),
        };
        let CommandOutput::Session(session) = self.ports[0].command(send)? else {
            return Err("no session".into());
        };
        loop {
            let (node, event) = self.events.recv_timeout(Duration::from_secs(60))?;
            if let Event::SessionFinished { report, .. } = event {
                let state = report.state;
                if node == 1 && state == SessionState::Complete {
                    break;
                }
                if state != SessionState::Complete {
                    return Err(format!("node {node}: {}", state.as_str()).into());
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let CommandOutput::Report(report) =
            self.ports[0].command(Command::SessionReport { session })?
        else {
            return Err("no report".into());
        };
        println!(
            "{:.0} MB/s to each of {} receivers, {:.4} bytes on the wire per byte, repair {} bytes",
            expected_bytes as f64 / 1e6 / seconds,
            nodes - 1,
            report.bytes_sent as f64 / expected_bytes as f64,
            report.repair_bytes
        );
        Ok(())
    }
}

struct ResultSink {
    id: NodeId,
    sender: Mutex<Sender<(NodeId, Event)>>,
}

impl NodeSink for ResultSink {
    fn event(&self, event: Event) {
        if let Ok(sender) = self.sender.lock() {
            let _ = sender.send((self.id, event));
        }
    }
    fn deliver(&self, _delivery: Delivery) -> bool {
        false
    }
    fn link_state(&self, _remote: NodeId, _carrier: Option<Carrier>, _reason: &str) {}
}
