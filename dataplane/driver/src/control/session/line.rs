//! Close a connection and fail the requests that wait on it.

use super::*;

impl Session {
    /// Tells those who left that the controller has heard it, or cannot.
    pub fn say_left(&mut self) {
        for done in self.leaving.drain(..) {
            let _ = done.try_send(()); // whoever waited may have given up
        }
    }

    /// Fails what waits for too long, and tries again what waited for that.
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

    /// The line is gone: nodes go on without it.
    pub fn line_lost(&mut self, reason: &str) {
        self.online = false;
        self.last_failure = reason.to_owned();
        self.out.clear();
        // Who gave them waits for no answer any more; what was begun goes on.
        self.orders.clear();
        self.steps.clear();
        let mut gone = Vec::new();
        for (node, attached) in &mut self.attached_nodes {
            if std::mem::take(&mut attached.registered) {
                attached.executor.connected(false, reason);
            }
            if !attached.reconnect && attached.waiting.is_none() {
                gone.push(*node);
            }
        }
        for node in gone {
            self.attached_nodes.remove(&node);
            self.requests.abandon(node, &ControlError::Lost);
        }
    }

    /// The controller does not let the process in as this node: a node that waits is told why, one that runs tries
    /// again. True when the node has left, so that another may be tried at once.
    pub fn refused(&mut self, node: NodeId, error: &ControlError) -> bool {
        self.last_failure = error.to_string();
        self.introduced = node.wrapping_add(1);
        if error.id() == "control.token" {
            self.turned_away(node, error);
            return !self.attached_nodes.contains_key(&node);
        }
        // Whatever it is, it is not about this node alone.
        let nodes: Vec<NodeId> = self.attached_nodes.keys().copied().collect();
        nodes
            .into_iter()
            .for_each(|node| self.turned_away(node, error));
        false
    }

    /// Something in here went wrong in a way that it must not: what nodes were told counts for nothing any more, so
    /// that the next connection tells them everything again.
    pub fn distrust(&mut self) {
        self.orders.clear();
        self.steps.clear();
        self.retries.clear();
        let mut number = self.numbered;
        for attached in self.attached_nodes.values_mut() {
            number += 1;
            attached.number = number;
            attached.member = Member::new(attached.member.who().clone());
        }
        self.numbered = number;
    }
}
