//! The state of a node that callers query and wait for.
//!
//! Packet threads and the control thread write here without blocking; callers read, and wait on one signal. Waits
//! examine state, not events, so that the result does not depend on when or how often a caller asks. The events are
//! kept beside the state, in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use nm_engine::{Delivery, Event, FlowMetrics, NodeId, ReceivedBytes, ReceiverId, SessionReport};
use nm_flows::FlowEvent;
use nm_messages::{MaxFlows, Value};

use super::events::{EventBuffer, NodeEvent};
use super::flows;
use super::probes;
use super::receiver::{Message, Queue};
use super::records::Records;
use super::wait::{lock, Signal};
use crate::control::LinkReport;
use crate::max::{Changed, NodeLinks};
use crate::runtime::{Carrier, NodeSink};

/// A group in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGroup {
    /// The group.
    pub group_id: u32,
    /// Its address.
    pub group_ip: Ipv4Addr,
    /// The node that sends to it.
    pub src_node_id: NodeId,
    /// The name its creator gave it.
    pub label: String,
}

/// A link as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLink {
    /// Whether it carries packets.
    pub up: bool,
    /// The reason for its state.
    pub reason: String,
}

/// The facts, under one lock.
#[derive(Debug, Default)]
pub struct Facts {
    /// Whether the controller has reported that every node is ready.
    pub topology_ready: bool,
    /// The group directory.
    pub groups: BTreeMap<u32, KnownGroup>,
    /// The group that this node's program created last.
    pub created_last: Option<u32>,
    /// Number of trees that pass through this node, by group, with their root.
    pub trees: HashMap<u32, (NodeId, u32)>,
    /// Groups that this node is a member of.
    pub memberships: HashSet<u32>,
    /// Links by neighbour.
    pub links: BTreeMap<NodeId, KnownLink>,
    /// What holds flows in max mode: whether the node is paused, and which links carry packets.
    pub carrying: NodeLinks,
    /// Lossless transfers, running and ended.
    pub sessions: Records,
    /// Whether there is a connection to the controller.
    pub connected: bool,
    /// Events, in order of occurrence.
    pub events: EventBuffer,
}

/// A node's facts, its receivers' queues, and the signal that is notified when a fact changes.
pub struct NodeState {
    node_id: NodeId,
    facts: Mutex<Facts>,
    queues: Mutex<HashMap<ReceiverId, Arc<Queue>>>,
    links: Mutex<Option<LinkReport>>,
    /// Told about changes of [`Facts::carrying`].
    max_mode: Mutex<Option<Changed>>,
    /// Notified when a fact changes.
    pub signal: Signal,
}

impl NodeState {
    /// Without any facts.
    pub fn new(node_id: NodeId) -> Self {
        NodeState {
            node_id,
            facts: Mutex::default(),
            queues: Mutex::default(),
            links: Mutex::default(),
            max_mode: Mutex::default(),
            signal: Signal::default(),
        }
    }

    /// The node's number.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Reads the facts.
    pub fn look<T>(&self, look: impl FnOnce(&Facts) -> T) -> T {
        look(&lock(&self.facts))
    }

    /// Changes facts and notifies waiting threads.
    pub fn change<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        let result = change(&mut lock(&self.facts));
        self.signal.notify();
        result
    }

    /// Changes facts that no thread waits for.
    pub fn change_quietly<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut lock(&self.facts))
    }

    /// Appends an event.
    pub fn note(&self, event: NodeEvent) {
        self.change(|facts| facts.events.push(event));
    }

    /// Takes the oldest event. No thread waits for that, so the signal is not notified.
    pub fn next_event(&self) -> Option<NodeEvent> {
        self.change_quietly(|facts| facts.events.pop())
    }

    /// From now on link changes are sent to the controller too.
    pub fn report_links_to(&self, report: LinkReport) {
        *lock(&self.links) = Some(report);
    }

    /// Sends reports of flows in max mode to the controller, as [`LinkReport::report_flows`] does.
    pub fn report_max_flows(&self, flows: MaxFlows, repeat: bool) {
        if let Some(report) = &*lock(&self.links) {
            report.report_flows(flows, repeat);
        }
    }

    /// From now on changes of [`Facts::carrying`] are told to max mode; what they were before it reads itself.
    pub fn tell_max_mode(&self, changed: Option<Changed>) {
        *lock(&self.max_mode) = changed;
    }

    /// Changes what holds flows in max mode.
    fn holds(&self, change: impl FnOnce(&mut NodeLinks)) {
        self.change_quietly(|facts| change(&mut facts.carrying));
        if let Some(changed) = &*lock(&self.max_mode) {
            changed.notify();
        }
    }

    /// Adds a receiver's queue. Messages that arrived earlier are lost, as with a socket bound late.
    pub fn add_queue(&self, receiver: ReceiverId, queue: Arc<Queue>) {
        lock(&self.queues).insert(receiver, queue);
    }

    /// Removes and closes a receiver's queue.
    pub fn remove_queue(&self, receiver: ReceiverId) {
        if let Some(queue) = lock(&self.queues).remove(&receiver) {
            queue.close();
        }
    }

    /// Closes every queue and wakes every waiting thread: the node is closing.
    pub fn end(&self) {
        *lock(&self.links) = None;
        let queues = std::mem::take(&mut *lock(&self.queues));
        queues.values().for_each(|queue| queue.close());
        self.signal.notify();
    }
}

impl NodeSink for NodeState {
    fn event(&self, event: Event) {
        if let Event::ProbeFinished { report } = event {
            if let Some(to) = &*lock(&self.links) {
                to.report_probe(probes::result(&report));
            }
            return;
        }
        match event {
            Event::NodePaused { paused } => self.holds(|carrying| carrying.paused = paused),
            Event::LinkCarries { remote, carries } => self.holds(|carrying| {
                carrying.links.insert(remote, carries);
            }),
            other => self.change(|facts| facts.apply(other)),
        }
    }

    fn deliver(&self, delivery: Delivery) -> bool {
        let queue = lock(&self.queues).get(&delivery.receiver).cloned();
        queue.is_some_and(|queue| queue.push(Message::from(delivery)))
    }

    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        let up = carrier.is_some();
        if let Some(report) = &*lock(&self.links) {
            report.send(remote, carrier, reason);
        }
        self.change(|facts| {
            facts.links.insert(
                remote,
                KnownLink {
                    up,
                    reason: reason.to_owned(),
                },
            );
            facts.events.push(NodeEvent::LinkState {
                remote_node_id: remote,
                up,
                reason: reason.to_owned(),
                kind: carrier.map_or("", Carrier::as_str),
            });
        });
    }

    fn incoming_refused(&self, from: NodeId, times: u64) {
        self.report("link.refused", || {
            vec![
                (Value::from("remote"), Value::from(from)),
                (Value::from("times"), Value::from(times)),
            ]
        });
    }

    fn flows(&self, events: Vec<FlowEvent>) {
        if let Some(report) = &*lock(&self.links) {
            flows::report(report, events);
        }
    }

    fn flows_began(&self, flows: Vec<FlowMetrics>) {
        if let Some(report) = &*lock(&self.links) {
            report.flows_began(flows);
        }
    }

    fn engine_restarted(&self, reason: &str) {
        // The receivers' filters are lost with the engine, and the new engine may assign their numbers again.
        let queues = std::mem::take(&mut *lock(&self.queues));
        queues.values().for_each(|queue| queue.close());
        self.change(|facts| {
            facts.trees.clear();
            facts.links.clear();
            // They carry nothing until the new engine says so.
            facts
                .carrying
                .links
                .values_mut()
                .for_each(|carries| *carries = false);
            let reason = reason.to_owned();
            facts.events.push(NodeEvent::EngineRestarted { reason });
        });
        self.report("node.engine_restarted", || {
            vec![(Value::from("reason"), Value::from(reason))]
        });
        if let Some(report) = &*lock(&self.links) {
            report.restarted();
        }
    }

    fn device_lost(&self, reason: &str) {
        self.report("device.lost", || {
            vec![(Value::from("reason"), Value::from(reason))]
        });
    }

    fn shard_stalled(&self, shard: usize, for_ms: u64, nodes: &[NodeId]) {
        self.report_shard("shard.stalled", shard, Some(for_ms), nodes);
    }

    fn shard_resumed(&self, shard: usize, nodes: &[NodeId]) {
        self.report_shard("shard.moves", shard, None, nodes);
    }
}

impl NodeState {
    /// Sends the controller an event for the lab's event log.
    fn report(&self, name: &str, detail: impl FnOnce() -> Vec<(Value, Value)>) {
        if let Some(report) = &*lock(&self.links) {
            report.report_event(name, Value::Map(detail()));
        }
    }

    fn report_shard(&self, name: &str, shard: usize, for_ms: Option<u64>, nodes: &[NodeId]) {
        let mut facts = vec![
            (Value::from("shard"), Value::from(shard)),
            (Value::from("nodes"), nodes.iter().copied().collect()),
        ];
        facts.extend(for_ms.map(|ms| (Value::from("for_ms"), Value::from(ms))));
        self.report(name, || facts);
    }
}

impl Facts {
    /// Updates the facts after an event of the engine.
    fn apply(&mut self, event: Event) {
        match event {
            Event::LocalMemberJoined { group_id } => {
                let changed = self.memberships.insert(group_id);
                self.events
                    .extend(changed.then_some(NodeEvent::LocalMemberJoined { group_id }));
            }
            Event::LocalMemberLeft { group_id } => {
                let changed = self.memberships.remove(&group_id);
                self.events
                    .extend(changed.then_some(NodeEvent::LocalMemberLeft { group_id }));
            }
            Event::GroupInstalled {
                group_id,
                group_ip,
                source,
                label,
            } => {
                let group = KnownGroup {
                    group_id,
                    group_ip,
                    src_node_id: source,
                    label,
                };
                self.groups.insert(group_id, group);
            }
            Event::GroupRemoved { group_id } => {
                self.groups.remove(&group_id);
                self.trees.remove(&group_id);
                self.events.push(NodeEvent::GroupRemoved { group_id });
            }
            Event::GroupRoutesInstalled {
                group_id,
                source,
                routes,
            } => {
                self.trees.insert(group_id, (source, routes));
                let event = NodeEvent::GroupRoutesInstalled {
                    group_id,
                    src_node_id: source,
                    routes,
                };
                self.events.push(event);
            }
            Event::SessionOpened { session } => self.sessions.opened(session),
            Event::SessionFinished { report, data } => self.session_finished(*report, data),
            Event::SessionPeer {
                session,
                node,
                state,
            } => {
                let event = NodeEvent::SessionPeer {
                    session_id: session,
                    node_id: node,
                    state: state.as_str(),
                };
                self.events.push(event);
            }
            _ => {}
        }
    }

    fn session_finished(&mut self, report: SessionReport, data: Option<ReceivedBytes>) {
        let event = NodeEvent::SessionFinished {
            session_id: report.session,
            state: report.state.as_str(),
        };
        self.sessions.ended(report, data.map(|data| data.0));
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leave_causes_no_second_event() {
        let state = NodeState::new(1);
        state.event(Event::LocalMemberJoined { group_id: 4 });
        state.event(Event::LocalMemberLeft { group_id: 4 });
        state.event(Event::LocalMemberLeft { group_id: 4 });
        let events: Vec<_> = std::iter::from_fn(|| state.next_event()).collect();
        assert_eq!(
            events,
            [
                NodeEvent::LocalMemberJoined { group_id: 4 },
                NodeEvent::LocalMemberLeft { group_id: 4 }
            ]
        );
    }

    #[test]
    fn the_number_of_installed_routes_is_kept() {
        let state = NodeState::new(1);
        state.event(Event::GroupRoutesInstalled {
            group_id: 4,
            source: 1,
            routes: 2,
        });
        assert_eq!(
            state.look(|facts| facts.trees.get(&4).copied()),
            Some((1, 2))
        );
    }
}
