//! The state that the controller requested of one node, and how far it is in force.
//!
//! Messages go in, effects come out; there is no socket, clock or packet path here. An effect takes time and may
//! fail, so a member stores for each object the version that is in force, not the one requested last. After an
//! interruption it reports these, and the controller sends only the differences.
//!
//! ```text
//! order ─▶ Step { ticket, effect } ─▶ executor ─▶ end(ticket, result) ─▶ version in force
//! ```

mod ends;
mod forms;
mod orders;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nm_engine::{AddressPlan, GroupInfo, GroupRoute, LinkSpec, NodeId, PairRoute, Pin, ProbeOrder};
use nm_flows::FlowSpec;
use nm_messages as wire;

use self::forms::{address, flow_spec, group_info, pair_route, pin, trace};
pub use self::forms::{impairments, is_unavailable, link_spec, link_state};
use self::progress::Progress;
use super::resolve::is_host_and_port;
use crate::config::Secret;
use crate::node::events::NodeEvent;
use crate::runtime::Carrier;

/// The identity and addresses of a node; constant for its lifetime.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node.
    pub node_id: NodeId,
    /// The token that proves its identity.
    pub token: Secret,
    /// Nodes with the same name here reach each other at their private addresses.
    pub private_network_name: String,
    /// Its address on that network; `None` takes the one that the control connection uses.
    pub private_address: Option<IpAddr>,
    /// The port of the process's link listener, 0 for none.
    pub link_port: u16,
    /// `host:port` at which other networks reach it, or empty.
    pub public_network_addr: String,
    /// The path of the process's unix socket, if it has one.
    pub link_socket: Option<PathBuf>,
    /// Whether it is an external node.
    pub external: bool,
    /// The number of the process.
    pub process: u64,
    /// The MTU of the node's interface.
    pub mtu: u16,
}

/// An action to carry out on the node.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Set the lab's addresses.
    Configure(AddressPlan),
    /// Look up the address that a link dials; [`Member::resolved`] continues with it.
    Resolve { remote: NodeId, name: String },
    /// Make or replace the link that the order describes; with the address if this end dials.
    Connect(Box<wire::AddNode>, Option<SocketAddr>),
    /// Change a link's specification.
    SetLink(NodeId, Box<LinkSpec>),
    /// Remove a link.
    RemoveLink(NodeId),
    /// Install routes.
    Routes {
        table: Option<Vec<NodeId>>,
        routes: Vec<PairRoute>,
        removed: Vec<(NodeId, NodeId)>,
        pins: Vec<Pin>,
        unpinned: Vec<u64>,
    },
    /// Change the group directory.
    Groups {
        groups: Vec<GroupInfo>,
        removed: Vec<u32>,
    },
    /// Replace a group's routes.
    GroupRoutes {
        group_id: u32,
        source: NodeId,
        routes: Vec<GroupRoute>,
    },
    /// Join or leave a group.
    Membership { group_id: u32, joined: bool },
    /// Stop waiting for a node that is no longer available.
    NodeGone { node: NodeId, reason: String },
    /// Append an event.
    Note(NodeEvent),
    /// Measure the link to a neighbour.
    ProbeLink(NodeId, ProbeOrder),
    /// Run user-space flows.
    AddFlows(Vec<FlowSpec>),
    /// Stop user-space flows.
    StopFlows(Vec<u64>),
    /// Every node is ready.
    TopologyReady,
    /// The controller asks this process to start an agent.
    AgentRequested,
}

/// An effect with a ticket number.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// Increases with every step of the member.
    pub ticket: u64,
    /// `None` when the step ends together with another step of its link.
    pub effect: Option<Effect>,
}

/// The consequences of [`Member::end`].
#[derive(Debug, Default, PartialEq)]
pub struct Ended {
    /// The steps that have ended.
    pub tickets: Vec<u64>,
    /// The neighbour whose link state must be reported to the controller: the link could not be made, or the order
    /// was repeated while the link was up.
    pub link: Option<NodeId>,
}

/// The result of a lookup.
#[derive(Debug, PartialEq)]
pub enum Resolved {
    /// The link was changed or removed meanwhile.
    Stale,
    /// The next step.
    Connect(Step),
    /// It failed, `attempts` times in a row; `changed` when the reason differs from the last one.
    Failed { attempts: u32, changed: bool },
}

/// The subject of a step.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Nothing,
    Settings,
    Made(NodeId),
    Changed(NodeId),
    Renewed(NodeId),
    Unlink(NodeId),
    Routes,
    Groups,
    Tree { group_id: u32, none: bool },
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The address to dial is being looked up, under this ticket.
    Resolving(u64),
    /// The packet path has received it under this ticket and connects it.
    Made(u64),
    /// The packet path refused it.
    Failed,
    /// It is being removed, under this ticket.
    Removing(u64),
}

#[derive(Debug)]
struct Link {
    order: wire::AddNode,
    phase: Phase,
    progress: Progress,
    /// Steps that end when the link is made.
    parked: Vec<u64>,
    /// Consecutive failed lookups.
    attempts: u32,
    state: Option<(Option<Carrier>, String)>,
}

/// The control connection's state of one node.
#[derive(Debug)]
pub struct Member {
    identity: Identity,
    configured: bool,
    links: BTreeMap<NodeId, Link>,
    routes: Progress,
    /// The explicit routes received, by pair and id.
    pairs: BTreeMap<(NodeId, NodeId), BTreeMap<u64, PairRoute>>,
    /// The pair of each explicit route.
    route_ids: BTreeMap<u64, (NodeId, NodeId)>,
    /// The numbers of the pins received.
    pins: BTreeSet<u64>,
    directory: Progress,
    groups: BTreeSet<u32>,
    trees: BTreeMap<u32, Progress>,
    announced: bool,
    tickets: u64,
    pending: BTreeMap<u64, Subject>,
}

impl Member {
    /// A node that has received no orders yet.
    pub fn new(identity: Identity) -> Self {
        Member {
            identity,
            configured: false,
            links: BTreeMap::new(),
            routes: Progress::default(),
            pairs: BTreeMap::new(),
            route_ids: BTreeMap::new(),
            pins: BTreeSet::new(),
            directory: Progress::default(),
            groups: BTreeSet::new(),
            trees: BTreeMap::new(),
            announced: false,
            tickets: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Clears the state that the controller sent, because the node itself has lost it.
    pub fn forget(&mut self) {
        *self = Member {
            configured: self.configured,
            // Steps that are still pending end with tickets that are no longer known.
            tickets: self.tickets,
            ..Member::new(self.identity.clone())
        };
    }

    /// The node's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the controller's settings are in force.
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// The registration message, with the versions in force. `local` is the local address of the control connection.
    ///
    /// Objects that are pending or failed are listed with version 0, which no object has, so that the controller
    /// sends them again.
    pub fn start_up(&mut self, local: IpAddr) -> wire::StartUp {
        self.announced = false;
        let address = self.identity.private_address.unwrap_or(local);
        let shown = |progress: &Progress| progress.in_force().unwrap_or(0);
        let link_version = |link: &Link| match link.phase {
            Phase::Made(_) => shown(&link.progress),
            Phase::Resolving(_) | Phase::Failed | Phase::Removing(_) => 0,
        };
        let have = wire::Have {
            routes: self.routes.in_force(),
            groups: self.directory.in_force(),
            links: self
                .links
                .iter()
                .map(|(remote, link)| (*remote, link_version(link)))
                .collect(),
            trees: self
                .trees
                .iter()
                .map(|(group, progress)| (*group, shown(progress)))
                .collect(),
        };
        wire::StartUp {
            private_network_name: self.identity.private_network_name.clone(),
            private_network_addr: SocketAddr::new(address, self.identity.link_port).to_string(),
            public_network_addr: self.identity.public_network_addr.clone(),
            // A path that is not UTF-8 cannot be sent; links then use TCP.
            link_socket: self
                .identity
                .link_socket
                .as_deref()
                .and_then(Path::to_str)
                .unwrap_or_default()
                .to_owned(),
            external: self.identity.external,
            process: self.identity.process,
            mtu: u32::from(self.identity.mtu),
            have,
            token: self.identity.token.0.clone(),
        }
    }

    /// The link states to send after the registration, because the controller may have lost them.
    pub fn link_states(&self) -> Vec<wire::LinkState> {
        let known = self
            .links
            .keys()
            .filter_map(|remote| self.state_of(*remote));
        known.collect()
    }

    /// The known state of one link.
    pub fn state_of(&self, remote: NodeId) -> Option<wire::LinkState> {
        let (carrier, reason) = self.links.get(&remote)?.state.as_ref()?;
        Some(link_state(remote, *carrier, reason))
    }

    /// Records a link change; true when it must be reported to the controller. A change of an end that is about to be
    /// replaced or removed does not concern the link that was requested.
    pub fn link_changed(&mut self, remote: NodeId, carrier: Option<Carrier>, reason: &str) -> bool {
        let Some(link) = self.links.get_mut(&remote) else {
            return false;
        };
        if !matches!(link.phase, Phase::Made(_)) {
            return false;
        }
        link.state = Some((carrier, reason.to_owned()));
        true
    }

    /// True once each time the node becomes ready: routes are installed, and every requested link is up.
    pub fn became_ready(&mut self) -> bool {
        let up = |link: &Link| {
            matches!(link.state, Some((Some(_), _))) || matches!(link.phase, Phase::Removing(_))
        };
        let ready = self.routes.in_force().is_some() && self.links.values().all(up);
        let became = ready && !self.announced;
        self.announced = ready;
        became
    }

    /// Handles an order.
    ///
    /// # Errors
    ///
    /// A sentence when the order is invalid; nothing is changed then.
    pub fn handle(&mut self, order: wire::ToNode) -> Result<Vec<Step>, String> {
        match order {
            wire::ToNode::NodeSettings(settings) => self.on_settings(&settings),
            wire::ToNode::AddNode(add) => self.on_add(add),
            wire::ToNode::RemoveNode(remove) => Ok(self.on_remove(remove.remote_node_id)),
            wire::ToNode::SetLink(set) => self.on_set_link(&set),
            wire::ToNode::InstallRoutes(install) => self.on_routes(install),
            wire::ToNode::TopologyReady(_) => Ok(vec![self.plain(Effect::TopologyReady)]),
            wire::ToNode::AgentWanted(_) => Ok(vec![self.plain(Effect::AgentRequested)]),
            wire::ToNode::GroupCreated(created) => self.on_created(created),
            wire::ToNode::InstallGroupDirectory(directory) => self.on_directory(directory),
            wire::ToNode::InstallGroupRoutes(install) => Ok(self.on_group_routes(install)),
            wire::ToNode::MemberChanged(change) => Ok(self.on_member(&change)),
            wire::ToNode::NodeState(state) => Ok(self.on_node_state(state)),
            wire::ToNode::AddFlows(add) => self.on_add_flows(&add),
            wire::ToNode::StopFlows(stop) => {
                Ok(vec![self.plain(Effect::StopFlows(stop.controller_ids))])
            }
            wire::ToNode::ProbeLink(probe) => Ok(vec![self.probe(&probe)]),
            wire::ToNode::AddNodeAddress(_) => {
                Err("this node does not carry out such orders yet".to_owned())
            }
            // The connection itself handles these.
            wire::ToNode::MeasureLinks(_)
            | wire::ToNode::SampleNodes(_)
            | wire::ToNode::ListFlowRoutes(_)
            | wire::ToNode::Welcome(_)
            | wire::ToNode::Ack(_)
            | wire::ToNode::Error(_)
            | wire::ToNode::Goodbye(_) => Ok(Vec::new()),
        }
    }

    fn ticket(&mut self, subject: Subject) -> u64 {
        self.tickets += 1;
        self.pending.insert(self.tickets, subject);
        self.tickets
    }

    /// A step that has no version.
    fn plain(&mut self, effect: Effect) -> Step {
        Step {
            ticket: self.ticket(Subject::Nothing),
            effect: Some(effect),
        }
    }

    /// The step that hands a link to the packet path.
    fn make(&mut self, remote: NodeId, address: Option<SocketAddr>) -> Step {
        let ticket = self.ticket(Subject::Made(remote));
        let mut effect = None;
        if let Some(link) = self.links.get_mut(&remote) {
            link.phase = Phase::Made(ticket);
            link.state = None;
            link.progress.begin(ticket, link.order.version, true);
            effect = Some(Effect::Connect(Box::new(link.order.clone()), address));
        }
        Step { ticket, effect }
    }
}

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
