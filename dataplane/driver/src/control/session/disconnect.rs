//! Handle a lost connection, detached nodes, time limits and refused credentials.

use super::*;

impl Session {
    /// Confirms to detached nodes that the controller has been informed, or cannot be.
    pub fn confirm_detached(&mut self) {
        for done in self.detaching.drain(..) {
            let _ = done.try_send(()); // the waiting thread may have given up
        }
    }

    /// Fails requests and registrations whose time limit has passed, and repeats due lookups.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.requests.expire(now);
        self.retry(now);
        let nodes: Vec<NodeId> = self
            .attached_nodes
            .iter()
            .filter(|(_, attached)| attached.is_late(now))
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            self.requests.abandon(node, &ControlError::Closed);
            if let Some((reply, _, limit)) = self
                .attached_nodes
                .remove(&node)
                .and_then(|attached| attached.waiting)
            {
                reply(Err(self.unreachable(limit)));
            }
        }
    }

    pub(super) fn unreachable(&self, limit: Duration) -> ControlError {
        let last = if self.online {
            "it does not answer"
        } else {
            &self.last_failure
        };
        ControlError::Unreachable {
            addr: self.addr.clone(),
            limit,
            last: last.to_owned(),
        }
    }

    /// The connection was lost: requests stay pending, and nodes continue without it.
    pub fn connection_lost(&mut self, reason: &str) {
        self.online = false;
        self.last_failure = reason.to_owned();
        self.out.clear();
        // Pending orders get no acknowledgement any more; their effects continue.
        self.orders.clear();
        self.steps.clear();
        let mut removed = Vec::new();
        for (node, attached) in &mut self.attached_nodes {
            if std::mem::take(&mut attached.registered) {
                attached.executor.connected(false, reason);
            }
            if !attached.reconnect && attached.waiting.is_none() {
                removed.push(*node);
            }
        }
        for node in removed {
            self.attached_nodes.remove(&node);
            self.requests.abandon(node, &ControlError::Lost);
        }
    }

    /// The controller refused the credentials of this node: a pending registration fails with the reason, a node that
    /// was registered before retries. True when the node was removed, so that another may be tried at once.
    pub fn refused(&mut self, node: NodeId, error: &ControlError) -> bool {
        self.last_failure = error.to_string();
        self.next_login = node.wrapping_add(1);
        if error.id() == "control.token" {
            self.registration_refused(node, error);
            return !self.attached_nodes.contains_key(&node);
        }
        // Any other error does not concern this node alone.
        let nodes: Vec<NodeId> = self.attached_nodes.keys().copied().collect();
        nodes
            .into_iter()
            .for_each(|node| self.registration_refused(node, error));
        false
    }

    /// After an internal error: clears the recorded state of all nodes, so that the controller sends everything again
    /// on the next connection.
    pub fn reset_nodes(&mut self) {
        self.orders.clear();
        self.steps.clear();
        self.retries.clear();
        let mut number = self.numbered;
        for attached in self.attached_nodes.values_mut() {
            number += 1;
            attached.number = number;
            attached.member = Member::new(attached.member.identity().clone());
        }
        self.numbered = number;
    }
}
