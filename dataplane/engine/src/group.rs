//! Multicast groups: the directory, this node's membership, and its forwarding entries in the multicast trees.

use std::collections::BTreeMap;

use crate::link::Links;
use crate::{GroupId, GroupInfo, GroupMetrics, GroupRoute, LinkId, Traffic, TreeId};

/// This node's forwarding entry in one tree.
#[derive(Debug)]
pub(crate) struct Branch {
    pub tree_id: TreeId,
    pub links: Vec<LinkId>,
}

/// The state of a group at this node.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub info: Option<GroupInfo>,
    pub member: bool,
    /// Ordered by tree id.
    pub branches: Vec<Branch>,
    /// Packets that arrived, from this node or a neighbour.
    pub rx: Traffic,
    /// Copies that were sent to neighbours.
    pub tx: Traffic,
}

impl Group {
    /// The forwarding entry of the tree that packets use: the lowest tree id.
    pub(crate) fn branch(&self) -> Option<&Branch> {
        self.branches.first()
    }

    fn is_empty(&self) -> bool {
        self.info.is_none() && !self.member && self.branches.is_empty()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<GroupId, Group>,
    by_addr: BTreeMap<u32, GroupId>,
}

impl Groups {
    pub(crate) fn install(&mut self, info: GroupInfo) {
        self.remove_addr(info.group_id);
        self.by_addr.insert(u32::from(info.group_ip), info.group_id);
        let group = self.groups.entry(info.group_id).or_default();
        group.info = Some(info);
    }

    /// Removes a group from the directory, with its routes. True when it was present.
    pub(crate) fn uninstall(&mut self, id: GroupId) -> bool {
        self.remove_addr(id);
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        let known = group.info.take().is_some();
        group.branches.clear();
        self.remove_if_empty(id);
        known
    }

    pub(crate) fn set_routes(&mut self, id: GroupId, routes: Vec<GroupRoute>, links: &mut Links) -> u32 {
        let group = self.groups.entry(id).or_default();
        group.branches = routes
            .into_iter()
            .map(|route| Branch {
                tree_id: route.tree_id,
                links: route.next_hops.iter().map(|&node| links.slot_for(node)).collect(),
            })
            .collect();
        group.branches.sort_by_key(|branch| branch.tree_id);
        let count = group.branches.len() as u32;
        self.remove_if_empty(id);
        count
    }

    /// True when the membership changed.
    pub(crate) fn set_member(&mut self, id: GroupId, member: bool) -> bool {
        let group = self.groups.entry(id).or_default();
        let changed = group.member != member;
        group.member = member;
        self.remove_if_empty(id);
        changed
    }

    pub(crate) fn by_addr(&self, addr: u32) -> Option<&Group> {
        self.groups.get(self.by_addr.get(&addr)?)
    }

    pub(crate) fn by_addr_mut(&mut self, addr: u32) -> Option<&mut Group> {
        self.groups.get_mut(self.by_addr.get(&addr)?)
    }

    /// The counters of the groups that carried packets.
    pub(crate) fn metrics(&self) -> Vec<GroupMetrics> {
        let used = self.groups.iter().filter(|(_, group)| group.rx.packets > 0);
        used.map(|(&group_id, group)| GroupMetrics {
            group_id,
            rx_packets: group.rx.packets,
            rx_bytes: group.rx.bytes,
            tx_packets: group.tx.packets,
            tx_bytes: group.tx.bytes,
        })
        .collect()
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    fn remove_addr(&mut self, id: GroupId) {
        if let Some(info) = self.groups.get(&id).and_then(|group| group.info.as_ref()) {
            self.by_addr.remove(&u32::from(info.group_ip));
        }
    }

    fn remove_if_empty(&mut self, id: GroupId) {
        if self.groups.get(&id).is_some_and(Group::is_empty) {
            self.groups.remove(&id);
        }
    }
}
