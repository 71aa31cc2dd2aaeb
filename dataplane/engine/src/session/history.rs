//! Ends of sessions, and the history of ended sessions.

use std::collections::{BTreeMap, VecDeque};

use super::receiver::Receiver;
use super::send_queue::SendQueue;
use super::sender::Sender;
use super::wire::tag_of;
use super::{Sessions, HISTORY_SIZE, WITHDRAWN_OFFERS};
use crate::{Io, NodeId, SessionId};

impl Sessions {
    /// Calls `act` with every running sender.
    pub(super) fn each_sender(
        &mut self,
        io: &mut Io,
        mut act: impl FnMut(&mut Sender, &mut SendQueue, &mut Io),
    ) {
        let mut changed = Vec::new();
        for (&id, sender) in &mut self.senders {
            act(sender, &mut self.queue, io);
            if sender.is_done() || sender.has_released() {
                changed.push(id);
            }
        }
        for id in changed {
            self.after_sender(id, io);
        }
    }

    /// Updates the tables after a sender may have ended or released a receiver.
    pub(super) fn after_sender(&mut self, id: SessionId, io: &mut Io) {
        let Some(sender) = self.senders.get_mut(&id) else {
            return;
        };
        let (dest, done) = (sender.dest, sender.is_done());
        for node in sender.take_released() {
            let Some(queue) = self.offered.get_mut(&(dest, node)) else {
                continue;
            };
            queue.remove(&id);
            let Some(next) = queue.first() else {
                self.offered.remove(&(dest, node));
                continue;
            };
            if let Some(next) = self.senders.get_mut(next) {
                next.start_offering(node, &mut self.queue, &mut io.pool);
            }
        }
        if !done {
            return;
        }
        self.ended.extend(self.senders.remove(&id));
    }

    /// Calls `act` with every receiver that is active, waiting, or retransmits its final state.
    pub(super) fn each_receiver(&mut self, mut act: impl FnMut(&mut Receiver, &mut SendQueue)) {
        let mut changed = Vec::new();
        for (&id, receiver) in &mut self.receivers {
            act(receiver, &mut self.queue);
            if receiver.is_final() {
                changed.push(id);
            }
        }
        for id in changed {
            self.after_receiver(id);
        }
    }

    /// Updates the tables after a receiver may have ended or returned to waiting.
    pub(super) fn after_receiver(&mut self, id: SessionId) {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return;
        };
        let (key, source) = ((receiver.dest, receiver.source), receiver.source);
        if let Some(number) = receiver.take_dropped() {
            self.accepted.remove(&(source, number));
            self.remove_tag(source, number, id);
            if self.withdrawn.len() == WITHDRAWN_OFFERS {
                self.withdrawn.pop_front();
            }
            self.withdrawn.push_back((source, number));
        }
        let Some(receiver) = self.receivers.get(&id) else {
            return;
        };
        if receiver.waits() {
            self.waiting.entry(key).or_default().insert(id);
        } else if let Some(queue) = self.waiting.get_mut(&key) {
            queue.remove(&id);
            if queue.is_empty() {
                self.waiting.remove(&key);
            }
        }
        if !receiver.is_over() {
            return;
        }
        let Some(receiver) = self.receivers.remove(&id) else {
            return;
        };
        if let Some(number) = receiver.number() {
            self.remove_tag(source, number, id);
        }
        let replaced = self.receiver_history.push(id, receiver);
        if let Some((source, number)) = replaced.and_then(|old| Some((old.source, old.number()?))) {
            self.accepted.remove(&(source, number));
        }
    }

    pub(super) fn remove_tag(&mut self, source: NodeId, number: u64, id: SessionId) {
        let key = (source, tag_of(number));
        if self.tags.get(&key) == Some(&id) {
            self.tags.remove(&key);
        }
    }
}

/// The last [`HISTORY_SIZE`] sessions that ended.
#[derive(Debug)]
pub(super) struct History<T> {
    ended: BTreeMap<SessionId, T>,
    order: VecDeque<SessionId>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { ended: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> History<T> {
    /// Adds a session and returns the one that it replaces, if the history is full.
    pub(super) fn push(&mut self, id: SessionId, session: T) -> Option<T> {
        let oldest = if self.order.len() == HISTORY_SIZE { self.order.pop_front() } else { None };
        self.ended.insert(id, session);
        self.order.push_back(id);
        oldest.and_then(|id| self.ended.remove(&id))
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&T> {
        self.ended.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        self.ended.get_mut(&id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.ended.values()
    }
}
