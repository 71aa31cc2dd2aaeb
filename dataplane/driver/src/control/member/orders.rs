//! Handle each kind of order of the controller for a node.

use super::*;

impl Member {
    pub(super) fn on_settings(
        &mut self,
        settings: &wire::NodeSettings,
    ) -> Result<Vec<Step>, String> {
        let plan = AddressPlan {
            base_addr: address(&settings.virtual_base_addr)?,
            net_mask: address(&settings.net_mask)?,
            user_base_addr: match settings.user_space_base_addr.as_str() {
                "" => None,
                text => Some(address(text)?),
            },
            multicast_base: address(&settings.multicast_pool_base)?,
            multicast_mask: address(&settings.multicast_pool_mask)?,
            base_addr6: None,
        };
        Ok(vec![Step {
            ticket: self.ticket(Subject::Settings),
            effect: Some(Effect::Configure(plan)),
        }])
    }

    pub(super) fn on_add(&mut self, add: wire::AddNode) -> Result<Vec<Step>, String> {
        let remote = add.remote_node_id;
        let dials = add.dial && !add.same_process;
        let address = add.remote_addr.parse().ok();
        if dials && address.is_none() && !is_host_and_port(&add.remote_addr) {
            return Err(format!("{:?} is no address to dial", add.remote_addr));
        }
        trace(&add.link)?;
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
            // The neighbour has not restarted, so traffic over the link continues.
            return Ok(self.change(Subject::Renewed(remote), remote, add));
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

    /// Starts the first address lookup of a link.
    pub(super) fn look_up(&mut self, remote: NodeId) -> Vec<Step> {
        let ticket = self.ticket(Subject::Changed(remote));
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

    /// Changes a link's specification; a link that is not made yet is made with the new one.
    pub(super) fn change(
        &mut self,
        subject: Subject,
        remote: NodeId,
        order: wire::AddNode,
    ) -> Vec<Step> {
        let ticket = self.ticket(subject);
        let mut effect = None;
        if let Some(link) = self.links.get_mut(&remote) {
            let spec = link_spec(&order);
            link.progress.begin(ticket, order.version, true);
            link.order = order;
            match link.phase {
                Phase::Resolving(_) => link.parked.push(ticket),
                _ => effect = Some(Effect::SetLink(remote, Box::new(spec))),
            }
        }
        vec![Step { ticket, effect }]
    }

    pub(super) fn on_remove(&mut self, remote: NodeId) -> Vec<Step> {
        if !self.links.contains_key(&remote) {
            return Vec::new();
        }
        let ticket = self.ticket(Subject::Unlink(remote));
        if let Some(link) = self.links.get_mut(&remote) {
            link.phase = Phase::Removing(ticket);
            link.state = None;
        }
        let effect = Some(Effect::RemoveLink(remote));
        vec![Step { ticket, effect }]
    }

    pub(super) fn on_set_link(&mut self, set: &wire::SetLink) -> Result<Vec<Step>, String> {
        let remote = set.remote_node_id;
        let link = self.links.get(&remote);
        let Some(link) = link.filter(|link| !matches!(link.phase, Phase::Removing(_))) else {
            return Err(format!("there is no link to node {remote} here"));
        };
        trace(&set.link)?;
        let mut order = link.order.clone();
        order.link = set.link.clone();
        order.version = set.version;
        order.down = set.down;
        Ok(self.change(Subject::Changed(remote), remote, order))
    }

    pub(super) fn on_routes(&mut self, install: wire::InstallRoutes) -> Result<Vec<Step>, String> {
        let full = install.reset && install.table.is_some();
        let checked = self.check_routes(&install, full);
        let read = checked.and_then(|()| {
            let routes: Result<Vec<_>, _> = install.routes.iter().map(pair_route).collect();
            let pins: Result<Vec<_>, _> = install.pins.iter().map(pin).collect();
            Ok((routes?, pins?))
        });
        let (new_routes, pins) = match read {
            Ok(read) => read,
            Err(reason) => {
                // The next change builds on this one.
                self.routes.refuse();
                return Err(reason);
            }
        };
        let table = install.next_hops().map(|hops| hops.collect());
        let mut changed: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
        let mut unpinned = install.removed_pins;
        if install.reset {
            changed.extend(std::mem::take(&mut self.pairs).into_keys());
            self.route_ids.clear();
            unpinned.extend(std::mem::take(&mut self.pins));
        }
        for pin_id in &unpinned {
            self.pins.remove(pin_id);
        }
        self.pins.extend(pins.iter().map(|pin| pin.id));
        for route_id in &install.removed {
            changed.extend(self.forget_route(*route_id));
        }
        for route in new_routes {
            let route_id = u64::from(route.id);
            changed.extend(self.forget_route(route_id));
            let pair = (route.src, route.dst);
            changed.insert(pair);
            self.route_ids.insert(route_id, pair);
            self.pairs.entry(pair).or_default().insert(route_id, route);
        }
        let ticket = self.ticket(Subject::Routes);
        self.routes.begin(ticket, install.version, full);
        let of_pair = |pair| self.pairs.get(pair).into_iter().flat_map(BTreeMap::values);
        let routes = changed.iter().flat_map(of_pair).cloned().collect();
        let effect = Some(Effect::Routes {
            table,
            routes,
            removed: changed.into_iter().collect(),
            pins,
            unpinned,
        });
        Ok(vec![Step { ticket, effect }])
    }

    pub(super) fn check_routes(
        &self,
        install: &wire::InstallRoutes,
        full: bool,
    ) -> Result<(), String> {
        let table = install.table.as_ref();
        if table.is_some_and(|table| table.len() % 4 != 0) {
            return Err("the route table is not a list of 32-bit numbers".to_owned());
        }
        if !full && !self.routes.is_sound() {
            return Err(
                "an earlier change of the routes failed, so the complete state must be sent"
                    .to_owned(),
            );
        }
        Ok(())
    }

    pub(super) fn forget_route(&mut self, route_id: u64) -> Option<(NodeId, NodeId)> {
        let pair = self.route_ids.remove(&route_id)?;
        let of_pair = self.pairs.get_mut(&pair)?;
        of_pair.remove(&route_id);
        if of_pair.is_empty() {
            self.pairs.remove(&pair);
        }
        Some(pair)
    }

    pub(super) fn on_created(&mut self, created: wire::GroupCreated) -> Result<Vec<Step>, String> {
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

    pub(super) fn on_directory(
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
                    "an earlier change of the groups failed, so the complete state must be sent"
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
        let ticket = self.ticket(Subject::Groups);
        self.directory
            .begin(ticket, directory.version, directory.reset);
        let effect = Some(Effect::Groups {
            groups,
            removed: removed.into_iter().collect(),
        });
        Ok(vec![Step { ticket, effect }])
    }

    pub(super) fn on_group_routes(&mut self, install: wire::InstallGroupRoutes) -> Vec<Step> {
        let (group_id, none) = (install.group_id, install.routes.is_empty());
        let ticket = self.ticket(Subject::Tree { group_id, none });
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

    pub(super) fn on_member(&mut self, change: &wire::MemberChanged) -> Vec<Step> {
        let (group_id, joined) = (change.group_id, change.joined);
        let effect = if change.node_id == self.identity.node_id {
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

    pub(super) fn probe(&mut self, probe: &wire::ProbeLink) -> Step {
        let order = ProbeOrder {
            probe: probe.probe_id,
            bytes: probe.probe_bytes,
            nanos: u64::from(probe.time_ms) * 1_000_000,
            below: probe.below,
        };
        self.plain(Effect::ProbeLink(probe.remote_node_id, order))
    }

    pub(super) fn on_add_flows(&mut self, add: &wire::AddFlows) -> Result<Vec<Step>, String> {
        let flows: Result<Vec<FlowSpec>, String> = add.flows.iter().map(flow_spec).collect();
        Ok(vec![self.plain(Effect::AddFlows(flows?))])
    }

    pub(super) fn on_node_state(&mut self, change: wire::NodeState) -> Vec<Step> {
        let (node_id, state) = (change.node_id, change.state);
        if node_id == self.identity.node_id {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if is_unavailable(&state) {
            let reason = format!("node {node_id} is {state}");
            let node = node_id;
            steps.push(self.plain(Effect::NodeGone { node, reason }));
        }
        steps.push(self.plain(Effect::Note(NodeEvent::NodeState { node_id, state })));
        steps
    }
}
