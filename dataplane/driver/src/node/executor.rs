//! Carry out the controller's orders for a node as commands to its shard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use nm_engine::{
    AddressPlan, Command, CommandError, CommandOutput, FlowMetrics, FlowStats, LinkStats, NodeId,
    NodeMetrics, NodeStats, PairRoute, Pin, ProbeOrder, RoutedFlows, Traffic,
};
use nm_messages::{
    AddNode, AppFlowStart, FlowSample, LinkMeasurement, LinkMeasurements, LinkSample, Metrics,
    NodeSample,
};

use super::agent_request;
use super::events::NodeEvent;
use super::flow_key::{flow_key, flow_name};
use super::metrics::{Clocks, Reporter};
use super::state::{KnownGroup, NodeState};
use super::wait::lock;
use crate::control::{link_spec, Done, Effect, Executor, LinkReport};
use crate::runtime::{LinkKind, LinkSecret, LinkSetup, NodePort, PortError};

/// Flows in one sample.
const FLOWS_PER_SAMPLE: usize = 8;

/// Carries out the controller's orders for one node.
pub(super) struct NodeExecutor {
    pub port: NodePort,
    /// The number of this process.
    pub process: u64,
    pub state: Arc<NodeState>,
    /// Whether neighbours may be dialled at their unix sockets.
    pub by_socket: bool,
    pub addresses: Arc<Mutex<AddressPlan>>,
    pub reporter: Mutex<Reporter>,
}

impl Executor for NodeExecutor {
    fn report_links_to(&self, report: LinkReport) {
        self.state.report_links_to(report);
    }

    fn carry_out(&self, effect: Effect, done: Done) {
        match effect {
            Effect::Configure(addresses) => self.configure(addresses, done),
            Effect::Resolve { name, .. } => {
                done(Err(format!("{name:?} is not for the packet path")))
            }
            Effect::Connect(add, address) => self.connect(*add, address, done),
            Effect::SetLink(remote, spec) => {
                let spec = *spec;
                self.command(Command::SetLink { remote, spec }, done);
            }
            Effect::RemoveLink(remote) => self.remove(remote, done),
            Effect::Routes {
                table,
                routes,
                removed,
                pins,
                unpinned,
            } => {
                self.set_pins(pins, unpinned);
                self.install_routes(table, routes, removed, done);
            }
            Effect::Groups { groups, removed } => self.groups(groups, removed, done),
            Effect::GroupRoutes {
                group_id,
                source,
                routes,
            } => {
                let install = Command::InstallGroupRoutes {
                    group_id,
                    source,
                    routes,
                };
                self.command(install, done);
            }
            Effect::Membership { group_id, joined } => self.set_membership(group_id, joined, done),
            Effect::NodeGone { node, reason } => {
                self.command(Command::NodeGone { node, reason }, done);
            }
            Effect::Note(event) => {
                self.state.note(event);
                done(Ok(()));
            }
            Effect::AgentRequested => {
                agent_request::record();
                done(Ok(()));
            }
            Effect::ProbeLink(remote, order) => self.probe(remote, order, done),
            Effect::AddFlows(flows) => self.port.add_flows_then(flows, answer_to(done)),
            Effect::StopFlows(ids) => self.port.stop_flows_then(ids, answer_to(done)),
            Effect::TopologyReady => {
                self.port.start_flows();
                self.topology_ready();
                done(Ok(()));
            }
        }
    }

    fn measure(&self, done: Box<dyn FnOnce(Option<NodeStats>) + Send>) {
        self.port.stats_then(done);
    }

    fn collect(&self, done: Box<dyn FnOnce(Option<NodeMetrics>) + Send>) {
        self.port.collect_then(done);
    }

    fn report(&self, found: NodeMetrics) -> Option<Metrics> {
        let cpu_ms = nm_kernel::thread::process_cpu_time_ns() / 1_000_000;
        lock(&self.reporter).report(found, cpu_ms, clocks())
    }

    fn keep_flows(&self, flows: Vec<FlowMetrics>) {
        lock(&self.reporter).keep(flows);
    }

    fn flows_began(&self, flows: &[FlowMetrics]) -> Option<AppFlowStart> {
        lock(&self.reporter).begun(flows, clocks())
    }

    fn measurements(&self, stats: &NodeStats) -> LinkMeasurements {
        let used =
            |link: &&LinkStats| link.measured.offered + link.tx.packets + link.tx.drops.total() > 0;
        LinkMeasurements {
            time_ms: unix_millis(),
            process: self.process,
            cpu_ms: nm_kernel::thread::process_cpu_time_ns() / 1_000_000,
            shard: u32::try_from(self.port.shard()).unwrap_or(u32::MAX),
            overload_drops: self.port.overload_drops(),
            links: stats.links.iter().filter(used).map(measurement).collect(),
        }
    }

    fn sample(&self, stats: &NodeStats) -> NodeSample {
        let used =
            |link: &&LinkStats| link.tx.packets + link.tx.drops.total() + link.queued_packets > 0;
        NodeSample {
            time_ms: unix_millis(),
            process: self.process,
            cpu_ms: nm_kernel::thread::process_cpu_time_ns() / 1_000_000,
            shard: u32::try_from(self.port.shard()).unwrap_or(u32::MAX),
            overload_drops: self.port.overload_drops(),
            packets_out: stats.tun_rx.packets,
            bytes_out: stats.tun_rx.bytes,
            packets_in: stats.tun_tx.packets + stats.delivered.packets,
            bytes_in: stats.tun_tx.bytes + stats.delivered.bytes,
            drops: drops(&[&stats.tun_rx, &stats.tun_tx, &stats.delivered]),
            links: stats.links.iter().filter(used).map(link_sample).collect(),
            flows: largest_flows(stats),
        }
    }

    fn routed_flows(&self, limit: usize, done: Box<dyn FnOnce(Option<RoutedFlows>) + Send>) {
        self.port
            .command_then(Command::RoutedFlows { limit }, |answer| {
                done(match answer {
                    Ok(CommandOutput::RoutedFlows(flows)) => Some(flows),
                    _ => None,
                });
            });
    }

    fn connected(&self, up: bool, reason: &str) {
        if up {
            // It may be another controller, which knows nothing.
            lock(&self.reporter).begin_again();
        }
        self.state.change(|facts| {
            if std::mem::replace(&mut facts.connected, up) != up {
                let reason = reason.to_owned();
                facts.events.push(NodeEvent::Controller {
                    connected: up,
                    reason,
                });
            }
        });
    }
}

impl NodeExecutor {
    fn configure(&self, mut addresses: AddressPlan, done: Done) {
        {
            // The node's own file has the IPv6 network: the device is configured with it before the controller answers.
            let mut known = lock(&self.addresses);
            addresses.base_addr6 = known.base_addr6;
            known.clone_from(&addresses);
        }
        self.command(Command::Configure { addresses }, done);
    }

    fn command(&self, command: Command, done: Done) {
        self.port.command_then(command, |answer| {
            done(answer.map(|_| ()).map_err(error_text))
        });
    }

    fn install_routes(
        &self,
        table: Option<Vec<NodeId>>,
        routes: Vec<PairRoute>,
        removed: Vec<(NodeId, NodeId)>,
        done: Done,
    ) {
        let install = Command::InstallRoutes {
            table,
            routes,
            removed,
        };
        self.command(install, done);
    }

    /// Pins cannot be refused.
    fn set_pins(&self, pins: Vec<Pin>, removed: Vec<u64>) {
        if !pins.is_empty() || !removed.is_empty() {
            self.port.command_nowait(Command::SetPins { pins, removed });
        }
    }

    fn probe(&self, remote: NodeId, order: ProbeOrder, done: Done) {
        self.command(Command::ProbeLink { remote, order }, done);
    }

    fn connect(&self, add: AddNode, address: Option<SocketAddr>, done: Done) {
        let kind = match address {
            _ if add.same_process => LinkKind::Memory,
            Some(address) => LinkKind::Dial(address),
            None => LinkKind::Accept,
        };
        let setup = LinkSetup {
            remote: add.remote_node_id,
            kind,
            socket: (self.by_socket && !add.remote_socket.is_empty())
                .then(|| PathBuf::from(&add.remote_socket)),
            spec: link_spec(&add),
            secret: LinkSecret::from_bytes(&add.secret.0),
            remote_name: add.remote_name,
        };
        self.port
            .connect_link_then(setup, |answer| done(answer.map_err(error_text)));
    }

    fn set_membership(&self, group_id: u32, joined: bool, done: Done) {
        let command = match joined {
            true => Command::JoinGroup { group_id },
            false => Command::LeaveGroup { group_id },
        };
        self.command(command, done);
    }

    fn topology_ready(&self) {
        self.state.change(|facts| {
            if !std::mem::replace(&mut facts.topology_ready, true) {
                facts.events.push(NodeEvent::TopologyReady);
            }
        });
    }

    /// Removing a link that does not exist succeeds.
    fn remove(&self, remote: NodeId, done: Done) {
        let state = Arc::clone(&self.state);
        self.port.remove_link_then(remote, move |answer| {
            let removed = match answer {
                Ok(()) | Err(PortError::Command(CommandError::UnknownLink(_))) => Ok(()),
                Err(error) => Err(error_text(error)),
            };
            if removed.is_ok() {
                state.change(|facts| facts.links.remove(&remote));
            }
            done(removed);
        });
    }

    /// The directory changes as soon as the order arrives, because the reply to a request may be the next message on
    /// the connection, and its caller uses the group at once.
    fn groups(&self, groups: Vec<nm_engine::GroupInfo>, removed: Vec<u32>, done: Done) {
        self.state.change(|facts| {
            for group in &groups {
                let known = KnownGroup {
                    group_id: group.group_id,
                    group_ip: group.group_ip,
                    src_node_id: group.source,
                    label: group.label.clone(),
                };
                facts.groups.insert(group.group_id, known);
            }
        });
        self.command(Command::InstallGroups { groups, removed }, done);
    }
}

fn error_text(error: PortError) -> String {
    error.to_string()
}

fn measurement(link: &LinkStats) -> LinkMeasurement {
    let measured = &link.measured;
    LinkMeasurement {
        remote_node_id: link.remote,
        packets: link.tx.packets,
        drops: drops(&[&link.tx]),
        offered: measured.offered,
        changes: measured.changes,
        draws: measured.draws,
        busy_ns: measured.busy_ns,
        busy_bytes: measured.busy_bytes,
        delay: measured.delay.buckets().collect(),
        delay_sum_us: measured.delay_sum_us,
        delay_squares_us: measured.delay_squares_us,
        late: measured.late.buckets().collect(),
        late_sum_us: measured.late_sum_us,
    }
}

/// Dropped packets by cause; causes without any are left out.
fn drops(of: &[&Traffic]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for (cause, count) in of
        .iter()
        .flat_map(|each| each.drops.iter())
        .filter(|(_, count)| *count > 0)
    {
        *found.entry(cause.as_str().to_owned()).or_default() += count;
    }
    found
}

fn link_sample(link: &LinkStats) -> LinkSample {
    LinkSample {
        remote_node_id: link.remote,
        packets: link.tx.packets,
        bytes: link.tx.bytes,
        queued_packets: link.queued_packets,
        queued_bytes: link.queued_bytes,
        delay_sum_us: link.measured.delay_sum_us,
        drops: drops(&[&link.tx]),
    }
}

fn largest_flows(stats: &NodeStats) -> Vec<FlowSample> {
    let mut flows: Vec<&FlowStats> = stats.flows.iter().collect();
    flows.sort_by_key(|flow| (std::cmp::Reverse(flow.bytes), flow_id(flow)));
    flows.truncate(FLOWS_PER_SAMPLE);
    let sample = |flow: &FlowStats| FlowSample {
        flow: flow_name_of(flow),
        packets: flow.packets,
        bytes: flow.bytes,
    };
    flows.into_iter().map(sample).collect()
}

fn flow_name_of(flow: &FlowStats) -> String {
    flow_name(
        (flow.src, flow.src_port),
        (flow.dst, flow.dst_port),
        flow.protocol,
    )
}

fn flow_id(flow: &FlowStats) -> [u8; 16] {
    flow_key(
        flow.src,
        flow.dst,
        flow.src_port,
        flow.dst_port,
        flow.protocol,
    )
}

/// What a shard calls with its answer, so that `done` gets a text.
fn answer_to(done: Done) -> impl FnOnce(Result<(), PortError>) + Send {
    |answer| done(answer.map_err(error_text))
}

fn clocks() -> Clocks {
    Clocks {
        monotonic_ns: nm_kernel::thread::monotonic_ns(),
        unix_us: unix_micros(),
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn unix_millis() -> u64 {
    unix_micros() / 1_000
}
