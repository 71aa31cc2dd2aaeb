//! Carry out orders of the controller in asynchronous steps.

use super::*;

impl Session {
    /// Starts an order; it is acknowledged when all of its steps have ended.
    pub(super) fn order(&mut self, node: NodeId, id: u32, order: ToNode) {
        let number = self.number();
        let entry = Order {
            node,
            id,
            left: 1, // for the beginning itself
            error: None,
            sample: false,
        };
        self.orders.insert(number, entry);
        let begun = if node == 0 {
            self.order_all(number, &order)
        } else {
            self.order_one(number, node, order)
        };
        self.step_ended(number, begun.err());
    }

    /// Requests the measurements or the sample of a node, or with 0 of all nodes; acknowledged when all were sent.
    pub(super) fn measure_nodes(&mut self, node: NodeId, id: u32, sample: bool) {
        let order = self.number();
        let nodes = self.attached_nodes.iter();
        let nodes: Vec<_> = nodes
            .filter(|(each, _)| node == 0 || **each == node)
            .collect();
        let (left, error) = (nodes.len() + 1, None);
        self.orders.insert(
            order,
            Order {
                node,
                id,
                left,
                error,
                sample,
            },
        );
        for (node, attached) in nodes {
            let (node, input) = (*node, self.input.clone());
            attached.executor.measure(Box::new(move |stats| {
                let _ = input.send(Input::Measured {
                    node,
                    order,
                    stats: stats.map(Box::new),
                });
            }));
        }
        self.step_ended(order, None);
    }

    /// A node that was closed meanwhile has nothing to report.
    pub(super) fn node_measured(
        &mut self,
        node: NodeId,
        order: u64,
        stats: Option<Box<NodeStats>>,
    ) {
        if let Some(sample) = self.orders.get(&order).map(|order| order.sample) {
            let attached = self.attached_nodes.get(&node);
            if let Some((attached, stats)) = attached.zip(stats) {
                let executor = &attached.executor;
                let message: ToController = match sample {
                    true => executor.sample(&stats).into(),
                    false => executor.measurements(&stats).into(),
                };
                self.push_frame(node, message);
            }
        }
        self.step_ended(order, None);
    }

    /// A step of an order has ended, or its start has.
    pub(super) fn step_ended(&mut self, number: u64, failed: Option<String>) {
        let Some(order) = self.orders.get_mut(&number) else {
            return; // its connection was lost
        };
        order.left -= 1;
        order.error = order.error.take().or(failed);
        if order.left > 0 {
            return;
        }
        match self.orders.remove(&number) {
            Some(Order {
                node,
                id,
                error: Some(message),
                ..
            }) => {
                let error = "order.refused".to_owned();
                self.push_frame(
                    node,
                    Error {
                        re: id,
                        error,
                        message,
                        hint: None,
                    },
                );
            }
            Some(Order { node, id, .. }) if id != 0 => self.push_frame(
                node,
                Ack {
                    re: id,
                    value: None,
                },
            ),
            _ => {}
        }
    }

    pub(super) fn order_all(&mut self, number: u64, order: &ToNode) -> Result<(), String> {
        if matches!(order, ToNode::NodeState(change) if !self.state_filter.is_relevant(change)) {
            return Ok(());
        }
        let nodes: Vec<NodeId> = self.attached_nodes.keys().copied().collect();
        // A failure at one node must not stop the order at the others.
        let mut result = Ok(());
        for node in nodes {
            result = result.and(self.order_one(number, node, order.clone()));
        }
        result
    }

    pub(super) fn order_one(
        &mut self,
        number: u64,
        node: NodeId,
        order: ToNode,
    ) -> Result<(), String> {
        let attached = self
            .attached_nodes
            .get_mut(&node)
            .ok_or_else(|| format!("node {node} is not in this process"))?;
        let decides = matches!(order, ToNode::NodeSettings(_));
        if let ToNode::NodeSettings(settings) = &order {
            attached.measure_every(settings.metrics_ms, Instant::now());
        }
        match attached.member.handle(order) {
            Ok(steps) => {
                for step in steps {
                    self.begin(number, node, step);
                }
                Ok(())
            }
            Err(message) => {
                if decides {
                    let (id, hint) = ("order.refused".to_owned(), None);
                    let message = message.clone();
                    self.registration_refused(node, &ControlError::Refused { id, message, hint });
                }
                Err(message)
            }
        }
    }

    /// Starts a step of an order.
    pub(super) fn begin(&mut self, number: u64, node: NodeId, step: Step) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        if let Some(order) = self.orders.get_mut(&number) {
            order.left += 1;
            self.steps.insert((attached.number, step.ticket), number);
        }
        self.start(node, step.ticket, step.effect);
    }

    /// Starts the effect of a step.
    pub(super) fn start(&mut self, node: NodeId, ticket: u64, effect: Option<Effect>) {
        let Some(entry) = self.attached_nodes.get(&node) else {
            return;
        };
        let (attached, input) = (entry.number, self.input.clone());
        match effect {
            None => {}
            Some(Effect::Resolve { remote, name }) => {
                let resolver = self.resolver.clone();
                tokio::spawn(async move {
                    let found = resolver.resolve(&name).await;
                    let found = found.and_then(|all| all.first().copied().ok_or(name));
                    let _ = input.send(Input::Resolved {
                        node,
                        attached,
                        remote,
                        ticket,
                        found,
                    });
                });
            }
            Some(effect) => {
                let done = move |result| {
                    let _ = input.send(Input::Ended {
                        node,
                        attached,
                        ticket,
                        result,
                    });
                };
                entry.executor.carry_out(effect, Box::new(done));
            }
        }
    }

    pub(super) fn ended(
        &mut self,
        node: NodeId,
        number: u64,
        ticket: u64,
        result: &Result<(), String>,
    ) {
        let Some(attached) = self.attached(node, number) else {
            return;
        };
        let ended = attached.member.end(ticket, result);
        if let Some(remote) = ended.link {
            self.report_link(node, remote);
        }
        for ticket in ended.tickets {
            if let Some(order) = self.steps.remove(&(number, ticket)) {
                self.step_ended(order, result.clone().err());
            }
        }
        self.complete_registration(node);
        self.report_ready(node);
    }

    pub(super) fn resolved(
        &mut self,
        node: NodeId,
        number: u64,
        remote: NodeId,
        ticket: u64,
        found: Result<SocketAddr, String>,
    ) {
        let Some(attached) = self.attached(node, number) else {
            return;
        };
        match attached.member.resolved(remote, ticket, found) {
            Resolved::Stale => {}
            Resolved::Connect(step) => self.start(node, step.ticket, step.effect),
            Resolved::Failed { attempts, changed } => {
                self.retries.insert(Retry {
                    at: Instant::now() + LOOKUP_BACKOFF.delay(attempts),
                    node,
                    attached: number,
                    remote,
                    ticket,
                });
                if changed {
                    self.report_link(node, remote);
                }
            }
        }
    }

    /// Starts the lookups that are due again.
    pub(super) fn retry(&mut self, now: Instant) {
        while let Some(due) = self.retries.first().copied().filter(|due| due.at <= now) {
            self.retries.remove(&due);
            let Some(attached) = self.attached(due.node, due.attached) else {
                continue;
            };
            if let Some(effect) = attached.member.resolve_again(due.remote, due.ticket) {
                self.start(due.node, due.ticket, Some(effect));
            }
        }
    }
}
