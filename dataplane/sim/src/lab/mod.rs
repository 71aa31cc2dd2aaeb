//! The lab itself: engines, wires, the clock, and what came out.

mod build;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nm_engine::{Delivery, Engine, Event, Instant, Io, LinkId, NodeId, Packet, SessionId};

use crate::{Random, Wire};

/// Virtual time after which a run is taken for hung.
const RUN_LIMIT_NS: u64 = 600_000_000_000;

/// What a node has handed out, until a test takes it.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Packets for the application, with the header as it would be written to TUN.
    pub tun: Vec<Vec<u8>>,
    /// Messages for receivers.
    pub deliveries: Vec<Delivery>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// What receiving sessions brought, which their events hand over.
    pub data: BTreeMap<SessionId, Arc<Vec<u8>>>,
}

#[derive(Debug)]
struct Node {
    engine: Engine,
    inbox: Inbox,
    /// The neighbour behind each link, and its link to us.
    far: BTreeMap<LinkId, (NodeId, LinkId)>,
}

/// A network of engines in virtual time.
#[derive(Debug)]
pub struct Lab {
    now: Instant,
    io: Io,
    nodes: BTreeMap<NodeId, Node>,
    edges: BTreeSet<(NodeId, NodeId)>,
    wires: BTreeMap<(NodeId, NodeId), Wire>,
    /// Packets on the way, by arrival and order of departure.
    flying: BTreeMap<(Instant, u64), (NodeId, LinkId, Packet)>,
    departures: u64,
    random: Random,
}

impl Lab {
    /// Lets time pass until a session of a node has ended. False when it did not within ten virtual minutes.
    pub fn run_until_finished(&mut self, node: NodeId, session: SessionId) -> bool {
        self.run_until(|lab| {
            lab.has_event(
                node,
                |event| matches!(event, Event::SessionFinished { report, .. } if report.session == session),
            )
        })
    }

    /// Whether a node has (untaken) an event.
    pub fn has_event(&self, node: NodeId, wanted: impl Fn(&Event) -> bool) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.inbox.events.iter().any(wanted))
    }

    /// Lets time pass until a condition holds. False when it did not within ten virtual minutes.
    pub fn run_until(&mut self, condition: impl Fn(&Self) -> bool) -> bool {
        let limit = self.now.plus_nanos(RUN_LIMIT_NS);
        loop {
            self.settle();
            if condition(self) {
                return true;
            }
            match self.next_instant() {
                Some(next) if next <= limit => self.now = next.max(self.now),
                _ => return false,
            }
        }
    }

    /// Lets an amount of virtual time pass.
    pub fn run_for(&mut self, nanos: u64) {
        let end = self.now.plus_nanos(nanos);
        loop {
            self.settle();
            match self.next_instant() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    fn next_instant(&self) -> Option<Instant> {
        let arrivals = self.flying.keys().next().map(|(at, _)| *at);
        let deadlines = self.nodes.values().filter_map(|node| node.engine.poll_deadline());
        arrivals.into_iter().chain(deadlines).min()
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        let now = self.now;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.with(id, |node, io| {
                if node.engine.poll_deadline().is_some_and(|at| at <= now) {
                    node.engine.handle_timeout(now, io);
                }
            });
        }
        loop {
            self.land(now);
            let mut produced = false;
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                produced |= self.with(id, |node, io| node.engine.poll_transmit(now, io)).unwrap_or(false);
            }
            if !produced && self.flying.keys().next().is_none_or(|(at, _)| *at > now) {
                return;
            }
        }
    }

    /// Hands over every packet that has arrived.
    fn land(&mut self, now: Instant) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let (id, link, packet) = entry.remove();
            self.with(id, |node, io| node.engine.handle_link(now, link, packet, io));
        }
    }

    /// Does something with a node and carries out what came of it.
    fn with<T>(&mut self, id: NodeId, action: impl FnOnce(&mut Node, &mut Io) -> T) -> Option<T> {
        let node = self.nodes.get_mut(&id)?;
        let result = action(node, &mut self.io);
        for event in self.io.events.drain(..) {
            if let Event::SessionFinished { report, data: Some(data) } = &event {
                node.inbox.data.insert(report.session, Arc::clone(&data.0));
            }
            node.inbox.events.push(event);
        }
        node.inbox.deliveries.append(&mut self.io.deliveries);
        for packet in self.io.tun.drain(..) {
            let mut head = [0; nm_engine::MAX_IP_HEADER];
            let ihl = packet.patched_ip_header(&mut head);
            node.inbox.tun.push([&head[..ihl], &packet.bytes()[ihl..]].concat());
            self.io.pool.put(packet);
        }
        for (link, packet) in self.io.transmits.drain(..) {
            let Some(&(far, far_link)) = node.far.get(&link) else {
                self.io.pool.put(packet);
                continue;
            };
            let Some(wire) = self.wires.get(&(id.min(far), id.max(far))) else {
                continue;
            };
            for (delay, part) in wire.carry(packet, &mut self.random, &mut self.io.pool) {
                self.departures += 1;
                self.flying.insert((self.now.plus_nanos(delay), self.departures), (far, far_link, part));
            }
        }
        Some(result)
    }
}
