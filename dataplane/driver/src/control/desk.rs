//! The conversation with a controller without the line: which nodes are here, what they asked, what to say next.
//!
//! Inputs of nodes and frames of the controller go in, frames to send come out; the connection moves them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use nm_engine::NodeId;
use nm_messages::{
    decode_batch, encode, Ack, EncodeError, Error, Frame, Goodbye, NodeEvent, NodeTopologyReady,
    ToController, ToNode, Value,
};
use tokio::time::Instant;

use super::member::link_state;
use super::news::News;
use super::requests::{Asked, Purpose, Requests};
use super::seat::Seat;
use super::{ControlError, Input, Registration, Reply, UNKNOWN_ADDRESS};

/// Everything about a connection but its line.
pub(super) struct Desk {
    addr: String,
    seats: BTreeMap<NodeId, Seat>,
    requests: Requests,
    out: Vec<Frame<ToController>>,
    local: IpAddr,
    online: bool,
    last_failure: String,
    leaving: Vec<SyncSender<()>>,
    news: News,
}

impl Desk {
    pub fn new(addr: String) -> Self {
        Desk {
            addr,
            seats: BTreeMap::new(),
            requests: Requests::default(),
            out: Vec::new(),
            local: UNKNOWN_ADDRESS,
            online: false,
            last_failure: "no attempt was made".to_owned(),
            leaving: Vec::new(),
            news: News::default(),
        }
    }

    /// Whether no node is here.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// An attempt to connect failed.
    pub fn attempt_failed(&mut self, reason: String) {
        self.last_failure = reason;
    }

    /// There is a line; `local` is our end of it.
    pub fn line_opened(&mut self, local: IpAddr) {
        (self.local, self.online) = (local, true);
        self.news.forget();
        // First who is here, then what they still wait for: a request of an unregistered node would be refused.
        let again = self.requests.again();
        let nodes: Vec<NodeId> = self.seats.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.register(node));
        self.out.extend(again);
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
        if let Some((_, Purpose::Asked(asked))) = self.requests.close(number) {
            (asked.reply)(Err(ControlError::Refused {
                id,
                message,
                hint: None,
            }));
        }
    }

    /// Takes in what a node wants.
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Attach(registration, reply) => self.attach(*registration, reply),
            Input::Detach { node, reason, done } => {
                if self.seats.remove(&node).is_some() && self.online {
                    self.say(node, Goodbye { reason });
                }
                self.requests.abandon(node, &ControlError::Closed);
                self.leaving.push(done);
            }
            Input::Request {
                node,
                message,
                limit,
                reply,
            } => {
                if !self.seats.contains_key(&node) {
                    reply(Err(ControlError::Lost));
                    return;
                }
                let deadline = Instant::now() + limit;
                let asked = Asked {
                    message: message.clone(),
                    limit,
                    deadline,
                    reply,
                };
                let id = self.requests.open(node, Purpose::Asked(Box::new(asked)));
                if self.online {
                    self.out.push(Frame { id, node, message });
                }
            }
            Input::Event { node, name, detail } => {
                // An event is told when it happens; a controller that was away has others to read.
                if self.seats.get(&node).is_some_and(|seat| seat.registered) {
                    let detail = Some(detail);
                    self.say(node, NodeEvent { name, detail });
                }
            }
            Input::Restarted { node } => {
                if let Some(seat) = self.seats.get_mut(&node) {
                    seat.member.forget();
                    if self.online {
                        self.register(node);
                    }
                }
            }
            Input::Link {
                node,
                remote,
                carrier,
                reason,
            } => {
                let Some(seat) = self.seats.get_mut(&node) else {
                    return;
                };
                if seat.member.link_changed(remote, carrier, &reason) && seat.registered {
                    self.say(node, link_state(remote, carrier, &reason));
                    self.announce(node);
                }
            }
        }
    }

    fn attach(&mut self, registration: Registration, reply: Reply<()>) {
        let node = registration.who.node_id;
        self.seats
            .insert(node, Seat::new(registration, reply, Instant::now()));
        if self.online {
            self.register(node);
        }
    }

    fn register(&mut self, node: NodeId) {
        let Some(seat) = self.seats.get_mut(&node) else {
            return;
        };
        seat.registered = false;
        let message = seat.member.start_up(self.local);
        let id = self.requests.open(node, Purpose::Register);
        self.out.push(Frame {
            id,
            node,
            message: message.into(),
        });
    }

    /// Takes in a message of the controller.
    pub fn hear(&mut self, bytes: &[u8]) {
        for frame in decode_batch::<ToNode>(bytes) {
            match frame {
                Ok(frame) => self.frame(frame),
                Err(bad) => {
                    // An error is never answered with an error, or two peers could keep each other busy.
                    let error = Error {
                        re: bad.id,
                        error: bad.error.id().to_owned(),
                        message: bad.error.to_string(),
                        hint: None,
                    };
                    self.say(bad.node, error);
                }
            }
        }
    }

    fn frame(&mut self, frame: Frame<ToNode>) {
        match frame.message {
            ToNode::Ack(ack) => self.answered(ack.re, Ok(ack.value)),
            ToNode::Error(error) if error.re != 0 => {
                let refused = ControlError::Refused {
                    id: error.error,
                    message: error.message,
                    hint: error.hint,
                };
                self.answered(error.re, Err(refused));
            }
            order => self.order(frame.node, frame.id, order),
        }
    }

    fn answered(&mut self, number: u32, answer: Result<Option<Value>, ControlError>) {
        match self.requests.close(number) {
            Some((_, Purpose::Asked(asked))) => (asked.reply)(answer),
            Some((node, Purpose::Register)) => match answer {
                Ok(_) => self.registered(node),
                Err(error) => self.turned_away(node, &error),
            },
            None => {}
        }
    }

    fn registered(&mut self, node: NodeId) {
        let Some(seat) = self.seats.get_mut(&node) else {
            return;
        };
        seat.registered = true;
        seat.hands.connected(true, "");
        for state in seat.member.link_states() {
            self.out.push(Frame {
                id: 0,
                node,
                message: state.into(),
            });
        }
        self.settle(node);
        self.announce(node);
    }

    /// Ends the wait of a node that has all it needs.
    fn settle(&mut self, node: NodeId) {
        let Some(seat) = self.seats.get_mut(&node) else {
            return;
        };
        if seat.registered && seat.member.configured() {
            if let Some((reply, _, _)) = seat.waiting.take() {
                reply(Ok(()));
            }
        }
    }

    /// A node that the controller does not want: one that waits is told, one that runs keeps its place and tries
    /// again with the next connection.
    fn turned_away(&mut self, node: NodeId, error: &ControlError) {
        let Some(seat) = self.seats.get_mut(&node) else {
            return;
        };
        match seat.waiting.take() {
            Some((reply, _, _)) => {
                reply(Err(error.clone()));
                self.seats.remove(&node);
                self.requests.abandon(node, &ControlError::Closed);
            }
            None => seat.hands.connected(false, &error.to_string()),
        }
    }

    fn order(&mut self, node: NodeId, id: u32, order: ToNode) {
        let result = if node == 0 {
            self.order_all(&order)
        } else {
            self.order_one(node, order)
        };
        match result {
            Err(message) => {
                let error = "order.refused".to_owned();
                self.say(
                    node,
                    Error {
                        re: id,
                        error,
                        message,
                        hint: None,
                    },
                );
            }
            Ok(()) if id != 0 => self.say(
                node,
                Ack {
                    re: id,
                    value: None,
                },
            ),
            Ok(()) => {}
        }
    }

    fn order_all(&mut self, order: &ToNode) -> Result<(), String> {
        if matches!(order, ToNode::NodeState(change) if !self.news.is_news(change)) {
            return Ok(());
        }
        let nodes: Vec<NodeId> = self.seats.keys().copied().collect();
        // One node that cannot must not keep the others from it.
        let mut result = Ok(());
        for node in nodes {
            result = result.and(self.order_one(node, order.clone()));
        }
        result
    }

    fn order_one(&mut self, node: NodeId, order: ToNode) -> Result<(), String> {
        let seat = self
            .seats
            .get_mut(&node)
            .ok_or_else(|| format!("node {node} is not in this process"))?;
        let result = seat.obey(order);
        self.settle(node);
        self.announce(node);
        result
    }

    fn announce(&mut self, node: NodeId) {
        let Some(seat) = self.seats.get_mut(&node) else {
            return;
        };
        if seat.registered && seat.member.became_ready() {
            self.say(node, NodeTopologyReady {});
        }
    }

    /// Collects the counters of nodes where something moved.
    pub fn measure(&mut self) {
        let now = Instant::now();
        for (node, seat) in &mut self.seats {
            let message = seat.measure(now).map(|metrics| metrics.into());
            self.out.extend(message.map(|message| Frame {
                id: 0,
                node: *node,
                message,
            }));
        }
    }

    fn say(&mut self, node: NodeId, message: impl Into<ToController>) {
        self.out.push(Frame {
            id: 0,
            node,
            message: message.into(),
        });
    }

    /// Tells those who left that the controller has heard it, or cannot.
    pub fn say_left(&mut self) {
        for done in self.leaving.drain(..) {
            let _ = done.try_send(()); // whoever waited may have given up
        }
    }

    /// Fails what waits for too long.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.requests.expire(now);
        let nodes: Vec<NodeId> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.is_late(now))
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            self.requests.abandon(node, &ControlError::Closed);
            if let Some((reply, _, limit)) = self.seats.remove(&node).and_then(|seat| seat.waiting)
            {
                reply(Err(self.unreachable(limit)));
            }
        }
    }

    fn unreachable(&self, limit: Duration) -> ControlError {
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
        let mut gone = Vec::new();
        for (node, seat) in &mut self.seats {
            if std::mem::take(&mut seat.registered) {
                seat.hands.connected(false, reason);
            }
            if !seat.reconnect && seat.waiting.is_none() {
                gone.push(*node);
            }
        }
        for node in gone {
            self.seats.remove(&node);
            self.requests.abandon(node, &ControlError::Lost);
        }
    }

    /// The controller does not let this process in: nodes that wait are told why, others try again.
    pub fn refused(&mut self, error: &ControlError) {
        self.last_failure = error.to_string();
        let waiting = |seat: &Seat| seat.waiting.is_some();
        let nodes: Vec<NodeId> = self
            .seats
            .iter()
            .filter(|(_, seat)| waiting(seat))
            .map(|(node, _)| *node)
            .collect();
        nodes
            .into_iter()
            .for_each(|node| self.turned_away(node, error));
        self.seats
            .values()
            .for_each(|seat| seat.hands.connected(false, &error.to_string()));
    }
}
