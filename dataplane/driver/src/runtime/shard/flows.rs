//! User-space flows of the nodes of a shard: each node's endpoint is driven beside its engine.
//!
//! Its packets enter the engine as those of the device do, and wait for full links in the same way.

use nm_engine::{CommandError, Engine, FiveTuple, Instant, Io};
use nm_flows::{Endpoint, FlowError, FlowEvent};

use super::node::Node;
use super::Shard;
use crate::runtime::mailbox::{FlowOrder, NodeKey};

/// The number of TCP among the protocols of IP (RFC 790).
const TCP: u8 = 6;

/// Packets of flows that a node sends in one turn: 24 KB at the usual MTU, less than half a super-packet of a session.
const FLOW_PACKETS_PER_TURN: usize = 16;

impl Shard {
    /// Carries out an order about flows.
    pub(super) fn order_flows(
        &mut self,
        key: NodeKey,
        order: FlowOrder,
    ) -> Result<(), CommandError> {
        let now = self.instant();
        let Some(node) = self.nodes.get(key) else {
            return Err(CommandError::Invalid("the node is closed".into()));
        };
        self.running = key.slot;
        let result = node.order_flows(now, order);
        self.after_call(key.slot);
        result.map_err(|error| CommandError::Invalid(error.to_string()))
    }

    /// Hands packets to the endpoint of a node.
    pub(super) fn pass_to_endpoint(&mut self, slot: u32) {
        let now = self.instant();
        let mut packets = std::mem::take(&mut self.io.endpoint);
        if let Some(node) = self.nodes.at(slot) {
            // The engine has such packets only where the plan has user-space addresses.
            if let Ok(endpoint) = node.open_endpoint(now) {
                for packet in packets.drain(..) {
                    endpoint.handle_packet(now, packet, &mut self.io.pool);
                }
            }
            if !node.touched {
                node.touched = true;
                self.touched.push(slot);
            }
        }
        packets.clear();
        self.io.endpoint = packets;
    }
}

impl Node {
    fn order_flows(&mut self, now: Instant, order: FlowOrder) -> Result<(), FlowError> {
        match order {
            FlowOrder::Add(flows) => self.open_endpoint(now)?.add(now, flows)?,
            FlowOrder::Stop(ids) => {
                if let Some(endpoint) = &mut self.endpoint {
                    endpoint.stop(now, &ids);
                }
            }
            FlowOrder::Start => {
                self.flows_started = true;
                if let Some(endpoint) = &mut self.endpoint {
                    endpoint.start();
                }
            }
        }
        Ok(())
    }

    /// The endpoint, which is created at its first use.
    fn open_endpoint(&mut self, now: Instant) -> Result<&mut Endpoint, FlowError> {
        if self.endpoint.is_none() {
            let mut endpoint = Endpoint::new(now, self.engine.config())?;
            if self.flows_started {
                endpoint.start();
            }
            self.endpoint = Some(Box::new(endpoint));
        }
        self.endpoint.as_deref_mut().ok_or(FlowError::NoAddresses)
    }

    /// Whether sessions or flows may have something to send.
    pub fn may_transmit(&self) -> bool {
        let flows = self.endpoint.as_ref();
        let flows = flows.is_some_and(|endpoint| endpoint.may_transmit());
        self.engine.may_transmit() || (flows && !self.engine.is_paused())
    }

    /// Lets sessions and flows send a bounded batch. True when they may have more.
    pub fn poll_transmit(&mut self, now: Instant, io: &mut Io) -> bool {
        let sessions = self.engine.poll_transmit(now, io);
        if self.engine.is_paused() {
            return sessions;
        }
        if let Some(endpoint) = &mut self.endpoint {
            for _ in 0..FLOW_PACKETS_PER_TURN {
                match endpoint.poll_transmit(now, &mut io.pool) {
                    Some(packet) => self.engine.handle_tun(now, packet, io),
                    None => break,
                }
            }
        }
        self.report_flows();
        sessions || self.may_transmit()
    }

    /// The next deadline of the engine and the endpoint.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let flows = self.endpoint.as_ref().filter(|_| !self.engine.is_paused());
        let flows = flows.and_then(|endpoint| endpoint.poll_deadline());
        self.engine.poll_deadline().into_iter().chain(flows).min()
    }

    /// Serves the expired timers of both.
    pub fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        self.engine.handle_timeout(now, io);
        if self.engine.is_paused() {
            return;
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.handle_timeout(now);
        }
    }

    /// Passes the events of flows to the node's owner: flows of programs that began, and user-space flows.
    pub fn report_flows(&mut self) {
        if self.engine.has_begun_flows() {
            self.sink.flows_began(self.engine.take_begun_flows());
        }
        let Some(endpoint) = &mut self.endpoint else {
            return;
        };
        let mut events = Vec::new();
        while let Some(event) = endpoint.poll_event() {
            let routed = routed(&self.engine, &event);
            events.push(event);
            events.extend(routed);
        }
        if !events.is_empty() {
            self.sink.flows(events);
        }
    }
}

/// The explicit route that a flow takes which began, if its nodes have any.
fn routed(engine: &Engine, event: &FlowEvent) -> Option<FlowEvent> {
    let FlowEvent::Began { key, at, asked, .. } = event else {
        return None;
    };
    let flow = FiveTuple {
        src: key.src.into(),
        dst: key.dst.into(),
        protocol: TCP,
        src_port: key.src_port,
        dst_port: key.dst_port,
    };
    let route = engine.route_of(&flow, *asked)?.route;
    let (key, at) = (*key, *at);
    Some(FlowEvent::Routed { key, at, route })
}
