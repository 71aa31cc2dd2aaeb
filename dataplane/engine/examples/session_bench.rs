//! Benchmark of lossless sessions: 90 MB through in-memory hops on one core.
//!
//! `cargo run --release -p nm-engine --example session_bench` prints MB/s per receiver for several shapes.

use std::net::Ipv4Addr;
use std::time::Instant as Clock;

use nm_engine::{
    Command, CommandOutput, Engine, GroupInfo, GroupRoute, Instant, Io, LinkId, LinkSpec, NodeConfig, Packet,
    Pool, SessionId, SharedBytes,
};

const BYTES: usize = 90_000_000;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0, 1);

fn main() {
    let chain: Vec<(u32, u32)> = vec![(1, 2)];
    run("1 receiver, 1 hop", 2, 0.0, &chain);
    run("ring of 4: 3 receivers, out-degree 2", 4, 0.0, &[(1, 2), (2, 3), (1, 4)]);
    run("the same, 5 % loss on every link", 4, 0.05, &[(1, 2), (2, 3), (1, 4)]);
    run("line of 5: 4 receivers in a row", 5, 0.0, &[(1, 2), (2, 3), (3, 4), (4, 5)]);
    run("star of 8: 7 receivers", 8, 0.0, &(2..=8).map(|leaf| (1, leaf)).collect::<Vec<_>>());
}

/// Engines, and the far end of each of their links.
struct Bench {
    io: Io,
    nodes: Vec<Engine>,
    far: Vec<Vec<(usize, LinkId)>>,
    work: Vec<(usize, LinkId, Packet)>,
    clock: Clock,
}

fn run(name: &str, nodes: u32, loss: f64, tree: &[(u32, u32)]) {
    let data = SharedBytes::new(vec![7u8; BYTES]);
    for round in 0..3 {
        let mut bench = Bench::new(nodes, loss, tree);
        let receivers: Vec<u32> = (2..=nodes).collect();
        for &node in &receivers {
            let (dest, source, expected_bytes) = (GROUP, 1, BYTES as u64);
            bench.session(node, Command::ReceiveData { dest, source, expected_bytes });
        }
        let send = Command::SendData { dest: GROUP, receivers, data: data.clone() };
        let outgoing = bench.session(1, send);
        let start = Clock::now();
        bench.finish(outgoing);
        let seconds = start.elapsed().as_secs_f64();
        if round > 0 {
            println!("{name}: {:.0} MB/s to each receiver", BYTES as f64 / 1e6 / seconds);
        }
    }
}

impl Bench {
    fn new(count: u32, loss: f64, tree: &[(u32, u32)]) -> Self {
        let mut bench = Self {
            io: Io::new(Pool::standalone()),
            nodes: (1..=count).map(|id| Engine::new(NodeConfig::new(id))).collect(),
            far: vec![Vec::new(); count as usize],
            work: Vec::new(),
            clock: Clock::now(),
        };
        for &(a, b) in tree {
            let (here, there) = (bench.link(a, b, loss), bench.link(b, a, loss));
            bench.far[a as usize - 1].push((b as usize - 1, there));
            bench.far[b as usize - 1].push((a as usize - 1, here));
        }
        for node in 1..=count {
            let children: Vec<u32> = tree.iter().filter(|edge| edge.0 == node).map(|edge| edge.1).collect();
            let parent = tree.iter().find(|edge| edge.1 == node).map_or(0, |edge| edge.0);
            let info = GroupInfo { group_id: 1, group_ip: GROUP, source: 1, label: String::new() };
            bench.command(node, Command::InstallGroups { groups: vec![info], removed: vec![] });
            let routes = vec![GroupRoute { tree_id: 0, next_hops: children, local: true }];
            bench.command(node, Command::InstallGroupRoutes { group_id: 1, source: 1, routes });
            let table = Some(vec![0, parent]);
            bench.command(node, Command::InstallRoutes { table, routes: vec![], removed: vec![] });
        }
        bench
    }

    fn link(&mut self, from: u32, to: u32, loss: f64) -> LinkId {
        let spec = LinkSpec { loss, ..LinkSpec::default() };
        let CommandOutput::Link(link) =
            self.command(from, Command::AddLink { remote: to, remote_name: format!("n{to}"), spec })
        else {
            panic!("no link")
        };
        self.nodes[from as usize - 1].handle_link_state(Instant::ZERO, link, true, &mut self.io);
        link
    }

    fn command(&mut self, node: u32, command: Command) -> CommandOutput {
        let now = self.now();
        let output =
            self.nodes[node as usize - 1].handle_command(now, command, &mut self.io).expect("accepted");
        self.forward_output(node as usize - 1);
        output
    }

    fn session(&mut self, node: u32, command: Command) -> SessionId {
        let CommandOutput::Session(id) = self.command(node, command) else { panic!("no session") };
        id
    }

    fn now(&self) -> Instant {
        Instant(self.clock.elapsed().as_nanos() as u64)
    }

    /// Forwards the output of a node until no node has output.
    fn forward_output(&mut self, from: usize) {
        self.collect(from);
        while let Some((node, link, packet)) = self.work.pop() {
            let now = self.now();
            self.nodes[node].handle_link(now, link, packet, &mut self.io);
            self.collect(node);
        }
    }

    fn collect(&mut self, from: usize) {
        for (link, packet) in self.io.transmits.drain(..).rev() {
            if let Some(&(node, far_link)) = self.far[from].get(link as usize) {
                self.work.push((node, far_link, packet));
            }
        }
    }

    fn finish(&mut self, session: SessionId) {
        loop {
            for node in 0..self.nodes.len() {
                let now = self.now();
                while self.nodes[node].poll_transmit(now, &mut self.io) {
                    self.forward_output(node);
                }
                if self.nodes[node].poll_deadline().is_some_and(|at| at <= now) {
                    self.nodes[node].handle_timeout(now, &mut self.io);
                    self.forward_output(node);
                }
            }
            let CommandOutput::Report(report) = self.command(1, Command::SessionReport { session }) else {
                panic!()
            };
            if report.state.is_final() {
                assert!(report.complete(), "{report:?}");
                return;
            }
        }
    }
}
