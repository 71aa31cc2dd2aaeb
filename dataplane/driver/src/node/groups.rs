//! Groups and trees: requests to the controller, and queries of what it installed.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{Command, NodeId};
use nm_messages::{
    ComputeGroupRoutes, CreateGroup, JoinGroup, LeaveGroup, SetGroupRoutes, SetGroupRoutesMulti,
    ToController, Tree, Value,
};

use super::error::NodeError;
use super::pending::Pending;
use super::state::KnownGroup;
use super::{Node, REQUEST_LIMIT};
use crate::control::ControlError;

/// How long joining waits by default for a group that does not exist yet: programs of one experiment start together,
/// and the one that creates the group is not always the first.
pub const JOIN_WAIT: Duration = Duration::from_secs(30);

/// A directed edge of a tree.
pub type Edge = (NodeId, NodeId);

impl Node {
    /// Asks for a group with this node as its source.
    pub fn create_group(&self, label: &str) -> Result<Arc<Pending<()>>, NodeError> {
        let state = Arc::clone(&self.state);
        let message = CreateGroup {
            label: label.to_owned(),
        };
        self.ask(message, REQUEST_LIMIT, move |value| {
            let group_id = value.as_ref().and_then(|value| field(value, "group_id"));
            let group_id = group_id.ok_or(NodeError::Internal("CreateGroup"))?;
            state.change(|facts| facts.created_last = Some(group_id));
            Ok(())
        })
    }

    /// The group with `label`; without a label the last group that this node created, if the directory has it.
    pub fn group(&self, label: Option<&str>) -> Option<KnownGroup> {
        let node_id = self.settings.node_id;
        self.state.look(|facts| match label {
            Some(label) => facts
                .groups
                .values()
                .find(|group| group.label == label)
                .cloned(),
            None => match facts.created_last {
                Some(group_id) => facts.groups.get(&group_id).cloned(),
                // A restarted program finds the group that its previous incarnation created.
                None => facts
                    .groups
                    .values()
                    .rev()
                    .find(|group| group.src_node_id == node_id)
                    .cloned(),
            },
        })
    }

    /// The address of a group, if the directory has it.
    pub fn group_address(&self, group_id: u32) -> Option<Ipv4Addr> {
        self.state
            .look(|facts| facts.groups.get(&group_id).map(|group| group.group_ip))
    }

    /// Makes this node a member; waits for a group that does not exist yet.
    pub fn join_group(&self, group_id: u32, wait: Duration) -> Result<Arc<Pending<()>>, NodeError> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let port = self.port.clone();
        self.ask(
            JoinGroup { group_id, wait_ms },
            wait + REQUEST_LIMIT,
            move |_| {
                port.command(Command::JoinGroup { group_id })?;
                Ok(())
            },
        )
    }

    /// Ends the membership on this node at once and sends a request to the controller in the background.
    pub fn leave_group(&self, group_id: u32) -> Result<(), NodeError> {
        self.group_address(group_id)
            .ok_or(NodeError::UnknownGroup(group_id))?;
        self.command(Command::LeaveGroup { group_id })?;
        // The reply is not awaited: the request is repeated until the controller has received it.
        self.handle
            .request(LeaveGroup { group_id }, REQUEST_LIMIT, Box::new(drop));
        Ok(())
    }

    /// Whether this node is a member.
    pub fn is_member(&self, group_id: u32) -> bool {
        self.state
            .look(|facts| facts.memberships.contains(&group_id))
    }

    /// Gives a group one tree.
    pub fn set_group_routes(
        &self,
        group_id: u32,
        edges: Vec<Edge>,
    ) -> Result<Arc<Pending<()>>, NodeError> {
        self.ask(
            SetGroupRoutes {
                group_id,
                edges,
                wait_ms: 0,
            },
            REQUEST_LIMIT,
            |_| Ok(()),
        )
    }

    /// Gives a group several trees.
    pub fn set_group_routes_multi(
        &self,
        group_id: u32,
        trees: Vec<(u16, Vec<Edge>)>,
    ) -> Result<Arc<Pending<()>>, NodeError> {
        let trees = trees.into_iter().map(|(tree_id, edges)| Tree {
            tree_id,
            edges,
            weight: None,
        });
        let message = SetGroupRoutesMulti {
            group_id,
            trees: trees.collect(),
            wait_ms: 0,
        };
        self.ask(message, REQUEST_LIMIT, |_| Ok(()))
    }

    /// Has the controller compute and install a tree; returns its edges.
    pub fn compute_group_routes(
        &self,
        group_id: u32,
        receivers: Vec<NodeId>,
        kind: &str,
    ) -> Result<Arc<Pending<Vec<Edge>>>, NodeError> {
        let message = ComputeGroupRoutes {
            group_id,
            receivers,
            kind: kind.to_owned(),
        };
        self.ask(message, REQUEST_LIMIT, |value| {
            value
                .as_ref()
                .and_then(edges)
                .ok_or(NodeError::Internal("ComputeGroupRoutes"))
        })
    }

    /// How many trees of the group from that source pass through this node.
    pub fn group_routes(&self, group_id: u32, src_node_id: NodeId) -> u32 {
        let trees = self.state.look(|facts| facts.trees.get(&group_id).copied());
        trees
            .filter(|(source, _)| *source == src_node_id)
            .map_or(0, |(_, routes)| routes)
    }

    fn ask<T: Send + 'static>(
        &self,
        message: impl Into<ToController>,
        limit: Duration,
        then: impl FnOnce(Option<Value>) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<Arc<Pending<T>>, NodeError> {
        self.check_open()?;
        let pending = Pending::new();
        let answer = Arc::clone(&pending);
        let reply = move |result: Result<Option<Value>, ControlError>| {
            answer.fill(result.map_err(NodeError::from).and_then(then));
        };
        self.handle.request(message, limit, Box::new(reply));
        Ok(pending)
    }
}

/// An unsigned integer of a map.
fn field(value: &Value, name: &str) -> Option<u32> {
    let found = value
        .as_map()?
        .iter()
        .find(|(key, _)| key.as_str() == Some(name))?;
    number(&found.1)
}

fn edges(value: &Value) -> Option<Vec<Edge>> {
    let edge = |value: &Value| match value.as_array()?.as_slice() {
        [from, to] => Some((number(from)?, number(to)?)),
        _ => None,
    };
    value.as_array()?.iter().map(edge).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_parsed_from_a_reply() {
        let pair = |a: u32, b: u32| Value::from(vec![Value::from(a), Value::from(b)]);
        assert_eq!(
            edges(&Value::from(vec![pair(1, 2), pair(2, 3)])),
            Some(vec![(1, 2), (2, 3)])
        );
        assert_eq!(edges(&Value::from(vec![Value::from(1)])), None);
        let map = Value::Map(vec![(Value::from("group_id"), Value::from(7))]);
        assert_eq!((field(&map, "group_id"), field(&map, "x")), (Some(7), None));
    }
}
