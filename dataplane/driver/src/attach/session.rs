//! What one attached program has opened in its node, and its end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use nm_messages::Value;

use super::answer::Answer;
use super::holders::Holders;
use super::limits::{limit, too_many_things, Charge, Limit};
use super::transfers::Transfers;
use super::wire::{Call, Edge, Frame, Header, Reply, NODE};
use crate::node::error::Failure;
use crate::node::receiver::Queue;
use crate::node::records::UNFETCHED_LIMIT;
use crate::node::{Node, NodeError, Pending, Receiver, Waker};

/// Most receivers and unread answers of a program; each holds two descriptors of the node's process.
const MAX_THINGS: usize = 512;
/// Most receivers, unread answers and kept copies of received bytes of all programs of a node: at most 8192 descriptors,
/// far below the 524288 that systemd allows a process by default.
const MAX_NODE_THINGS: u64 = 4096;
/// Most bytes of transfers of all programs of a node, as many as it keeps for those that were not fetched.
const MAX_NODE_BYTES: u64 = UNFETCHED_LIMIT;
/// Payload bytes of the messages in one reply, unless a single message is larger.
const BATCH_BYTES: usize = 256 << 10;

/// Something that a program can wait for, and what tells it of changes.
pub(super) struct Thing {
    pub(super) kind: Kind,
    waker: Arc<Waker>,
    _charge: Charge,
}

pub(super) enum Kind {
    Receiver(Receiver),
    Nothing(Arc<Pending<()>>),
    Edges(Arc<Pending<Vec<Edge>>>),
}

/// What the programs of a node have together.
pub(super) struct Shared {
    /// The programs for which the node is a member of a group.
    pub(super) members: Holders,
    /// The programs that have set trees of a group.
    pub(super) trees: Holders,
    things: Arc<Limit>,
    bytes: Arc<Limit>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            members: Holders::default(),
            trees: Holders::default(),
            things: Limit::new(MAX_NODE_THINGS),
            bytes: Limit::new(MAX_NODE_BYTES),
        }
    }
}

/// An attached program's state.
pub(super) struct Session {
    /// The number of the program among those of the node.
    pub(super) program: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: u64,
    node: Arc<Waker>,
    things: BTreeMap<u64, Thing>,
    last: u64,
    pub(super) transfers: Transfers,
}

impl Session {
    /// A program that has opened nothing.
    pub(super) fn new(node: &Node, program: u64, shared: &Arc<Shared>) -> io::Result<Self> {
        let waker = Waker::to_pass().map_err(io::Error::other)?;
        node.signal().watch(NODE, &waker);
        Ok(Session {
            program,
            shared: Arc::clone(shared),
            reader: node.subscribe(),
            node: waker,
            things: BTreeMap::new(),
            last: NODE,
            transfers: Transfers::new(Arc::clone(&shared.bytes), Arc::clone(&shared.things)),
        })
    }

    /// Carries out a call.
    pub(super) fn answer(&mut self, node: &Node, frame: Frame<Call>) -> Answer {
        for number in &frame.body.seen {
            // Before the call looks, so that a change after its look makes the descriptor readable again.
            match self.things.get(number) {
                Some(thing) => drop(thing.waker.take()),
                None if *number == NODE => drop(self.node.take()),
                None => {}
            }
        }
        let request = frame.body.request;
        self.perform(node, request, frame.bytes, frame.descriptor)
            .unwrap_or_else(|error| Reply::Failed(Failure::from(&error)).into())
    }

    /// What tells the program that the node's state has changed.
    pub(super) fn hello(&self, node: &Node) -> Answer {
        let settings = node.settings();
        let facts = [
            ("node_id", Value::from(settings.node_id)),
            ("offload", Value::from(node.offload())),
        ];
        let facts = facts.into_iter().map(|(key, value)| (key.into(), value));
        Answer {
            waker: Some(Arc::clone(&self.node)),
            ..Value::Map(facts.collect()).into()
        }
    }

    /// Keeps something that the program may wait for.
    pub(super) fn add(&mut self, kind: Kind, charge: Charge) -> Result<Answer, NodeError> {
        let waker =
            Waker::to_pass().map_err(|_| limit("no descriptor is left for another wait"))?;
        match &kind {
            Kind::Receiver(receiver) => receiver.queue().signal.watch(0, &waker),
            Kind::Nothing(pending) => pending.signal.watch(0, &waker),
            Kind::Edges(pending) => pending.signal.watch(0, &waker),
        }
        self.last += 1;
        let thing = Thing {
            kind,
            waker: Arc::clone(&waker),
            _charge: charge,
        };
        self.things.insert(self.last, thing);
        Ok(Answer {
            waker: Some(waker),
            ..Reply::Thing(self.last).into()
        })
    }

    /// Counts one thing more; refuses it where a program or all programs of a node would have too many.
    pub(super) fn charge_thing(&self) -> Result<Charge, NodeError> {
        if self.things.len() >= MAX_THINGS {
            return Err(limit(
                "a program may have 512 receivers and answers at once",
            ));
        }
        self.shared.things.charge(1).ok_or_else(too_many_things)
    }

    pub(super) fn thing(&self, number: u64) -> Result<&Kind, NodeError> {
        let found = self.things.get(&number).map(|thing| &thing.kind);
        found.ok_or(NodeError::ReceiverClosed)
    }

    pub(super) fn queue(&self, number: u64) -> Result<&Arc<Queue>, NodeError> {
        match self.thing(number)? {
            Kind::Receiver(receiver) => Ok(receiver.queue()),
            _ => Err(NodeError::ReceiverClosed),
        }
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.things.remove(&number);
    }

    /// The messages of a receiver that have arrived, as many as one reply may have.
    pub(super) fn take(&self, number: u64, limit: u32) -> Result<Answer, NodeError> {
        let queue = self.queue(number)?;
        let (mut headers, mut bytes) = (Vec::new(), Vec::new());
        while headers.len() < limit as usize && bytes.len() < BATCH_BYTES {
            let Some(message) = queue.pop() else { break };
            let payload = message.as_ref();
            headers.push(Header {
                src_ip: message.src_ip.octets(),
                dst_ip: message.dst_ip.octets(),
                src_port: message.src_port,
                dst_port: message.dst_port,
                flow_id: message.flow_id,
                message_id: message.message_id,
                len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            });
            bytes.extend_from_slice(payload);
        }
        if headers.is_empty() && queue.is_closed() {
            return Err(NodeError::ReceiverClosed);
        }
        Ok(Answer::messages(headers, bytes))
    }

    /// Closes what the program opened.
    pub(super) fn close(mut self, node: &Node) {
        self.things.clear();
        self.transfers.close(node);
        self.shared.trees.release_all(self.program, |group| {
            // While the node is still a member, which may do so. The controller's answer is not awaited.
            let _ = node.set_group_routes_multi(group, Vec::new());
        });
        self.shared.members.release_all(self.program, |group| {
            // The group may be gone.
            let _ = node.leave_group(group);
        });
        node.unsubscribe(self.reader);
    }
}
