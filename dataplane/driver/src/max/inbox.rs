//! The messages of other threads to the worker.

use std::net::TcpListener;
use std::sync::mpsc::SyncSender;
use std::sync::Mutex;

use nm_kernel::poll::EventFd;

use super::flow::FlowKey;
use super::{Found, NodeSetup};
use crate::node::wait::lock;

/// A message to the worker.
pub(super) enum Message {
    /// Adds a node, with its number and listeners.
    Add(u64, Box<NodeSetup>, Vec<TcpListener>),
    /// Removes a node; its flows are reset. The sender is dropped when its listeners are closed.
    Remove(u64, SyncSender<()>),
    /// The next hop of a flow was found, or there is none.
    Routed(FlowKey, Found),
    /// The state of a node or its links has changed.
    Changed(u64),
    /// Ends the thread.
    Stop,
}

/// The messages to the worker.
pub(super) struct Inbox {
    /// `None` when the worker has ended.
    messages: Mutex<Option<Vec<Message>>>,
    pub(super) wake: EventFd,
}

impl Inbox {
    pub(super) fn new() -> nm_kernel::Result<Self> {
        Ok(Self {
            messages: Mutex::new(Some(Vec::new())),
            wake: EventFd::new()?,
        })
    }

    /// Adds a message; it is dropped when the worker has ended.
    pub(super) fn post(&self, message: Message) {
        if let Some(messages) = &mut *lock(&self.messages) {
            messages.push(message);
        }
        self.wake.raise();
    }

    pub(super) fn take(&self) -> Vec<Message> {
        self.wake.clear();
        lock(&self.messages)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Drops the messages that were not taken, and those that follow.
    pub(super) fn close(&self) {
        *lock(&self.messages) = None;
    }
}
