//! The simulated lab: engines, wires, the virtual clock, and the outputs of the nodes.

mod build;
mod flows;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nm_engine::{Delivery, Engine, Event, Instant, Io, LinkId, NodeId, Packet, SessionId};
use nm_flows::{Endpoint, FlowEvent};

use crate::{Random, Wire};

/// Virtual time in nanoseconds after which a run is considered to hang.
const RUN_LIMIT_NS: u64 = 600_000_000_000;

/// The outputs of a node until a test reads them.
#[derive(Debug, Default)]
pub struct NodeOutput {
    /// Packets for the application, with the header as it would be written to TUN.
    pub tun: Vec<Vec<u8>>,
    /// Messages for receivers.
    pub deliveries: Vec<Delivery>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Events of user-space flows, in order.
    pub flows: Vec<FlowEvent>,
    /// Received bytes of sessions, from their events.
    pub data: BTreeMap<SessionId, Arc<Vec<u8>>>,
}

#[derive(Debug)]
struct Node {
    engine: Engine,
    /// The user-space endpoint, where the node has user-space addresses.
    endpoint: Option<Endpoint>,
    output: NodeOutput,
    /// The neighbour of each link, and the neighbour's id of the same link.
    neighbours: BTreeMap<LinkId, (NodeId, LinkId)>,
}

/// A network of engines in virtual time.
#[derive(Debug)]
pub struct Lab {
    now: Instant,
    io: Io,
    nodes: BTreeMap<NodeId, Node>,
    edges: BTreeSet<(NodeId, NodeId)>,
    wires: BTreeMap<(NodeId, NodeId), Wire>,
    /// Packets in flight, by arrival time and order of departure.
    in_flight: BTreeMap<(Instant, u64), (NodeId, LinkId, Packet)>,
    departures: u64,
    random: Random,
    /// The next deadline of each node that has one, and the same by time.
    deadline_of: BTreeMap<NodeId, Instant>,
    deadlines: BTreeSet<(Instant, NodeId)>,
    /// Nodes that were called since they last had nothing to send.
    active: BTreeSet<NodeId>,
    /// Nodes with unread events of flows.
    with_flow_events: BTreeSet<NodeId>,
}

impl Lab {
    /// Advances time until a session of a node has ended. False when it has not within ten virtual minutes.
    pub fn run_until_finished(&mut self, node: NodeId, session: SessionId) -> bool {
        self.run_until(|lab| {
            lab.has_event(
                node,
                |event| matches!(event, Event::SessionFinished { report, .. } if report.session == session),
            )
        })
    }

    /// Whether the unread outputs of a node contain an event.
    pub fn has_event(&self, node: NodeId, wanted: impl Fn(&Event) -> bool) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.output.events.iter().any(wanted))
    }

    /// Advances time until a condition holds. False when it does not within ten virtual minutes.
    pub fn run_until(&mut self, condition: impl Fn(&Self) -> bool) -> bool {
        let limit = self.now.plus_nanos(RUN_LIMIT_NS);
        loop {
            self.process_due();
            if condition(self) {
                return true;
            }
            match self.next_instant() {
                Some(next) if next <= limit => self.now = next.max(self.now),
                _ => return false,
            }
        }
    }

    /// Advances virtual time by `nanos` nanoseconds.
    pub fn run_for(&mut self, nanos: u64) {
        let end = self.now.plus_nanos(nanos);
        loop {
            self.process_due();
            match self.next_instant() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = end;
        self.process_due();
    }

    /// The next arrival or deadline.
    pub(crate) fn next_instant(&self) -> Option<Instant> {
        let arrivals = self.in_flight.keys().next().map(|(at, _)| *at);
        let deadlines = self.deadlines.first().map(|(at, _)| *at);
        arrivals.into_iter().chain(deadlines).min()
    }

    /// Advances the clock, never back, without processing anything.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now.max(self.now);
    }

    /// Processes all packets and deadlines that are due.
    pub(crate) fn process_due(&mut self) {
        let now = self.now;
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        for id in due.collect::<BTreeSet<_>>() {
            self.with(id, |node, io| node.handle_timeout(now, io));
        }
        loop {
            self.deliver_arrived(now);
            let mut produced = false;
            // In the order of the ids, those included that become active meanwhile.
            let mut next = self.active.first().copied();
            while let Some(id) = next {
                if self.with(id, |node, io| node.poll_transmit(now, io)).unwrap_or(false) {
                    produced = true;
                } else {
                    self.active.remove(&id);
                }
                next = self.active.range(id + 1..).next().copied();
            }
            if !produced && self.in_flight.keys().next().is_none_or(|(at, _)| *at > now) {
                return;
            }
        }
    }

    /// Delivers every packet that has arrived.
    fn deliver_arrived(&mut self, now: Instant) {
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let (id, link, packet) = entry.remove();
            self.with(id, |node, io| node.engine.handle_link(now, link, packet, io));
        }
    }

    /// Calls `action` with a node and executes the outputs.
    fn with<T>(&mut self, id: NodeId, action: impl FnOnce(&mut Node, &mut Io) -> T) -> Option<T> {
        let node = self.nodes.get_mut(&id)?;
        let result = action(node, &mut self.io);
        for event in self.io.events.drain(..) {
            if let Event::SessionFinished { report, data: Some(data) } = &event {
                node.output.data.insert(report.session, Arc::clone(&data.0));
            }
            node.output.events.push(event);
        }
        if let Some(endpoint) = &mut node.endpoint {
            for packet in self.io.endpoint.drain(..) {
                endpoint.handle_packet(self.now, packet, &mut self.io.pool);
            }
            node.output.flows.extend(std::iter::from_fn(|| endpoint.poll_event()));
            if !node.output.flows.is_empty() {
                self.with_flow_events.insert(id);
            }
        }
        node.output.deliveries.append(&mut self.io.deliveries);
        for packet in self.io.tun.drain(..) {
            let mut head = [0; nm_engine::MAX_IP_HEADER];
            let ihl = packet.patched_ip_header(&mut head);
            node.output.tun.push([&head[..ihl], &packet.bytes()[ihl..]].concat());
            self.io.pool.put(packet);
        }
        for (link, packet) in self.io.transmits.drain(..) {
            let Some(&(neighbour, far_link)) = node.neighbours.get(&link) else {
                self.io.pool.put(packet);
                continue;
            };
            let Some(wire) = self.wires.get(&(id.min(neighbour), id.max(neighbour))) else {
                continue;
            };
            for (delay, part) in wire.carry(packet, &mut self.random, &mut self.io.pool) {
                self.departures += 1;
                self.in_flight
                    .insert((self.now.plus_nanos(delay), self.departures), (neighbour, far_link, part));
            }
        }
        let deadline = node.deadline();
        self.note(id, deadline);
        self.active.insert(id);
        Some(result)
    }

    /// Notes the next deadline of a node, `None` for one that has none or is gone.
    fn note(&mut self, id: NodeId, deadline: Option<Instant>) {
        let before = match deadline {
            Some(at) => self.deadline_of.insert(id, at),
            None => self.deadline_of.remove(&id),
        };
        if before != deadline {
            self.deadlines.extend(deadline.map(|at| (at, id)));
            if let Some(at) = before {
                self.deadlines.remove(&(at, id));
            }
        }
    }
}
