//! The messages of other threads to the worker.

use std::net::TcpListener;
use std::sync::Mutex;

use nm_kernel::poll::EventFd;

use super::flow::FlowKey;
use super::{Found, NodeSetup};
use crate::node::wait::lock;

/// A message to the worker.
pub(super) enum Message {
    /// Adds a node, with its number and listeners.
    Add(u64, Box<NodeSetup>, Vec<TcpListener>),
    /// Removes a node; its flows are reset.
    Remove(u64),
    /// The next hop of a flow was found, or there is none.
    Routed(FlowKey, Found),
    /// Ends the thread.
    Stop,
}

/// The messages to the worker.
pub(super) struct Inbox {
    messages: Mutex<Vec<Message>>,
    pub(super) wake: EventFd,
}

impl Inbox {
    pub(super) fn new() -> nm_kernel::Result<Self> {
        Ok(Self {
            messages: Mutex::default(),
            wake: EventFd::new()?,
        })
    }

    pub(super) fn post(&self, message: Message) {
        lock(&self.messages).push(message);
        self.wake.raise();
    }

    pub(super) fn take(&self) -> Vec<Message> {
        self.wake.clear();
        std::mem::take(&mut *lock(&self.messages))
    }
}
