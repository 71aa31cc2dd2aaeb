//! The state machine of a controller connection, without I/O: attached nodes, pending requests, outgoing messages.
//!
//! Takes inputs of nodes and frames of the controller, and produces frames to send; the connection moves them.
//! Nothing here blocks: a long operation is started, and its end arrives as an input.

mod disconnect;
mod flow_routes;
mod orders;
mod registration;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use nm_engine::{FlowMetrics, NodeId, NodeMetrics, NodeStats};
use nm_messages::{
    decode_batch, encode, Ack, EncodeError, Error, Frame, Goodbye, NodeEvent, NodeTopologyReady,
    ToController, ToNode, Value,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::attached::Attached;
use super::dial::UNKNOWN_ADDRESS;
use super::member::{Effect, Member, Resolved, Step};
use super::requests::{NodeRequest, Purpose, Requests};
use super::resolve::Resolver;
use super::state_filter::StateFilter;
use super::{ControlError, ControlHandle, Input, LinkReport, Registration, Reply};
use crate::backoff::Backoff;
use crate::config::Secret;
use crate::runtime::Carrier;

/// The delays between lookups of a name that is not found: a name that appears is found within seconds, and a
/// thousand links to a name that never does cost 200 lookups a second.
const LOOKUP_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(5),
};

/// An order of the controller that is being carried out.
struct Order {
    node: NodeId,
    id: u32,
    /// The number of its steps that have not ended.
    left: usize,
    error: Option<String>,
    /// Whether it asks for samples and not for measurements.
    sample: bool,
}

/// A lookup to repeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Retry {
    at: Instant,
    node: NodeId,
    attached: u64,
    remote: NodeId,
    ticket: u64,
}

/// The state of a connection except its websocket.
pub(super) struct Session {
    addr: String,
    input: UnboundedSender<Input>,
    resolver: Resolver,
    /// Counter of attached nodes and orders, which supplies their numbers.
    numbered: u64,
    orders: BTreeMap<u64, Order>,
    /// The order that each step belongs to, by attached node and ticket.
    steps: BTreeMap<(u64, u64), u64>,
    retries: BTreeSet<Retry>,
    /// The node whose credentials were used last.
    next_login: NodeId,
    attached_nodes: BTreeMap<NodeId, Attached>,
    requests: Requests,
    out: Vec<Frame<ToController>>,
    local: IpAddr,
    online: bool,
    last_failure: String,
    detaching: Vec<SyncSender<()>>,
    state_filter: StateFilter,
}

impl Session {
    /// A session without nodes; `input` receives the results of its operations.
    pub fn new(addr: String, input: UnboundedSender<Input>, resolver: Resolver) -> Self {
        Session {
            addr,
            input,
            resolver,
            numbered: 0,
            orders: BTreeMap::new(),
            steps: BTreeMap::new(),
            retries: BTreeSet::new(),
            next_login: 0,
            attached_nodes: BTreeMap::new(),
            requests: Requests::default(),
            out: Vec::new(),
            local: UNKNOWN_ADDRESS,
            online: false,
            last_failure: "no attempt was made".to_owned(),
            detaching: Vec::new(),
            state_filter: StateFilter::default(),
        }
    }

    /// Whether no node is attached.
    pub fn is_empty(&self) -> bool {
        self.attached_nodes.is_empty()
    }

    /// The node whose credentials open the connection, and its token; `None` when no node is attached.
    ///
    /// Any node will do, so it is the one after the last that was refused: a node with a wrong token must not keep
    /// the others from connecting.
    pub fn credentials(&self) -> Option<(NodeId, Secret)> {
        let next = self.attached_nodes.range(self.next_login..).next();
        let (node, attached) = next.or_else(|| self.attached_nodes.first_key_value())?;
        Some((*node, attached.member.identity().token.clone()))
    }

    /// Records a failed attempt to connect.
    pub fn attempt_failed(&mut self, reason: String) {
        self.last_failure = reason;
    }

    /// A websocket was opened; `local` is its local address.
    pub fn connection_opened(&mut self, local: IpAddr) {
        (self.local, self.online) = (local, true);
        self.state_filter.forget();
        // Registrations first, then pending requests: a request of an unregistered node would be refused.
        let repeated = self.requests.repeated_frames();
        let nodes: Vec<NodeId> = self.attached_nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.register(node));
        self.out.extend(repeated);
    }

    /// The frames to send now, encoded.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        let mut encoded = Vec::with_capacity(self.out.len());
        for frame in std::mem::take(&mut self.out) {
            match encode(&frame) {
                Ok(bytes) => encoded.push(bytes),
                Err(error) => self.unsendable(frame.id, &error),
            }
        }
        encoded
    }

    fn unsendable(&mut self, number: u32, error: &EncodeError) {
        let (id, message) = ("protocol.too-large".to_owned(), error.to_string());
        if let Some((_, Purpose::NodeRequest(request))) = self.requests.close(number) {
            (request.reply)(Err(ControlError::Refused {
                id,
                message,
                hint: None,
            }));
        }
    }

    /// Handles a message of a node.
    pub fn handle_input(&mut self, input: Input) {
        match input {
            Input::Attach(registration, reply) => self.attach(*registration, reply),
            Input::Detach { node, reason, done } => self.detach(node, reason, done),
            Input::Request {
                node,
                message,
                limit,
                reply,
            } => self.request(node, message, limit, reply),
            Input::Event { node, name, detail } => self.report_event(node, name, detail),
            Input::Restarted { node } => self.restarted(node),
            Input::Link {
                node,
                remote,
                carrier,
                reason,
            } => self.link_changed(node, remote, carrier, &reason),
            Input::Ended {
                node,
                attached,
                ticket,
                result,
            } => self.ended(node, attached, ticket, &result),
            Input::Resolved {
                node,
                attached,
                remote,
                ticket,
                found,
            } => self.resolved(node, attached, remote, ticket, found),
            Input::Collected {
                node,
                attached,
                found,
            } => self.collected(node, attached, found),
            Input::FlowsBegan { node, flows } => self.flows_began(node, &flows),
            Input::Measured { node, order, stats } => self.node_measured(node, order, stats),
            Input::RoutedFlows { order, flows } => self.flow_routes_listed(order, flows),
        }
    }

    fn detach(&mut self, node: NodeId, reason: String, done: SyncSender<()>) {
        if self.attached_nodes.remove(&node).is_some() && self.online {
            self.push_frame(node, Goodbye { reason });
        }
        self.requests.abandon(node, &ControlError::Closed);
        self.detaching.push(done);
    }

    fn request(
        &mut self,
        node: NodeId,
        message: ToController,
        limit: Duration,
        reply: Reply<Option<Value>>,
    ) {
        if !self.attached_nodes.contains_key(&node) {
            reply(Err(ControlError::Lost));
            return;
        }
        let request = NodeRequest {
            message: message.clone(),
            limit,
            deadline: Instant::now() + limit,
            reply,
        };
        let purpose = Purpose::NodeRequest(Box::new(request));
        let id = self.requests.open(node, purpose);
        if self.online {
            self.out.push(Frame { id, node, message });
        }
    }

    /// Events are not repeated after a loss: they are sent only while there is a connection.
    fn report_event(&mut self, node: NodeId, name: String, detail: Value) {
        let attached = self.attached_nodes.get(&node);
        if attached.is_some_and(|attached| attached.registered) {
            let detail = Some(detail);
            self.push_frame(node, NodeEvent { name, detail });
        }
    }

    fn restarted(&mut self, node: NodeId) {
        if let Some(attached) = self.attached_nodes.get_mut(&node) {
            attached.member.forget();
            if self.online {
                self.register(node);
            }
        }
    }

    fn link_changed(
        &mut self,
        node: NodeId,
        remote: NodeId,
        carrier: Option<Carrier>,
        reason: &str,
    ) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        if attached.member.link_changed(remote, carrier, reason) {
            self.report_link(node, remote);
            self.report_ready(node);
        }
    }

    /// The attached node with this number; `None` when another incarnation has replaced it.
    fn attached(&mut self, node: NodeId, number: u64) -> Option<&mut Attached> {
        self.attached_nodes
            .get_mut(&node)
            .filter(|attached| attached.number == number)
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// Sends the known state of a link to the controller.
    fn report_link(&mut self, node: NodeId, remote: NodeId) {
        let attached = self
            .attached_nodes
            .get(&node)
            .filter(|attached| attached.registered);
        if let Some(state) = attached.and_then(|attached| attached.member.state_of(remote)) {
            self.push_frame(node, state);
        }
    }

    /// Handles a message of the controller.
    pub fn handle_message(&mut self, bytes: &[u8]) {
        for frame in decode_batch::<ToNode>(bytes) {
            match frame {
                Ok(frame) => self.handle_frame(frame),
                Err(bad) => {
                    // An error is never answered with an error, or two peers could keep each other busy.
                    let error = Error {
                        re: bad.id,
                        error: bad.error.id().to_owned(),
                        message: bad.error.to_string(),
                        hint: None,
                    };
                    self.push_frame(bad.node, error);
                }
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame<ToNode>) {
        match frame.message {
            ToNode::Ack(ack) => self.handle_answer(ack.re, Ok(ack.value)),
            ToNode::Error(error) if error.re != 0 => {
                let refused = ControlError::Refused {
                    id: error.error,
                    message: error.message,
                    hint: error.hint,
                };
                self.handle_answer(error.re, Err(refused));
            }
            ToNode::MeasureLinks(_) => self.measure_nodes(frame.node, frame.id, false),
            ToNode::SampleNodes(_) => self.measure_nodes(frame.node, frame.id, true),
            ToNode::ListFlowRoutes(list) => self.list_flow_routes(frame.node, frame.id, list.limit),
            order => self.order(frame.node, frame.id, order),
        }
    }

    fn handle_answer(&mut self, number: u32, answer: Result<Option<Value>, ControlError>) {
        match self.requests.close(number) {
            Some((_, Purpose::NodeRequest(request))) => (request.reply)(answer),
            Some((node, Purpose::Register)) => match answer {
                Ok(_) => self.registered(node),
                Err(error) => self.registration_refused(node, &error),
            },
            None => {}
        }
    }

    /// Reports to the controller when the node has become ready.
    fn report_ready(&mut self, node: NodeId) {
        let Some(attached) = self.attached_nodes.get_mut(&node) else {
            return;
        };
        if attached.registered && attached.member.became_ready() {
            self.push_frame(node, NodeTopologyReady {});
        }
    }

    /// Requests the counters of nodes where they are due.
    pub fn measure(&mut self, now: Instant) {
        for (node, attached) in &mut self.attached_nodes {
            if !attached.measurement_due(now) {
                continue;
            }
            let (node, number, input) = (*node, attached.number, self.input.clone());
            attached.executor.collect(Box::new(move |found| {
                let _ = input.send(Input::Collected {
                    node,
                    attached: number,
                    found: found.map(Box::new),
                });
            }));
        }
    }

    fn collected(&mut self, node: NodeId, number: u64, found: Option<Box<NodeMetrics>>) {
        let Some(attached) = self.attached(node, number) else {
            return;
        };
        attached.was_measured();
        let Some(found) = found else { return };
        if !attached.registered {
            // The counters are included in a later report anyway; the flows that ended are not counted again.
            attached.executor.keep_flows(found.flows);
            return;
        }
        if let Some(metrics) = attached.executor.report(*found) {
            self.push_frame(node, metrics);
        }
    }

    fn flows_began(&mut self, node: NodeId, flows: &[FlowMetrics]) {
        let attached = self.attached_nodes.get(&node);
        let begun = attached
            .filter(|attached| attached.registered && attached.reports_metrics())
            .and_then(|attached| attached.executor.flows_began(flows));
        if let Some(begun) = begun {
            self.push_frame(node, begun);
        }
    }

    fn push_frame(&mut self, node: NodeId, message: impl Into<ToController>) {
        self.out.push(Frame {
            id: 0,
            node,
            message: message.into(),
        });
    }
}
