//! What happens when a session ends, and what is remembered of it.

use std::collections::{BTreeMap, VecDeque};

use super::outbox::Outbox;
use super::receiver::Receiver;
use super::sender::Sender;
use super::{tag_of, Sessions, PAST, VOID};
use crate::{Io, NodeId, SessionId};

impl Sessions {
    /// Does something with every running sender.
    pub(super) fn each_sender(
        &mut self,
        io: &mut Io,
        mut act: impl FnMut(&mut Sender, &mut Outbox, &mut Io),
    ) {
        let mut changed = Vec::new();
        for (&id, sender) in &mut self.senders {
            act(sender, &mut self.outbox, io);
            if sender.is_done() || sender.has_released() {
                changed.push(id);
            }
        }
        for id in changed {
            self.after_sender(id, io);
        }
    }

    /// To be called when a sender may have ended, or may wait for one receiver less to take it.
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
                next.take_turn(node, &mut self.outbox, &mut io.pool);
            }
        }
        if !done {
            return;
        }
        self.ended.extend(self.senders.remove(&id));
    }

    /// Does something with every receiver that runs, waits or repeats its end.
    pub(super) fn each_receiver(&mut self, mut act: impl FnMut(&mut Receiver, &mut Outbox)) {
        let mut changed = Vec::new();
        for (&id, receiver) in &mut self.receivers {
            act(receiver, &mut self.outbox);
            if receiver.is_final() {
                changed.push(id);
            }
        }
        for id in changed {
            self.after_receiver(id);
        }
    }

    /// To be called when a receiver may have ended, or may have gone back to waiting.
    pub(super) fn after_receiver(&mut self, id: SessionId) {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return;
        };
        let (key, source) = ((receiver.dest, receiver.source), receiver.source);
        if let Some(number) = receiver.take_dropped() {
            self.taken.remove(&(source, number));
            self.forget_tag(source, number, id);
            if self.void.len() == VOID {
                self.void.pop_front();
            }
            self.void.push_back((source, number));
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
            self.forget_tag(source, number, id);
        }
        let gone = self.receiver_history.push(id, receiver);
        if let Some((source, number)) = gone.and_then(|gone| Some((gone.source, gone.number()?))) {
            self.taken.remove(&(source, number));
        }
    }

    pub(super) fn forget_tag(&mut self, source: NodeId, number: u64, id: SessionId) {
        let key = (source, tag_of(number));
        if self.tags.get(&key) == Some(&id) {
            self.tags.remove(&key);
        }
    }
}

/// Sessions that have ended, the latest [`PAST`] of them.
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
    /// Takes one in and returns the one that has to go for it.
    pub(super) fn push(&mut self, id: SessionId, session: T) -> Option<T> {
        let oldest = if self.order.len() == PAST { self.order.pop_front() } else { None };
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
