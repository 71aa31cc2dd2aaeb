//! An experiment in virtual time: a network, changes of it at given times, and user-space flows.
//!
//! A [`Simulation`] is set up first (nodes, links, changes, flows) and then advanced until every flow has ended or its
//! time is up. Nothing in it depends on a real clock, so two simulations with equal input are equal in every bit,
//! in however many steps they are advanced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use nm_engine::{Command, CommandError, Instant, LinkSpec, NodeConfig, NodeId, NodeStats, PairRoute};
use nm_flows::{FlowEnd, FlowError, FlowEvent, FlowSpec};

use crate::{Lab, Wire};

/// What a link takes besides its emulated delay. A link without rate and delay would take no time at all otherwise,
/// and what crosses it would have an infinite rate. Links in memory take about as long.
const WIRE: Wire =
    Wire { delay_ns: 1_000, loss: 0.0, duplicate: 0.0, reorder: 0.0, reorder_ns: 0, corrupt: 0.0 };

/// A change of the network.
#[derive(Debug, Clone)]
pub enum Change {
    /// The direction of a link from one node to another does this from now on.
    Link {
        /// The sending end.
        from: NodeId,
        /// The receiving end.
        to: NodeId,
        /// The whole new specification.
        spec: Box<LinkSpec>,
    },
    /// A link goes down in both directions, its queues are lost; or it comes up again.
    Carrier {
        /// One end.
        a: NodeId,
        /// The other.
        b: NodeId,
        /// Whether it can carry packets.
        up: bool,
    },
    /// The forwarding table of a node, and explicit routes that replace those of their pairs.
    Routes {
        /// The node.
        node: NodeId,
        /// The next hop by destination id, 0 for none; `None` leaves it as it is.
        table: Option<Vec<NodeId>>,
        /// The node's part of explicit routes.
        routes: Vec<PairRoute>,
        /// The pairs whose earlier routes are removed before.
        removed: Vec<(NodeId, NodeId)>,
    },
}

/// How far [`Simulation::advance`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its steps were used up.
    Running,
    /// The clock is at the time at which it was to pause.
    Paused,
    /// Every flow has ended, or the time is up.
    Ended,
}

/// When a flow begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At a time.
    At(Instant),
    /// With all flows of the same chain and round, when all of the round before have ended.
    Round {
        /// The chain, as [`Simulation::add_chain`] returned it.
        chain: usize,
        /// The round; the lowest of a chain begins at the time of the chain.
        round: u32,
    },
}

/// A flow that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowResult {
    /// When it was to begin.
    pub due: Instant,
    /// What became of it.
    pub end: FlowEnd,
}

/// A flow that has begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningFlow {
    /// The flow.
    pub id: u64,
    /// When it was to begin.
    pub due: Instant,
    /// Payload in bytes that its destination had acknowledged at the last whole second of its node.
    pub acknowledged: u64,
}

/// Input that makes no simulation.
#[derive(Debug)]
pub enum SimulationError {
    /// There is no such node.
    UnknownNode(NodeId),
    /// There is no such link.
    UnknownLink(NodeId, NodeId),
    /// There is no such chain.
    UnknownChain(usize),
    /// Two flows have one number.
    SameFlow(u64),
    /// A node refuses a flow.
    Flow(FlowError),
    /// A node refuses a change at a time.
    Command(Instant, NodeId, CommandError),
}

impl fmt::Display for SimulationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode(node) => write!(out, "there is no node {node}"),
            Self::UnknownLink(a, b) => write!(out, "there is no link between nodes {a} and {b}"),
            Self::UnknownChain(chain) => write!(out, "there is no chain {chain}"),
            Self::SameFlow(id) => write!(out, "flow {id} is there twice"),
            Self::Flow(error) => error.fmt(out),
            Self::Command(at, node, error) => {
                write!(out, "node {node} refuses a change at {} µs: {error}", at.0 / 1_000)
            }
        }
    }
}

impl std::error::Error for SimulationError {}

/// Rounds of flows, each of which begins when the one before has ended.
#[derive(Debug)]
struct Chain {
    begin: Instant,
    rounds: BTreeMap<u32, Vec<FlowSpec>>,
    /// Flows of the current round that have not ended.
    open: usize,
}

#[derive(Debug)]
struct Running {
    due: Instant,
    chain: Option<usize>,
    acknowledged: u64,
}

/// The experiment.
#[derive(Debug)]
pub struct Simulation {
    lab: Lab,
    links: BTreeSet<(NodeId, NodeId)>,
    until: Instant,
    /// By time, and in the order in which they were added.
    changes: BTreeMap<(Instant, usize), Change>,
    begins: BTreeMap<(Instant, usize), FlowSpec>,
    chains: Vec<Chain>,
    ids: BTreeSet<u64>,
    running: BTreeMap<u64, Running>,
    ended: VecDeque<FlowResult>,
    added: usize,
    begun: bool,
}

impl Simulation {
    /// A network of nodes without links, that runs until a time at most. The nodes need user-space addresses for
    /// flows.
    #[must_use]
    pub fn new(nodes: Vec<NodeConfig>, seed: u64, until: Instant) -> Self {
        let mut lab = Lab::new(0, seed, |_| ());
        for config in nodes {
            lab.start_node(config);
        }
        lab.start_flows();
        Self {
            lab,
            links: BTreeSet::new(),
            until,
            changes: BTreeMap::new(),
            begins: BTreeMap::new(),
            chains: Vec::new(),
            ids: BTreeSet::new(),
            running: BTreeMap::new(),
            ended: VecDeque::new(),
            added: 0,
            begun: false,
        }
    }

    /// Connects two nodes by a link that is up.
    ///
    /// # Errors
    ///
    /// When there is no such node, or a direction cannot do what is asked.
    pub fn connect(
        &mut self,
        (a, b): (NodeId, NodeId),
        forward: LinkSpec,
        backward: LinkSpec,
    ) -> Result<(), SimulationError> {
        self.require_node(a)?;
        self.require_node(b)?;
        self.links.insert((a.min(b), a.max(b)));
        self.lab.connect(a, b, WIRE);
        self.apply(Change::Link { from: a, to: b, spec: Box::new(forward) })?;
        self.apply(Change::Link { from: b, to: a, spec: Box::new(backward) })
    }

    /// Plans a change. Those of one moment are made in the order in which they were added, before flows begin.
    ///
    /// # Errors
    ///
    /// When it names a node or a link that does not exist.
    pub fn change_at(&mut self, at: Instant, change: Change) -> Result<(), SimulationError> {
        match &change {
            Change::Link { from: a, to: b, .. } | Change::Carrier { a, b, .. } => {
                if !self.links.contains(&(*a.min(b), *a.max(b))) {
                    return Err(SimulationError::UnknownLink(*a, *b));
                }
            }
            Change::Routes { node, .. } => self.require_node(*node)?,
        }
        self.added += 1;
        self.changes.insert((at, self.added), change);
        Ok(())
    }

    /// Adds a chain of rounds whose first one begins at a time; its number is for [`Begin::Round`].
    pub fn add_chain(&mut self, begin: Instant) -> usize {
        self.chains.push(Chain { begin, rounds: BTreeMap::new(), open: 0 });
        self.chains.len() - 1
    }

    /// Adds a flow. Those of one moment begin in the order in which they were added.
    ///
    /// # Errors
    ///
    /// When it names a node or a chain that does not exist, its source is its destination, or its number is in use.
    pub fn add_flow(&mut self, flow: FlowSpec, begin: Begin) -> Result<(), SimulationError> {
        self.require_node(flow.src)?;
        self.require_node(flow.dst)?;
        if flow.src == flow.dst {
            return Err(SimulationError::Flow(FlowError::SameNode(flow.id)));
        }
        if let Begin::Round { chain, .. } = begin {
            self.chains.get(chain).ok_or(SimulationError::UnknownChain(chain))?;
        }
        if !self.ids.insert(flow.id) {
            return Err(SimulationError::SameFlow(flow.id));
        }
        match begin {
            Begin::At(at) => {
                self.added += 1;
                self.begins.insert((at, self.added), flow);
            }
            Begin::Round { chain, round } => {
                self.chains[chain].rounds.entry(round).or_default().push(flow);
            }
        }
        Ok(())
    }

    /// Advances the clock by so many of its steps at most, and not beyond a time.
    ///
    /// # Errors
    ///
    /// When a node refuses a change or a flow; the simulation cannot be continued then.
    pub fn advance(&mut self, steps: u64, pause_at: Instant) -> Result<Progress, SimulationError> {
        if !std::mem::replace(&mut self.begun, true) {
            for chain in 0..self.chains.len() {
                let begin = self.chains[chain].begin;
                self.begin_round(chain, begin);
            }
        }
        for _ in 0..steps {
            self.process_now()?;
            if self.running.is_empty() && self.begins.is_empty() {
                return Ok(Progress::Ended);
            }
            let planned = [self.changes.keys().next(), self.begins.keys().next()];
            let next = planned.into_iter().flatten().map(|(at, _)| *at);
            match next.chain(self.lab.next_instant()).min() {
                Some(next) if next < self.until.min(pause_at) => self.lab.set_now(next),
                _ if pause_at < self.until => {
                    self.lab.set_now(pause_at);
                    return Ok(Progress::Paused);
                }
                _ => {
                    self.lab.set_now(self.until);
                    return Ok(Progress::Ended);
                }
            }
        }
        Ok(Progress::Running)
    }

    /// Does everything that is due now, and what follows from it without time passing.
    fn process_now(&mut self) -> Result<(), SimulationError> {
        let now = self.lab.now();
        while let Some(entry) = self.changes.first_entry().filter(|entry| entry.key().0 <= now) {
            let change = entry.remove();
            self.apply(change)?;
        }
        loop {
            let mut flows = Vec::new();
            while let Some(entry) = self.begins.first_entry().filter(|entry| entry.key().0 <= now) {
                let due = entry.key().0;
                let flow = entry.remove();
                let fresh = || Running { due, chain: None, acknowledged: 0 };
                self.running.entry(flow.id).or_insert_with(fresh);
                flows.push(flow);
            }
            self.lab.add_flows(&flows).map_err(SimulationError::Flow)?;
            self.lab.process_due();
            self.collect();
            if self.begins.keys().next().is_none_or(|(at, _)| *at > now) {
                return Ok(());
            }
        }
    }

    /// Takes the results of flows, and begins the rounds that waited for them.
    fn collect(&mut self) {
        for (_, event) in self.lab.take_flow_events() {
            match event {
                FlowEvent::Began { .. } | FlowEvent::Routed { .. } => {}
                FlowEvent::Progressed(flows) => {
                    for (id, acknowledged) in flows {
                        if let Some(flow) = self.running.get_mut(&id) {
                            flow.acknowledged = acknowledged;
                        }
                    }
                }
                FlowEvent::Ended(end) => self.ended(end),
            }
        }
    }

    fn ended(&mut self, end: FlowEnd) {
        let Some(flow) = self.running.remove(&end.id) else {
            return;
        };
        self.ended.push_back(FlowResult { due: flow.due, end });
        if let Some(chain) = flow.chain {
            self.chains[chain].open -= 1;
            if self.chains[chain].open == 0 {
                let now = self.lab.now();
                self.begin_round(chain, now);
            }
        }
    }

    /// Plans the next round of a chain, if there is one.
    fn begin_round(&mut self, chain: usize, at: Instant) {
        if let Some((_, flows)) = self.chains[chain].rounds.pop_first() {
            self.chains[chain].open = flows.len();
            for flow in flows {
                self.added += 1;
                self.running.insert(flow.id, Running { due: at, chain: Some(chain), acknowledged: 0 });
                self.begins.insert((at, self.added), flow);
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<(), SimulationError> {
        let (node, command) = match change {
            Change::Link { from, to, spec } => (from, Command::SetLink { remote: to, spec: *spec }),
            Change::Carrier { a, b, up } => {
                self.lab.set_link(a, b, up);
                return Ok(());
            }
            Change::Routes { node, table, routes, removed } => {
                (node, Command::InstallRoutes { table, routes, removed })
            }
        };
        let now = self.lab.now();
        let answer = self.lab.command(node, command);
        answer.map(|_| ()).map_err(|error| SimulationError::Command(now, node, error))
    }

    fn require_node(&self, node: NodeId) -> Result<(), SimulationError> {
        if self.lab.has_node(node) {
            Ok(())
        } else {
            Err(SimulationError::UnknownNode(node))
        }
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.lab.now()
    }

    /// Returns and removes the flows that have ended, in the order of their ends.
    pub fn take_ended(&mut self) -> Vec<FlowResult> {
        self.ended.drain(..).collect()
    }

    /// The flows that have begun and not ended, by number.
    pub fn running(&self) -> impl Iterator<Item = RunningFlow> + '_ {
        let now = self.lab.now();
        let begun = self.running.iter().filter(move |(_, flow)| flow.due < now);
        begun.map(|(&id, flow)| RunningFlow { id, due: flow.due, acknowledged: flow.acknowledged })
    }

    /// The counters of every node, by number.
    pub fn stats(&self) -> impl Iterator<Item = NodeStats> + '_ {
        self.lab.all_stats()
    }
}
