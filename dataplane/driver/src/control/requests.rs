//! Pending requests, by number and deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use nm_engine::NodeId;
use nm_messages::{Frame, ToController, Value, Wire};
use tokio::time::Instant;

use super::{ControlError, Reply};

/// The origin of a request.
pub(super) enum Purpose {
    /// A request of a node.
    NodeRequest(Box<NodeRequest>),
    /// The registration of a node; sent again on every new connection.
    Register,
}

/// A request of a node.
pub(super) struct NodeRequest {
    pub message: ToController,
    pub limit: Duration,
    pub deadline: Instant,
    pub reply: Reply<Option<Value>>,
}

/// The pending requests of one connection.
#[derive(Default)]
pub(super) struct Requests {
    last: u32,
    waiting: BTreeMap<u32, (NodeId, Purpose)>,
}

impl Requests {
    /// Adds a request and returns its number, which is never 0.
    pub fn open(&mut self, node: NodeId, purpose: Purpose) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.waiting.contains_key(&self.last) {
                self.waiting.insert(self.last, (node, purpose));
                return self.last;
            }
        }
    }

    /// Removes and returns the request with this number.
    pub fn close(&mut self, number: u32) -> Option<(NodeId, Purpose)> {
        self.waiting.remove(&number)
    }

    /// The frames that repeat requests after a loss. Registrations are dropped: every connection sends new ones.
    pub fn repeated_frames(&mut self) -> Vec<Frame<ToController>> {
        self.waiting
            .retain(|_, (_, purpose)| matches!(purpose, Purpose::NodeRequest(_)));
        let frame = |(id, (node, purpose)): (&u32, &(NodeId, Purpose))| match purpose {
            Purpose::NodeRequest(request) => Some(Frame {
                id: *id,
                node: *node,
                message: request.message.clone(),
            }),
            Purpose::Register => None,
        };
        self.waiting.iter().filter_map(frame).collect()
    }

    /// Fails the requests whose time limit has passed.
    pub fn expire(&mut self, now: Instant) {
        let over = |(_, purpose): &(NodeId, Purpose)| match purpose {
            Purpose::NodeRequest(request) => request.deadline <= now,
            Purpose::Register => false,
        };
        let numbers: Vec<u32> = self
            .waiting
            .iter()
            .filter(|(_, entry)| over(entry))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if let Some((_, Purpose::NodeRequest(request))) = self.waiting.remove(&number) {
                let NodeRequest {
                    message,
                    limit,
                    reply,
                    ..
                } = *request;
                reply(Err(ControlError::Timeout {
                    what: message.kind(),
                    limit,
                }));
            }
        }
    }

    /// Fails the requests of a node that detaches.
    pub fn abandon(&mut self, node: NodeId, why: &ControlError) {
        let numbers: Vec<u32> = self
            .waiting
            .iter()
            .filter(|(_, (of, _))| *of == node)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if let Some((_, Purpose::NodeRequest(request))) = self.waiting.remove(&number) {
                (request.reply)(Err(why.clone()));
            }
        }
    }
}
