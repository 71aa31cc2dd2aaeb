//! What the controller has told one node, and what that means for it.
//!
//! Messages go in, effects come out; no socket, no clock, no packet path. An effect takes its time and may fail, so a
//! member remembers for each thing the version that is in force, not the one that was told last. After any
//! interruption it shows these, and is sent only what differs.
//!
//! ```text
//! order ─▶ Step { ticket, effect } ─▶ whoever carries it out ─▶ end(ticket, result) ─▶ version in force
//! ```

mod forms;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nm_engine::{AddressPlan, GroupInfo, GroupRoute, LinkSpec, NodeId, PairRoute};
use nm_messages as wire;

use self::forms::{address, group_info};
pub use self::forms::{is_gone, link_spec, link_state};
use self::progress::Progress;
use super::resolve::is_host_and_port;
use crate::config::Secret;
use crate::node::events::NodeEvent;
use crate::runtime::Carrier;

/// How a node introduces itself; what does not change while it lives.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The node.
    pub node_id: NodeId,
    /// What proves that.
    pub token: Secret,
    /// Nodes with the same name here reach each other at their private addresses.
    pub private_network_name: String,
    /// Its address on that network; `None` takes the one that the control connection uses.
    pub private_address: Option<IpAddr>,
    /// The port of the process's link listener, 0 for none.
    pub link_port: u16,
    /// `host:port` from outside, or nothing.
    pub public_network_addr: String,
    /// The path of the process's unix door, if it has one.
    pub link_door: Option<PathBuf>,
    /// Whether it is a program of the user's own.
    pub external: bool,
    /// The process.
    pub process: u64,
    /// Of the node's interface.
    pub mtu: u16,
}

/// Something to be done to the node.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Adopt the lab's addresses.
    Configure(AddressPlan),
    /// Find out the address that a link dials; [`Member::resolved`] goes on with it.
    Resolve { remote: NodeId, name: String },
    /// Make the link that the order describes, or make it anew; with the address where this end dials.
    Connect(Box<wire::AddNode>, Option<SocketAddr>),
    /// Change what a link does.
    SetLink(NodeId, LinkSpec),
    /// Take a link away.
    RemoveLink(NodeId),
    /// Install routes.
    Routes {
        table: Option<Vec<NodeId>>,
        routes: Vec<PairRoute>,
        removed: Vec<(NodeId, NodeId)>,
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
    /// Become a member, or stop being one.
    Membership { group_id: u32, joined: bool },
    /// Stop waiting for a node.
    Gone { node: NodeId, reason: String },
    /// Keep an event.
    Note(NodeEvent),
    /// Every node is ready.
    TopologyReady,
    /// The process should offer to run roles.
    AgentWanted,
}

/// An effect under a number of its own.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// Grows with every step of the member.
    pub ticket: u64,
    /// `None` when the step ends together with another one of its link.
    pub effect: Option<Effect>,
}

/// What [`Member::end`] brought about.
#[derive(Debug, Default, PartialEq)]
pub struct Ended {
    /// The steps that ended with it.
    pub tickets: Vec<u64>,
    /// The neighbour whose link could not be made.
    pub failed_link: Option<NodeId>,
}

/// What came of a look-up.
#[derive(Debug, PartialEq)]
pub enum Resolved {
    /// The link was changed or taken away meanwhile.
    Stale,
    /// Go on with this.
    Connect(Step),
    /// It failed, so often in a row; `news` when the reason is another than the last time.
    Failed { attempts: u32, news: bool },
}

/// What a step is about.
#[derive(Debug, Clone, Copy)]
enum About {
    Nothing,
    Settings,
    Made(NodeId),
    Changed(NodeId),
    Unlink(NodeId),
    Routes,
    Groups,
    Tree { group_id: u32, none: bool },
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The address to dial is looked up, under this ticket.
    Resolving(u64),
    /// It was handed to the packet path under this ticket; connecting is up to that.
    Made(u64),
    /// The packet path did not take it.
    Failed,
    /// It is taken away, under this ticket.
    Removing(u64),
}

#[derive(Debug)]
struct Link {
    order: wire::AddNode,
    phase: Phase,
    progress: Progress,
    /// Steps that end when the link is made.
    parked: Vec<u64>,
    /// Look-ups that failed in a row.
    attempts: u32,
    state: Option<(Option<Carrier>, String)>,
}

/// One node as the control connection knows it.
#[derive(Debug)]
pub struct Member {
    who: Introduction,
    configured: bool,
    links: BTreeMap<NodeId, Link>,
    routes: Progress,
    /// Explicit routes as they were told, by pair and id.
    pairs: BTreeMap<(NodeId, NodeId), BTreeMap<u64, Vec<NodeId>>>,
    /// The pair of each explicit route.
    route_ids: BTreeMap<u64, (NodeId, NodeId)>,
    directory: Progress,
    groups: BTreeSet<u32>,
    trees: BTreeMap<u32, Progress>,
    announced: bool,
    tickets: u64,
    under_way: BTreeMap<u64, About>,
}

impl Member {
    /// A node that has been told nothing yet.
    pub fn new(who: Introduction) -> Self {
        Member {
            who,
            configured: false,
            links: BTreeMap::new(),
            routes: Progress::default(),
            pairs: BTreeMap::new(),
            route_ids: BTreeMap::new(),
            directory: Progress::default(),
            groups: BTreeSet::new(),
            trees: BTreeMap::new(),
            announced: false,
            tickets: 0,
            under_way: BTreeMap::new(),
        }
    }

    /// Forgets all that the node was told, which the node itself has lost.
    pub fn forget(&mut self) {
        *self = Member {
            configured: self.configured,
            // Steps that are still under way end with tickets that mean nothing any more.
            tickets: self.tickets,
            ..Member::new(self.who.clone())
        };
    }

    /// How the node introduces itself.
    pub fn who(&self) -> &Introduction {
        &self.who
    }

    /// Whether the controller has said who we are.
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// The registration, with what is in force. `local` is our end of the control connection.
    ///
    /// What is under way or has failed is shown as 0, a version that nothing has: the controller then says it again.
    pub fn start_up(&mut self, local: IpAddr) -> wire::StartUp {
        self.announced = false;
        let address = self.who.private_address.unwrap_or(local);
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
            private_network_name: self.who.private_network_name.clone(),
            private_network_addr: SocketAddr::new(address, self.who.link_port).to_string(),
            public_network_addr: self.who.public_network_addr.clone(),
            // A path that is not text cannot be told; TCP is left.
            link_door: self
                .who
                .link_door
                .as_deref()
                .and_then(Path::to_str)
                .unwrap_or_default()
                .to_owned(),
            external: self.who.external,
            process: self.who.process,
            mtu: u32::from(self.who.mtu),
            have,
            token: self.who.token.0.clone(),
        }
    }

    /// What a controller that may have forgotten our links should hear after the registration.
    pub fn link_states(&self) -> Vec<wire::LinkState> {
        let known = self
            .links
            .keys()
            .filter_map(|remote| self.state_of(*remote));
        known.collect()
    }

    /// What is known of one link.
    pub fn state_of(&self, remote: NodeId) -> Option<wire::LinkState> {
        let (carrier, reason) = self.links.get(&remote)?.state.as_ref()?;
        Some(link_state(remote, *carrier, reason))
    }

    /// Notes that a link changed; true when the controller should hear of it. What befalls an end that is about to be
    /// replaced or taken away says nothing about the link that was told.
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

    /// True once each time the node becomes ready: routes are in, and every link that it was told of is up.
    pub fn became_ready(&mut self) -> bool {
        let up = |link: &Link| {
            matches!(link.state, Some((Some(_), _))) || matches!(link.phase, Phase::Removing(_))
        };
        let ready = self.routes.in_force().is_some() && self.links.values().all(up);
        let became = ready && !self.announced;
        self.announced = ready;
        became
    }

    /// Takes in an order.
    ///
    /// # Errors
    ///
    /// A sentence when the order makes no sense; nothing is changed then.
    pub fn handle(&mut self, order: wire::ToNode) -> Result<Vec<Step>, String> {
        match order {
            wire::ToNode::NodeSettings(settings) => self.on_settings(&settings),
            wire::ToNode::AddNode(add) => self.on_add(add),
            wire::ToNode::RemoveNode(remove) => Ok(self.on_remove(remove.remote_node_id)),
            wire::ToNode::SetLink(set) => self.on_set_link(&set),
            wire::ToNode::InstallRoutes(install) => self.on_routes(install),
            wire::ToNode::TopologyReady(_) => Ok(vec![self.plain(Effect::TopologyReady)]),
            wire::ToNode::AgentWanted(_) => Ok(vec![self.plain(Effect::AgentWanted)]),
            wire::ToNode::GroupCreated(created) => self.on_created(created),
            wire::ToNode::InstallGroupDirectory(directory) => self.on_directory(directory),
            wire::ToNode::InstallGroupRoutes(install) => Ok(self.on_group_routes(install)),
            wire::ToNode::MemberChanged(change) => Ok(self.on_member(&change)),
            wire::ToNode::NodeState(state) => Ok(self.on_node_state(state)),
            wire::ToNode::AddNodeAddress(_)
            | wire::ToNode::AddFlows(_)
            | wire::ToNode::ProbeLink(_) => {
                Err("this node does not carry out such orders yet".to_owned())
            }
            // The connection itself deals with these.
            wire::ToNode::Welcome(_)
            | wire::ToNode::Ack(_)
            | wire::ToNode::Error(_)
            | wire::ToNode::Goodbye(_) => Ok(Vec::new()),
        }
    }

    /// A step has ended; what it was about is in force from now on, or is not.
    pub fn end(&mut self, ticket: u64, result: &Result<(), String>) -> Ended {
        let done = result.is_ok();
        let mut ended = Ended {
            tickets: vec![ticket],
            failed_link: None,
        };
        match self.under_way.remove(&ticket) {
            Some(About::Settings) => self.configured |= done,
            Some(About::Routes) => self.routes.end(ticket, done),
            Some(About::Groups) => self.directory.end(ticket, done),
            Some(About::Tree { group_id, none }) => {
                if let Some(progress) = self.trees.get_mut(&group_id) {
                    progress.end(ticket, done);
                    if none && progress.in_force().is_some() {
                        self.trees.remove(&group_id);
                    }
                }
            }
            Some(About::Made(remote)) => self.end_make(remote, ticket, result, &mut ended),
            // A change that is refused leaves the link as it was.
            Some(About::Changed(remote)) => {
                if let Some(link) = self.links.get_mut(&remote) {
                    link.progress.end(ticket, done);
                }
            }
            Some(About::Unlink(remote)) => {
                let gone = |link: &mut Link| done && link.phase == Phase::Removing(ticket);
                if self.links.get_mut(&remote).is_some_and(gone) {
                    let link = self.links.remove(&remote);
                    ended
                        .tickets
                        .extend(link.into_iter().flat_map(|link| link.parked));
                }
            }
            Some(About::Nothing) | None => {}
        }
        for parked in &ended.tickets {
            self.under_way.remove(parked);
        }
        ended
    }

    fn end_make(
        &mut self,
        remote: NodeId,
        ticket: u64,
        result: &Result<(), String>,
        ended: &mut Ended,
    ) {
        let Some(link) = self.links.get_mut(&remote) else {
            return;
        };
        link.progress.end(ticket, result.is_ok());
        if link.phase != Phase::Made(ticket) {
            return;
        }
        ended.tickets.append(&mut link.parked);
        if let Err(reason) = result {
            link.phase = Phase::Failed;
            link.state = Some((None, reason.clone()));
            ended.failed_link = Some(remote);
        }
    }

    /// A look-up for a link has ended.
    pub fn resolved(
        &mut self,
        remote: NodeId,
        ticket: u64,
        found: Result<SocketAddr, String>,
    ) -> Resolved {
        let Some(link) = self.links.get_mut(&remote) else {
            return Resolved::Stale;
        };
        if link.phase != Phase::Resolving(ticket) {
            return Resolved::Stale;
        }
        match found {
            Ok(address) => {
                link.attempts = 0;
                Resolved::Connect(self.make(remote, Some(address)))
            }
            Err(reason) => {
                link.attempts = link.attempts.saturating_add(1);
                let state = Some((None, reason));
                let news = link.state != state;
                link.state = state;
                let attempts = link.attempts;
                Resolved::Failed { attempts, news }
            }
        }
    }

    /// The look-up to be made again for a link, if it still waits for one under this ticket.
    pub fn resolve_again(&self, remote: NodeId, ticket: u64) -> Option<Effect> {
        let link = self.links.get(&remote)?;
        (link.phase == Phase::Resolving(ticket)).then(|| Effect::Resolve {
            remote,
            name: link.order.remote_addr.clone(),
        })
    }

    fn ticket(&mut self, about: About) -> u64 {
        self.tickets += 1;
        self.under_way.insert(self.tickets, about);
        self.tickets
    }

    /// A step that leaves no version behind.
    fn plain(&mut self, effect: Effect) -> Step {
        Step {
            ticket: self.ticket(About::Nothing),
            effect: Some(effect),
        }
    }

    /// The step that hands a link to the packet path.
    fn make(&mut self, remote: NodeId, address: Option<SocketAddr>) -> Step {
        let ticket = self.ticket(About::Made(remote));
        let mut effect = None;
        if let Some(link) = self.links.get_mut(&remote) {
            link.phase = Phase::Made(ticket);
            link.state = None;
            link.progress.begin(ticket, link.order.version, true);
            effect = Some(Effect::Connect(Box::new(link.order.clone()), address));
        }
        Step { ticket, effect }
    }

    fn on_settings(&mut self, settings: &wire::NodeSettings) -> Result<Vec<Step>, String> {
        let plan = AddressPlan {
            base_addr: address(&settings.virtual_base_addr)?,
            net_mask: address(&settings.net_mask)?,
            user_base_addr: match settings.user_space_base_addr.as_str() {
                "" => None,
                text => Some(address(text)?),
            },
            multicast_base: address(&settings.multicast_pool_base)?,
            multicast_mask: address(&settings.multicast_pool_mask)?,
        };
        Ok(vec![Step {
            ticket: self.ticket(About::Settings),
            effect: Some(Effect::Configure(plan)),
        }])
    }

    fn on_add(&mut self, add: wire::AddNode) -> Result<Vec<Step>, String> {
        let remote = add.remote_node_id;
        let dials = add.dial && !add.same_process;
        let address = add.remote_addr.parse().ok();
        if dials && address.is_none() && !is_host_and_port(&add.remote_addr) {
            return Err(format!("{:?} is no address to dial", add.remote_addr));
        }
        let same = |link: &Link| {
            let way =
                |order: &wire::AddNode| (order.same_process, order.dial, order.remote_process);
            way(&link.order) == way(&add)
                && link.order.remote_addr == add.remote_addr
                && link.order.secret == add.secret
        };
        let there = |link: &Link| matches!(link.phase, Phase::Made(_) | Phase::Resolving(_));
        if self
            .links
            .get(&remote)
            .is_some_and(|link| there(link) && same(link))
        {
            // The neighbour is who it was: what runs over the link goes on.
            return Ok(self.change(remote, add));
        }
        let parked = self.links.remove(&remote).map(|link| link.parked);
        self.links.insert(
            remote,
            Link {
                order: add,
                phase: Phase::Failed,
                progress: Progress::default(),
                parked: parked.unwrap_or_default(),
                attempts: 0,
                state: None,
            },
        );
        if dials && address.is_none() {
            return Ok(self.look_up(remote));
        }
        Ok(vec![self.make(remote, address.filter(|_| dials))])
    }

    /// The first look-up of a link's address.
    fn look_up(&mut self, remote: NodeId) -> Vec<Step> {
        let ticket = self.ticket(About::Changed(remote));
        let mut effect = None;
        if let Some(link) = self.links.get_mut(&remote) {
            link.phase = Phase::Resolving(ticket);
            link.progress.begin(ticket, link.order.version, true);
            link.parked.push(ticket);
            effect = Some(Effect::Resolve {
                remote,
                name: link.order.remote_addr.clone(),
            });
        }
        vec![Step { ticket, effect }]
    }

    /// What a link does is changed; one that is still to be made is made so.
    fn change(&mut self, remote: NodeId, order: wire::AddNode) -> Vec<Step> {
        let ticket = self.ticket(About::Changed(remote));
        let mut effect = None;
        if let Some(link) = self.links.get_mut(&remote) {
            let spec = link_spec(&order.link);
            link.progress.begin(ticket, order.version, true);
            link.order = order;
            match link.phase {
                Phase::Resolving(_) => link.parked.push(ticket),
                _ => effect = Some(Effect::SetLink(remote, spec)),
            }
        }
        vec![Step { ticket, effect }]
    }

    fn on_remove(&mut self, remote: NodeId) -> Vec<Step> {
        if !self.links.contains_key(&remote) {
            return Vec::new();
        }
        let ticket = self.ticket(About::Unlink(remote));
        if let Some(link) = self.links.get_mut(&remote) {
            link.phase = Phase::Removing(ticket);
            link.state = None;
        }
        let effect = Some(Effect::RemoveLink(remote));
        vec![Step { ticket, effect }]
    }

    fn on_set_link(&mut self, set: &wire::SetLink) -> Result<Vec<Step>, String> {
        let remote = set.remote_node_id;
        let link = self.links.get(&remote);
        let Some(link) = link.filter(|link| !matches!(link.phase, Phase::Removing(_))) else {
            return Err(format!("there is no link to node {remote} here"));
        };
        let mut order = link.order.clone();
        order.link = set.link;
        order.version = set.version;
        Ok(self.change(remote, order))
    }

    fn on_routes(&mut self, install: wire::InstallRoutes) -> Result<Vec<Step>, String> {
        let whole = install.reset && install.table.is_some();
        if let Err(reason) = self.check_routes(&install, whole) {
            // The next change builds on this one.
            self.routes.refuse();
            return Err(reason);
        }
        let table = install.next_hops().map(|hops| hops.collect());
        let mut changed: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
        if install.reset {
            changed.extend(std::mem::take(&mut self.pairs).into_keys());
            self.route_ids.clear();
        }
        for route_id in &install.removed {
            changed.extend(self.forget_route(*route_id));
        }
        for route in install.routes {
            changed.extend(self.forget_route(route.route_id));
            let pair = (route.src_node_id, route.dst_node_id);
            changed.insert(pair);
            self.route_ids.insert(route.route_id, pair);
            let of_pair = self.pairs.entry(pair).or_default();
            of_pair.insert(route.route_id, route.next_hops);
        }
        let ticket = self.ticket(About::Routes);
        self.routes.begin(ticket, install.version, whole);
        let routes = changed
            .iter()
            .flat_map(|pair| self.pair_routes(*pair))
            .collect();
        let effect = Some(Effect::Routes {
            table,
            routes,
            removed: changed.into_iter().collect(),
        });
        Ok(vec![Step { ticket, effect }])
    }

    fn check_routes(&self, install: &wire::InstallRoutes, whole: bool) -> Result<(), String> {
        let table = install.table.as_ref();
        if table.is_some_and(|table| table.len() % 4 != 0) {
            return Err("the route table is not a list of 32-bit numbers".to_owned());
        }
        if !whole && !self.routes.is_sound() {
            return Err(
                "an earlier change of the routes failed, so they have to be told whole".to_owned(),
            );
        }
        Ok(())
    }

    fn forget_route(&mut self, route_id: u64) -> Option<(NodeId, NodeId)> {
        let pair = self.route_ids.remove(&route_id)?;
        let of_pair = self.pairs.get_mut(&pair)?;
        of_pair.remove(&route_id);
        if of_pair.is_empty() {
            self.pairs.remove(&pair);
        }
        Some(pair)
    }

    /// The routes of a pair in the order of their ids, which is the same at every node.
    fn pair_routes(&self, (src, dst): (NodeId, NodeId)) -> Vec<PairRoute> {
        let Some(routes) = self.pairs.get(&(src, dst)) else {
            return Vec::new();
        };
        let of = u32::try_from(routes.len()).unwrap_or(u32::MAX);
        let numbered = (0u32..).zip(routes.values());
        numbered
            .map(|(index, next_hops)| PairRoute {
                src,
                dst,
                index,
                of,
                next_hops: next_hops.clone(),
            })
            .collect()
    }

    fn on_created(&mut self, created: wire::GroupCreated) -> Result<Vec<Step>, String> {
        let group = wire::Group {
            group_id: created.group_id,
            group_ip: created.group_ip,
            src_node_id: created.src_node_id,
            label: created.label,
        };
        let info = group_info(&group)?;
        self.groups.insert(info.group_id);
        let event = NodeEvent::GroupCreated {
            group_id: info.group_id,
            group_ip: info.group_ip,
            src_node_id: info.source,
            label: info.label.clone(),
        };
        let groups = Effect::Groups {
            groups: vec![info],
            removed: Vec::new(),
        };
        Ok(vec![self.plain(groups), self.plain(Effect::Note(event))])
    }

    fn on_directory(
        &mut self,
        directory: wire::InstallGroupDirectory,
    ) -> Result<Vec<Step>, String> {
        let infos: Result<Vec<_>, _> = directory.groups.iter().map(group_info).collect();
        let sound = directory.reset || self.directory.is_sound();
        let groups = match infos {
            Ok(groups) if sound => groups,
            failed => {
                // The next change builds on this one.
                self.directory.refuse();
                return Err(failed.err().unwrap_or_else(|| {
                    "an earlier change of the groups failed, so they have to be told whole"
                        .to_owned()
                }));
            }
        };
        let named: BTreeSet<u32> = groups.iter().map(|group| group.group_id).collect();
        let mut removed: BTreeSet<u32> = directory.removed.into_iter().collect();
        if directory.reset {
            removed.extend(std::mem::take(&mut self.groups));
            removed.retain(|group_id| !named.contains(group_id));
        }
        for group_id in &removed {
            self.groups.remove(group_id);
            self.trees.remove(group_id);
        }
        self.groups.extend(named);
        let ticket = self.ticket(About::Groups);
        self.directory
            .begin(ticket, directory.version, directory.reset);
        let effect = Some(Effect::Groups {
            groups,
            removed: removed.into_iter().collect(),
        });
        Ok(vec![Step { ticket, effect }])
    }

    fn on_group_routes(&mut self, install: wire::InstallGroupRoutes) -> Vec<Step> {
        let (group_id, none) = (install.group_id, install.routes.is_empty());
        let ticket = self.ticket(About::Tree { group_id, none });
        let progress = self.trees.entry(group_id).or_default();
        progress.begin(ticket, install.version, true);
        let routes = install.routes.into_iter().map(|route| GroupRoute {
            tree_id: u32::from(route.tree_id),
            next_hops: route.next_hops,
            local: route.local,
        });
        let effect = Some(Effect::GroupRoutes {
            group_id,
            source: install.src_node_id,
            routes: routes.collect(),
        });
        vec![Step { ticket, effect }]
    }

    fn on_member(&mut self, change: &wire::MemberChanged) -> Vec<Step> {
        let (group_id, joined) = (change.group_id, change.joined);
        let effect = if change.node_id == self.who.node_id {
            Effect::Membership { group_id, joined }
        } else {
            Effect::Note(NodeEvent::MemberChanged {
                group_id,
                node_id: change.node_id,
                joined,
            })
        };
        vec![self.plain(effect)]
    }

    fn on_node_state(&mut self, change: wire::NodeState) -> Vec<Step> {
        let (node_id, state) = (change.node_id, change.state);
        if node_id == self.who.node_id {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if is_gone(&state) {
            let reason = format!("node {node_id} is {state}");
            let node = node_id;
            steps.push(self.plain(Effect::Gone { node, reason }));
        }
        steps.push(self.plain(Effect::Note(NodeEvent::NodeState { node_id, state })));
        steps
    }
}

#[cfg(test)]
mod tests;
