//! Build a lab of nodes, links, routes and groups, and change it: restarts, outages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nm_engine::{
    Command, CommandOutput, GroupInfo, GroupRoute, Instant, Io, LinkId, LinkSpec, NodeConfig, NodeId, Pool,
};

use super::{Lab, Node};
use crate::{topology, Random, Wire};

impl Lab {
    /// A lab with nodes 1 to `n` and no links. `configure` may change each node's configuration.
    #[must_use]
    pub fn new(n: u32, seed: u64, configure: impl Fn(&mut NodeConfig)) -> Self {
        let mut lab = Self {
            now: Instant::ZERO,
            io: Io::new(Pool::standalone()),
            nodes: BTreeMap::new(),
            edges: BTreeSet::new(),
            wires: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            departures: 0,
            random: Random::new(seed),
            deadline_of: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            active: BTreeSet::new(),
            with_flow_events: BTreeSet::new(),
        };
        for id in 1..=n {
            let mut config = NodeConfig::new(id);
            config.seed = seed;
            configure(&mut config);
            lab.start_node(config);
        }
        lab
    }

    /// A ring with shortest-path routes.
    #[must_use]
    pub fn ring(n: u32, seed: u64, wire: &Wire) -> Self {
        Self::shaped(n, seed, &topology::ring(n), wire)
    }

    /// A line with routes.
    #[must_use]
    pub fn line(n: u32, seed: u64, wire: &Wire) -> Self {
        Self::shaped(n, seed, &topology::line(n), wire)
    }

    /// A star around node 1, with routes.
    #[must_use]
    pub fn star(n: u32, seed: u64, wire: &Wire) -> Self {
        Self::shaped(n, seed, &topology::star(n), wire)
    }

    /// A binary tree under node 1, with routes.
    #[must_use]
    pub fn tree(n: u32, seed: u64, wire: &Wire) -> Self {
        Self::shaped(n, seed, &topology::tree(n), wire)
    }

    fn shaped(n: u32, seed: u64, edges: &[(NodeId, NodeId)], wire: &Wire) -> Self {
        let mut lab = Self::new(n, seed, |_| {});
        for &(a, b) in edges {
            lab.connect(a, b, wire.clone());
        }
        lab.install_shortest_routes();
        lab
    }

    /// Adds a node to the lab: a new one, or a new incarnation of one that was stopped.
    pub fn start_node(&mut self, config: NodeConfig) {
        let id = config.node_id;
        self.nodes.insert(id, Node::new(self.now, config));
        self.with(id, |_, _| ());
        let edges: Vec<_> = self.edges.iter().copied().filter(|&(a, b)| a == id || b == id).collect();
        for (a, b) in edges {
            self.bring_up(a, b);
        }
    }

    /// Connects two nodes; the link is up immediately and has no impairments.
    pub fn connect(&mut self, a: NodeId, b: NodeId, wire: Wire) {
        self.edges.insert((a.min(b), a.max(b)));
        self.wires.insert((a.min(b), a.max(b)), wire);
        self.bring_up(a, b);
    }

    fn bring_up(&mut self, a: NodeId, b: NodeId) {
        if !self.nodes.contains_key(&a) || !self.nodes.contains_key(&b) {
            return;
        }
        let (here, there) = (self.add_link(a, b), self.add_link(b, a));
        for (node, link, far_end) in [(a, here, (b, there)), (b, there, (a, here))] {
            let now = self.now;
            self.with(node, |node, io| {
                node.neighbours.insert(link, far_end);
                node.engine.handle_link_state(now, link, true, io);
            });
        }
    }

    fn add_link(&mut self, from: NodeId, to: NodeId) -> LinkId {
        let command =
            Command::AddLink { remote: to, remote_name: format!("n{to}"), spec: LinkSpec::default() };
        match self.command(from, command) {
            Ok(CommandOutput::Link(link)) => link,
            other => panic!("a link, not {other:?}"),
        }
    }

    /// Changes the wire between two nodes.
    pub fn set_wire(&mut self, a: NodeId, b: NodeId, wire: Wire) {
        self.wires.insert((a.min(b), a.max(b)), wire);
    }

    /// Sets the impairments of the link from `from` to `to`.
    pub fn shape(&mut self, from: NodeId, to: NodeId, spec: LinkSpec) {
        self.command(from, Command::SetLink { remote: to, spec }).expect("a known link");
    }

    /// Sets the same impairments on every link, in both directions.
    pub fn shape_all(&mut self, spec: &LinkSpec) {
        for (a, b) in self.edges.clone() {
            self.shape(a, b, spec.clone());
            self.shape(b, a, spec.clone());
        }
    }

    /// Installs a forwarding table with shortest paths at every node.
    pub fn install_shortest_routes(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let size = nodes.iter().max().map_or(0, |max| *max as usize + 1);
        let mut tables: BTreeMap<NodeId, Vec<NodeId>> =
            nodes.iter().map(|&node| (node, vec![0; size])).collect();
        for &dst in &nodes {
            for (node, parent) in topology::parents(&self.edges, dst) {
                if let Some(table) = tables.get_mut(&node).filter(|_| node != dst) {
                    table[dst as usize] = parent;
                }
            }
        }
        for (node, table) in tables {
            let command = Command::InstallRoutes { table: Some(table), routes: vec![], removed: vec![] };
            self.command(node, command).expect("routes install");
        }
    }

    /// Creates a group with a shortest-path tree, installs it at every node, and makes the members join.
    pub fn group(&mut self, group_id: u32, source: NodeId, members: &[NodeId]) -> Ipv4Addr {
        let group_ip = Ipv4Addr::new(239, 255, (group_id >> 8) as u8, group_id as u8);
        let children = topology::shortest_tree(&self.edges, source, members);
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let info = GroupInfo { group_id, group_ip, source, label: format!("g{group_id}") };
            self.command(node, Command::InstallGroups { groups: vec![info], removed: vec![] })
                .expect("a group");
            let next_hops: Vec<NodeId> = children.get(&node).into_iter().flatten().copied().collect();
            let local = members.contains(&node);
            if !next_hops.is_empty() || local {
                let routes = vec![GroupRoute { tree_id: 0, next_hops, local }];
                self.command(node, Command::InstallGroupRoutes { group_id, source, routes })
                    .expect("group routes");
            }
            if local {
                self.command(node, Command::JoinGroup { group_id }).expect("membership");
            }
        }
        group_ip
    }

    /// Stops a node without messages to its peers: its neighbours' links go down.
    pub fn kill(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        self.note(id, None);
        self.active.remove(&id);
        for (neighbour, link) in node.neighbours.into_values() {
            let now = self.now;
            self.with(neighbour, |node, io| node.engine.handle_link_state(now, link, false, io));
        }
    }

    /// Sets the link between two nodes down or up.
    pub fn set_link(&mut self, a: NodeId, b: NodeId, up: bool) {
        for (node, other) in [(a, b), (b, a)] {
            let now = self.now;
            self.with(node, |node, io| {
                let links: Vec<LinkId> = node
                    .neighbours
                    .iter()
                    .filter(|(_, far_end)| far_end.0 == other)
                    .map(|(&id, _)| id)
                    .collect();
                for link in links {
                    node.engine.handle_link_state(now, link, up, io);
                }
            });
        }
    }
}
