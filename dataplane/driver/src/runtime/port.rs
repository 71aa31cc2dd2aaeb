//! A handle to a node on its shard, for other threads.
//!
//! Every call is a message to the shard and a wait for the answer. The shard answers between two batches of packets,
//! so a call takes microseconds on an idle node and well under a millisecond on a busy one. But a shard may also stand
//! still; for a thread that must not, each call has a form that returns at once and calls back with the answer.

use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nm_engine::{Command, CommandError, CommandOutput, LinkSpec, NodeId, NodeStats};
use nm_kernel::offload::OffloadState;

use super::mailbox::{NodeKey, Reply, Request, ShardMessage};
use super::setup::{LinkSetup, PortError};
use super::shared::Mailbox;
use super::sinks;

/// A shard that does not answer for this long is stuck; the watchdog has said so long before.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How often a wait looks whether the watchdog has given the shard up.
const LOOK_UP_AFTER: Duration = Duration::from_millis(200);

/// A node on its shard. Cheap to clone; the node lives until [`close`](Self::close) or the runtime's end.
#[derive(Clone)]
pub struct NodePort {
    pub(super) node: NodeId,
    pub(super) key: NodeKey,
    pub(super) shard: usize,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) offload: Arc<OffloadState>,
}

impl NodePort {
    /// The node's number.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// The shard that carries it.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Carries out a command and returns the engine's answer.
    ///
    /// Links have calls of their own ([`connect_link`](Self::connect_link) and so on), because they need more
    /// than the engine's part of them.
    pub fn command(&self, command: Command) -> Result<CommandOutput, PortError> {
        let prepared = sinks::prepare(&command);
        let command = Box::new(command);
        let answer = self
            .ask(|reply| Request::Command { command, reply })
            .and_then(|answer| answer.map_err(PortError::from));
        if let (Some(len), Err(_)) = (prepared, &answer) {
            sinks::forget(len);
        }
        answer
    }

    /// Sends a command without waiting; what becomes of it is not told. For traffic that may be lost anyway.
    pub fn command_nowait(&self, command: Command) {
        self.command_then(command, |_| {});
    }

    /// As [`command`](Self::command), without waiting: `then` is called once with the answer, on the shard's thread as
    /// a rule, and must not wait for anything. Commands are carried out in the order of their calls.
    pub fn command_then(
        &self,
        command: Command,
        then: impl FnOnce(Result<CommandOutput, PortError>) + Send + 'static,
    ) {
        let command = Box::new(command);
        self.ask_then(|reply| Request::Command { command, reply }, then);
    }

    /// As [`connect_link`](Self::connect_link), without waiting; see [`command_then`](Self::command_then).
    pub fn connect_link_then(
        &self,
        setup: LinkSetup,
        then: impl FnOnce(Result<(), PortError>) + Send + 'static,
    ) {
        let setup = Box::new(setup);
        self.ask_then(|reply| Request::ConnectLink { setup, reply }, then);
    }

    /// As [`remove_link`](Self::remove_link), without waiting; see [`command_then`](Self::command_then).
    pub fn remove_link_then(
        &self,
        remote: NodeId,
        then: impl FnOnce(Result<(), PortError>) + Send + 'static,
    ) {
        self.ask_then(|reply| Request::RemoveLink { remote, reply }, then);
    }

    /// As [`stats`](Self::stats), without waiting; `None` when the node is gone.
    pub fn stats_then(&self, then: impl FnOnce(Option<NodeStats>) + Send + 'static) {
        let reply = Reply::then(then);
        self.mailbox
            .post(ShardMessage::ToNode(self.key, Request::Stats { reply }));
    }

    /// Makes one end of a link. A second call for the same neighbour replaces the first.
    pub fn connect_link(&self, setup: LinkSetup) -> Result<(), PortError> {
        self.ask(|reply| Request::ConnectLink {
            setup: Box::new(setup),
            reply,
        })?
        .map_err(PortError::from)
    }

    /// Changes what the link does to the packets that we send, live.
    pub fn set_link(&self, remote: NodeId, spec: LinkSpec) -> Result<(), PortError> {
        self.command(Command::SetLink { remote, spec }).map(|_| ())
    }

    /// Removes our end of a link; the other end is told and waits for a new one.
    pub fn remove_link(&self, remote: NodeId) -> Result<(), PortError> {
        self.ask(|reply| Request::RemoveLink { remote, reply })?
            .map_err(PortError::from)
    }

    /// The node's counters at this moment.
    pub fn stats(&self) -> Result<NodeStats, PortError> {
        self.ask(|reply| Request::Stats { reply })
    }

    /// Whether the node's device carries super-packets, and if not, why.
    pub fn offload(&self) -> OffloadState {
        (*self.offload).clone()
    }

    /// Takes the node off its shard: links go down and the neighbours are told, the device is closed.
    ///
    /// Closing twice is fine.
    pub fn close(&self) {
        // Posted to a shard that stands still as well, for when it goes on.
        let panics = self.mailbox.panics();
        let (sender, answer) = sync_channel(1);
        let reply = Reply::to(sender);
        let close = Request::Close { reply };
        if self.mailbox.post(ShardMessage::ToNode(self.key, close)) {
            let _ = wait(&self.mailbox, &answer, panics);
        }
    }

    fn ask_then<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<Result<T, CommandError>>) -> Request,
        then: impl FnOnce(Result<T, PortError>) + Send + 'static,
    ) {
        // A node that is gone drops the request, and the reply says so.
        let reply = Reply::then(|answer: Option<Result<T, CommandError>>| {
            then(answer.map_or(Err(PortError::Closed), |answer| {
                answer.map_err(PortError::from)
            }));
        });
        self.mailbox
            .post(ShardMessage::ToNode(self.key, request(reply)));
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, PortError> {
        if self.mailbox.is_stalled() {
            return Err(PortError::Stalled);
        }
        let panics = self.mailbox.panics();
        let (sender, answer) = sync_channel(1);
        let reply = Reply::to(sender);
        if !self
            .mailbox
            .post(ShardMessage::ToNode(self.key, request(reply)))
        {
            return Err(PortError::Closed);
        }
        wait(&self.mailbox, &answer, panics)
    }
}

/// Waits for an answer as long as the shard moves. One thread speaks for all nodes of a process with the controller; a
/// shard that stands still must not hold up those of the others.
///
/// `panics` is how often the shard had panicked before the request was posted.
pub(super) fn wait<T>(
    mailbox: &Mailbox,
    answer: &Receiver<T>,
    panics: u64,
) -> Result<T, PortError> {
    let start = Instant::now();
    loop {
        match answer.recv_timeout(LOOK_UP_AFTER) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) if mailbox.panics() != panics => {
                return Err(PortError::Failed)
            }
            // The shard dropped the message: nobody lives there any more.
            Err(RecvTimeoutError::Disconnected) => return Err(PortError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                if mailbox.is_stalled() || start.elapsed() >= ANSWER_LIMIT {
                    return Err(PortError::Stalled);
                }
            }
        }
    }
}
