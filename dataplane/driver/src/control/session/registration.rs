//! Attach nodes and register them with the controller.

use super::*;

impl Session {
    pub(super) fn attach(&mut self, registration: Registration, reply: Reply<()>) {
        let (node, number) = (registration.identity.node_id, self.number());
        let input = self.input.clone();
        registration
            .executor
            .report_links_to(LinkReport(ControlHandle::new(node, input)));
        self.attached_nodes.insert(
            node,
            Attached::new(number, registration, reply, Instant::now()),
        );
        if self.online {
            self.register(node);
        }
    }

    pub(super) fn register(&mut self, node: NodeId) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        attached.registered = false;
        let message = attached.member.start_up(self.local);
        let id = self.requests.open(node, Purpose::Register);
        self.out.push(Frame {
            id,
            node,
            message: message.into(),
        });
    }

    pub(super) fn registered(&mut self, node: NodeId) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        attached.registered = true;
        attached.executor.connected(true, "");
        for state in attached.member.link_states() {
            self.out.push(Frame {
                id: 0,
                node,
                message: state.into(),
            });
        }
        self.complete_registration(node);
        self.report_ready(node);
    }

    /// Completes the first registration of a node that is registered and configured.
    pub(super) fn complete_registration(&mut self, node: NodeId) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        if attached.registered && attached.member.configured() {
            if let Some((reply, _, _)) = attached.waiting.take() {
                reply(Ok(()));
            }
        }
    }

    /// The controller refused a registration: the first one of a node fails with the error; a node that was
    /// registered before stays attached and retries on the next connection.
    pub(super) fn registration_refused(&mut self, node: NodeId, error: &ControlError) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        match attached.waiting.take() {
            Some((reply, _, _)) => {
                reply(Err(error.clone()));
                self.attached_nodes.remove(&node);
                self.requests.abandon(node, &ControlError::Closed);
            }
            None => attached.executor.connected(false, &error.to_string()),
        }
    }
}
