//! What the control connection does to a node: orders become commands to its shard.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use nm_engine::{AddressPlan, Command, FlowStats, LinkStats, NodeStats};
use nm_messages::{AddNode, FlowCounter, LinkCounter, Metrics};

use super::call;
use super::events::NodeEvent;
use super::state::{KnownGroup, NodeState};
use super::wait::lock;
use crate::control::{link_spec, Effect, Hands};
use crate::runtime::{LinkKind, LinkSecret, LinkSetup, NodePort, PortError};

/// Flows in one report; a node with more reports its busiest.
const FLOWS_PER_REPORT: usize = 256;

/// A node in the hands of its controller.
pub(super) struct NodeHands {
    pub port: NodePort,
    pub state: Arc<NodeState>,
    /// Whether neighbours may be dialled at their unix doors.
    pub by_door: bool,
    pub addresses: Arc<Mutex<AddressPlan>>,
    pub reported: Mutex<(Vec<LinkCounter>, Vec<FlowStats>)>,
}

impl Hands for NodeHands {
    fn carry_out(&self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Configure(addresses) => {
                lock(&self.addresses).clone_from(&addresses);
                self.port.command_nowait(Command::Configure { addresses });
            }
            Effect::Connect(add) => self.connect(&add)?,
            Effect::SetLink(remote, spec) => {
                self.port
                    .set_link(remote, spec)
                    .map_err(|error: PortError| error.to_string())?;
            }
            Effect::RemoveLink(remote) => {
                self.port
                    .remove_link(remote)
                    .map_err(|error| error.to_string())?;
                self.state.change(|facts| facts.links.remove(&remote));
            }
            Effect::Routes {
                table,
                routes,
                removed,
            } => {
                self.port.command_nowait(Command::InstallRoutes {
                    table,
                    routes,
                    removed,
                });
            }
            Effect::Groups { groups, removed } => self.groups(groups, removed),
            Effect::GroupRoutes {
                group_id,
                source,
                routes,
            } => {
                self.port.command_nowait(Command::InstallGroupRoutes {
                    group_id,
                    source,
                    routes,
                });
            }
            Effect::Membership {
                group_id,
                joined: true,
            } => {
                self.port.command_nowait(Command::JoinGroup { group_id });
            }
            Effect::Membership {
                group_id,
                joined: false,
            } => {
                self.port.command_nowait(Command::LeaveGroup { group_id });
            }
            Effect::Gone { node, reason } => {
                self.port.command_nowait(Command::NodeGone { node, reason });
            }
            Effect::Note(event) => self.state.note(event),
            Effect::AgentWanted => call::made(),
            Effect::TopologyReady => self.state.change(|facts| {
                if !std::mem::replace(&mut facts.topology_ready, true) {
                    facts.stash.push(NodeEvent::TopologyReady);
                }
            }),
        }
        Ok(())
    }

    fn measure(&self) -> Option<Metrics> {
        let stats = self.port.stats().ok()?;
        let mut reported = lock(&self.reported);
        let links: Vec<LinkCounter> = stats.links.iter().map(link_counter).collect();
        let flows = moved_flows(&stats, &reported.1);
        if links == reported.0 && flows.is_empty() {
            return None;
        }
        *reported = (links.clone(), stats.flows);
        Some(Metrics {
            time_ms: unix_millis(),
            links,
            flows,
        })
    }

    fn connected(&self, up: bool, reason: &str) {
        self.state.change(|facts| {
            if std::mem::replace(&mut facts.connected, up) != up {
                let reason = reason.to_owned();
                facts.stash.push(NodeEvent::Controller {
                    connected: up,
                    reason,
                });
            }
        });
    }
}

impl NodeHands {
    fn connect(&self, add: &AddNode) -> Result<(), String> {
        let kind = if add.same_process {
            LinkKind::Memory
        } else if add.dial {
            LinkKind::Dial(resolve(&add.remote_addr)?)
        } else {
            LinkKind::Accept
        };
        let setup = LinkSetup {
            remote: add.remote_node_id,
            remote_name: add.remote_name.clone(),
            kind,
            door: (self.by_door && !add.remote_door.is_empty())
                .then(|| PathBuf::from(&add.remote_door)),
            spec: link_spec(&add.link),
            secret: LinkSecret::from_bytes(&add.secret.0),
        };
        self.port
            .connect_link(setup)
            .map_err(|error| error.to_string())
    }

    /// The directory is a fact as soon as the controller says so, because the answer to a request may be the next
    /// thing on the line, and its caller uses the group at once.
    fn groups(&self, groups: Vec<nm_engine::GroupInfo>, removed: Vec<u32>) {
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
        self.port
            .command_nowait(Command::InstallGroups { groups, removed });
    }
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{text:?} cannot be dialled: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

fn link_counter(link: &LinkStats) -> LinkCounter {
    let drops = link.tx.drops.iter().filter(|(_, count)| *count > 0);
    LinkCounter {
        remote_node_id: link.remote,
        tx_packets: link.tx.packets,
        tx_bytes: link.tx.bytes,
        rx_packets: link.rx.packets,
        rx_bytes: link.rx.bytes,
        drops: drops
            .map(|(cause, count)| (cause.as_str().to_owned(), count))
            .collect(),
    }
}

/// The busiest flows among those that moved since the last report.
fn moved_flows(stats: &NodeStats, before: &[FlowStats]) -> Vec<FlowCounter> {
    let mut moved: Vec<&FlowStats> = stats
        .flows
        .iter()
        .filter(|flow| !before.contains(flow))
        .collect();
    moved.sort_by_key(|flow| std::cmp::Reverse(flow.bytes));
    moved.truncate(FLOWS_PER_REPORT);
    let counter = |flow: &FlowStats| FlowCounter {
        flow_id: flow_id(flow).to_vec().into(),
        remote_node_id: 0,
        packets: flow.packets,
        size_bytes: flow.bytes,
    };
    moved.into_iter().map(counter).collect()
}

/// Sixteen bytes that name a flow: addresses, ports, protocol.
fn flow_id(flow: &FlowStats) -> [u8; 16] {
    let mut id = [0; 16];
    id[0..4].copy_from_slice(&flow.src.octets());
    id[4..8].copy_from_slice(&flow.dst.octets());
    id[8..10].copy_from_slice(&flow.src_port.to_be_bytes());
    id[10..12].copy_from_slice(&flow.dst_port.to_be_bytes());
    id[12] = flow.protocol;
    id
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
