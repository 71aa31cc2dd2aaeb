//! What the controller has told one node, and what that means for it.
//!
//! Messages go in, effects come out; no socket, no clock, no packet path. A member remembers the version of each
//! thing it was told, so that after any interruption it can show them and be sent only what differs.

mod forms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nm_engine::{AddressPlan, GroupInfo, GroupRoute, LinkSpec, NodeId, PairRoute};
use nm_messages as wire;

use self::forms::{address, group_info};
pub use self::forms::{is_gone, link_spec, link_state};
use crate::node::events::NodeEvent;
use crate::runtime::Carrier;

/// How a node introduces itself; what does not change while it lives.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The node.
    pub node_id: NodeId,
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
    /// Make the link that the order describes, or make it anew.
    Connect(wire::AddNode),
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

#[derive(Debug)]
struct Link {
    order: wire::AddNode,
    state: Option<(Option<Carrier>, String)>,
}

/// One node as the control connection knows it.
#[derive(Debug)]
pub struct Member {
    who: Introduction,
    configured: bool,
    links: BTreeMap<NodeId, Link>,
    routes_version: Option<u64>,
    routes: BTreeMap<u64, wire::Route>,
    groups_version: Option<u64>,
    groups: BTreeSet<u32>,
    trees: BTreeMap<u32, u64>,
    announced: bool,
}

impl Member {
    /// A node that has been told nothing yet.
    pub fn new(who: Introduction) -> Self {
        Member {
            who,
            configured: false,
            links: BTreeMap::new(),
            routes_version: None,
            routes: BTreeMap::new(),
            groups_version: None,
            groups: BTreeSet::new(),
            trees: BTreeMap::new(),
            announced: false,
        }
    }

    /// Forgets all that the node was told, which the node itself has lost.
    pub fn forget(&mut self) {
        *self = Member {
            configured: self.configured,
            ..Member::new(self.who.clone())
        };
    }

    /// Whether the controller has said who we are.
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// The registration, with what we still hold. `local` is our end of the control connection.
    pub fn start_up(&mut self, local: IpAddr) -> wire::StartUp {
        self.announced = false;
        let address = self.who.private_address.unwrap_or(local);
        let have = wire::Have {
            routes: self.routes_version,
            groups: self.groups_version,
            links: self
                .links
                .iter()
                .map(|(remote, link)| (*remote, link.order.version))
                .collect(),
            trees: self
                .trees
                .iter()
                .map(|(group, version)| (*group, *version))
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
        }
    }

    /// What a controller that may have forgotten our links should hear after the registration.
    pub fn link_states(&self) -> Vec<wire::LinkState> {
        let known = self
            .links
            .iter()
            .filter_map(|(remote, link)| Some((remote, link.state.as_ref()?)));
        known
            .map(|(remote, (carrier, reason))| link_state(*remote, *carrier, reason))
            .collect()
    }

    /// Notes that a link changed; true when the controller should hear of it.
    pub fn link_changed(&mut self, remote: NodeId, carrier: Option<Carrier>, reason: &str) -> bool {
        let Some(link) = self.links.get_mut(&remote) else {
            return false;
        };
        link.state = Some((carrier, reason.to_owned()));
        true
    }

    /// True once each time the node becomes ready: routes are in, and every link that it was told of is up.
    pub fn became_ready(&mut self) -> bool {
        let up = |link: &Link| matches!(link.state, Some((Some(_), _)));
        let ready = self.routes_version.is_some() && self.links.values().all(up);
        let became = ready && !self.announced;
        self.announced = ready;
        became
    }

    /// Takes in an order.
    ///
    /// # Errors
    ///
    /// A sentence when the order makes no sense; nothing is changed then.
    pub fn handle(&mut self, order: wire::ToNode) -> Result<Vec<Effect>, String> {
        match order {
            wire::ToNode::NodeSettings(settings) => self.on_settings(&settings),
            wire::ToNode::AddNode(add) => Ok(self.on_add(add)),
            wire::ToNode::RemoveNode(remove) => {
                let known = self.links.remove(&remove.remote_node_id).is_some();
                Ok(known
                    .then_some(Effect::RemoveLink(remove.remote_node_id))
                    .into_iter()
                    .collect())
            }
            wire::ToNode::SetLink(set) => self.on_set_link(&set),
            wire::ToNode::InstallRoutes(install) => self.on_routes(install),
            wire::ToNode::TopologyReady(_) => Ok(vec![Effect::TopologyReady]),
            wire::ToNode::AgentWanted(_) => Ok(vec![Effect::AgentWanted]),
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

    fn on_settings(&mut self, settings: &wire::NodeSettings) -> Result<Vec<Effect>, String> {
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
        self.configured = true;
        Ok(vec![Effect::Configure(plan)])
    }

    fn on_add(&mut self, add: wire::AddNode) -> Vec<Effect> {
        let remote = add.remote_node_id;
        if let Some(link) = self.links.get_mut(&remote) {
            let same_way = (
                link.order.same_process,
                link.order.dial,
                &link.order.remote_addr,
                &link.order.secret,
            ) == (add.same_process, add.dial, &add.remote_addr, &add.secret);
            if same_way && link.order.remote_process == add.remote_process {
                // The neighbour is who it was: what runs over the link goes on.
                let spec = link_spec(&add.link);
                link.order = add;
                return vec![Effect::SetLink(remote, spec)];
            }
        }
        self.links.insert(
            remote,
            Link {
                order: add.clone(),
                state: None,
            },
        );
        vec![Effect::Connect(add)]
    }

    fn on_set_link(&mut self, set: &wire::SetLink) -> Result<Vec<Effect>, String> {
        let Some(link) = self.links.get_mut(&set.remote_node_id) else {
            return Err(format!(
                "there is no link to node {} here",
                set.remote_node_id
            ));
        };
        link.order.link = set.link;
        link.order.version = set.version;
        Ok(vec![Effect::SetLink(
            set.remote_node_id,
            link_spec(&set.link),
        )])
    }

    fn on_routes(&mut self, install: wire::InstallRoutes) -> Result<Vec<Effect>, String> {
        if install
            .table
            .as_ref()
            .is_some_and(|table| table.len() % 4 != 0)
        {
            return Err("the route table is not a list of 32-bit numbers".to_owned());
        }
        let table = install.next_hops().map(|hops| hops.collect());
        let mut pairs: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
        let pair = |route: &wire::Route| (route.src_node_id, route.dst_node_id);
        if install.reset {
            pairs.extend(std::mem::take(&mut self.routes).values().map(pair));
        }
        for route_id in &install.removed {
            pairs.extend(self.routes.remove(route_id).as_ref().map(pair));
        }
        for route in install.routes {
            pairs.insert(pair(&route));
            self.routes.insert(route.route_id, route);
        }
        self.routes_version = Some(install.version);
        let routes = pairs
            .iter()
            .flat_map(|pair| self.pair_routes(*pair))
            .collect();
        Ok(vec![Effect::Routes {
            table,
            routes,
            removed: pairs.into_iter().collect(),
        }])
    }

    /// The routes of a pair in the order of their ids, which is the same at every node.
    fn pair_routes(&self, (src, dst): (NodeId, NodeId)) -> Vec<PairRoute> {
        let of_pair = |route: &&wire::Route| (route.src_node_id, route.dst_node_id) == (src, dst);
        let routes: Vec<_> = self.routes.values().filter(of_pair).collect();
        let of = u32::try_from(routes.len()).unwrap_or(u32::MAX);
        let numbered = (0u32..).zip(routes);
        numbered
            .map(|(index, route)| PairRoute {
                src,
                dst,
                index,
                of,
                next_hops: route.next_hops.clone(),
            })
            .collect()
    }

    fn on_created(&mut self, created: wire::GroupCreated) -> Result<Vec<Effect>, String> {
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
        Ok(vec![
            Effect::Groups {
                groups: vec![info],
                removed: Vec::new(),
            },
            Effect::Note(event),
        ])
    }

    fn on_directory(
        &mut self,
        directory: wire::InstallGroupDirectory,
    ) -> Result<Vec<Effect>, String> {
        let groups = directory
            .groups
            .iter()
            .map(group_info)
            .collect::<Result<Vec<_>, _>>()?;
        let mut removed: BTreeSet<u32> = directory.removed.into_iter().collect();
        if directory.reset {
            removed.extend(std::mem::take(&mut self.groups));
            removed.retain(|group_id| !groups.iter().any(|group| group.group_id == *group_id));
        }
        for group_id in &removed {
            self.groups.remove(group_id);
            self.trees.remove(group_id);
        }
        self.groups
            .extend(groups.iter().map(|group| group.group_id));
        self.groups_version = Some(directory.version);
        Ok(vec![Effect::Groups {
            groups,
            removed: removed.into_iter().collect(),
        }])
    }

    fn on_group_routes(&mut self, install: wire::InstallGroupRoutes) -> Vec<Effect> {
        self.trees.insert(install.group_id, install.version);
        let routes = install.routes.into_iter().map(|route| GroupRoute {
            tree_id: u32::from(route.tree_id),
            next_hops: route.next_hops,
            local: route.local,
        });
        vec![Effect::GroupRoutes {
            group_id: install.group_id,
            source: install.src_node_id,
            routes: routes.collect(),
        }]
    }

    fn on_member(&self, change: &wire::MemberChanged) -> Vec<Effect> {
        let (group_id, joined) = (change.group_id, change.joined);
        if change.node_id == self.who.node_id {
            return vec![Effect::Membership { group_id, joined }];
        }
        vec![Effect::Note(NodeEvent::MemberChanged {
            group_id,
            node_id: change.node_id,
            joined,
        })]
    }

    fn on_node_state(&self, change: wire::NodeState) -> Vec<Effect> {
        let (node_id, state) = (change.node_id, change.state);
        if node_id == self.who.node_id {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if is_gone(&state) {
            effects.push(Effect::Gone {
                node: node_id,
                reason: format!("node {node_id} is {state}"),
            });
        }
        effects.push(Effect::Note(NodeEvent::NodeState { node_id, state }));
        effects
    }
}

#[cfg(test)]
mod tests;
