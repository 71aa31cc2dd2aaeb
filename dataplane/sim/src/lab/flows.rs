//! User-space flows in virtual time: the endpoint of each node beside its engine.

use std::collections::BTreeMap;

use nm_engine::{Engine, Instant, Io, NodeConfig, NodeId};
use nm_flows::{Endpoint, FlowEnd, FlowError, FlowEvent, FlowSpec};

use super::{Lab, Node, NodeOutput};

impl Node {
    pub(super) fn new(now: Instant, config: NodeConfig) -> Self {
        let endpoint = config.addresses.user_base_addr.is_some().then(|| Endpoint::new(now, &config));
        let endpoint = endpoint.map(|endpoint| endpoint.expect("a plan with user-space addresses"));
        let mut engine = Engine::new(config);
        engine.set_endpoint(endpoint.is_some());
        Self { engine, endpoint, output: NodeOutput::default(), neighbours: BTreeMap::new() }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let endpoint = self.endpoint.as_ref().filter(|_| !self.engine.is_paused());
        let flows = endpoint.and_then(Endpoint::poll_deadline);
        self.engine.poll_deadline().into_iter().chain(flows).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        self.engine.handle_timeout(now, io);
        if let Some(endpoint) = self.endpoint.as_mut().filter(|_| !self.engine.is_paused()) {
            endpoint.handle_timeout(now);
        }
    }

    /// Sends one packet of the sessions and one of the flows. True when there may be more.
    pub(super) fn poll_transmit(&mut self, now: Instant, io: &mut Io) -> bool {
        let sessions = self.engine.poll_transmit(now, io);
        let Some(endpoint) = self.endpoint.as_mut().filter(|_| !self.engine.is_paused()) else {
            return sessions;
        };
        match endpoint.poll_transmit(now, &mut io.pool) {
            Some(packet) => self.engine.handle_tun(now, packet, io),
            None => return sessions,
        }
        true
    }
}

impl Lab {
    /// Requests flows at both of their ends, as the controller does.
    ///
    /// # Errors
    ///
    /// When an end refuses one.
    ///
    /// # Panics
    ///
    /// When an end has no user-space address.
    pub fn add_flows(&mut self, flows: &[FlowSpec]) -> Result<(), FlowError> {
        let mut by_node: BTreeMap<NodeId, Vec<FlowSpec>> = BTreeMap::new();
        for flow in flows {
            by_node.entry(flow.dst).or_default().push(flow.clone());
            by_node.entry(flow.src).or_default().push(flow.clone());
        }
        let now = self.now;
        for (node, flows) in by_node {
            self.at_endpoint(node, |endpoint| endpoint.add(now, flows)).unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Starts the flows of every node, and those that are added later.
    pub fn start_flows(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.at_endpoint(node, Endpoint::start);
        }
    }

    /// Stops flows at one of their ends.
    pub fn stop_flows(&mut self, node: NodeId, ids: &[u64]) {
        let now = self.now;
        self.at_endpoint(node, |endpoint| endpoint.stop(now, ids));
    }

    /// The results of the flows of a node so far, in the order of their ends.
    #[must_use]
    pub fn flow_ends(&self, node: NodeId) -> Vec<FlowEnd> {
        let events = self.nodes.get(&node).into_iter().flat_map(|node| &node.output.flows);
        let ends = events.filter_map(|event| match event {
            FlowEvent::Ended(end) => Some(end.clone()),
            _ => None,
        });
        ends.collect()
    }

    /// Returns and removes the events of the flows of all nodes, and drops the other outputs of these nodes.
    pub(crate) fn take_flow_events(&mut self) -> Vec<(NodeId, FlowEvent)> {
        let nodes = std::mem::take(&mut self.with_flow_events);
        let events = nodes.into_iter().flat_map(|id| {
            let output = self.take(id);
            output.flows.into_iter().map(move |event| (id, event))
        });
        events.collect()
    }

    /// Connections of the endpoint of a node.
    #[must_use]
    pub fn flow_connections(&self, node: NodeId) -> usize {
        self.nodes.get(&node).and_then(|node| node.endpoint.as_ref()).map_or(0, Endpoint::connections)
    }

    /// A node that was stopped has no endpoint.
    fn at_endpoint<T>(&mut self, node: NodeId, action: impl FnOnce(&mut Endpoint) -> T) -> Option<T> {
        self.nodes.get(&node)?;
        self.with(node, |node, _| action(node.endpoint.as_mut().expect("a user-space address")))
    }
}
