//! A handle to a node on its shard, for other threads.
//!
//! Every call is a message to the shard and a wait for the result. The shard handles it between two batches of
//! packets, so a call takes microseconds on an idle node and well under a millisecond on a busy one. But a shard may
//! stall; for threads that must not block, each call has a form that returns at once and passes the result to a
//! callback.

use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nm_engine::{Command, CommandError, CommandOutput, LinkSpec, NodeId, NodeMetrics, NodeStats};
use nm_flows::FlowSpec;
use nm_kernel::offload::OffloadState;

use super::mailbox::{FlowOrder, NodeKey, Reply, Request, ShardMessage};
use super::setup::{LinkSetup, PortError};
use super::shared::Mailbox;
use super::sinks;
use super::tap::Tap;

/// A shard that does not answer for this long is stuck; the watchdog has reported it long before.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Interval at which a waiting call checks whether the watchdog found the shard stalled.
const LOOK_UP_AFTER: Duration = Duration::from_millis(200);

/// A handle to a node on its shard. Cheap to clone; the node exists until [`close`](Self::close) or the runtime's
/// end.
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

    /// Whether both are handles of the same incarnation of a node.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.shard == other.shard
    }

    /// The shard that carries it.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Packets that the shard dropped because a ring, a socket or a TUN queue was full: overload of this machine.
    pub fn overload_drops(&self) -> u64 {
        let counters = &self.mailbox.counters;
        counters.ring_full.get() + counters.stream_full.get() + counters.tun_full.get()
    }

    /// Carries out a command and returns the engine's result.
    ///
    /// Links have separate calls ([`connect_link`](Self::connect_link) and so on), because they involve more than the
    /// engine.
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

    /// Sends a command without waiting; its result is discarded. For traffic that may be lost anyway.
    pub fn command_nowait(&self, command: Command) {
        self.command_then(command, |_| {});
    }

    /// As [`command`](Self::command), without waiting: `then` is called once with the result, usually on the shard's
    /// thread, and must not block. Commands are carried out in the order of their calls.
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

    /// Runs user-space flows that begin or end at the node; their events go to its sink. Safe to repeat, see
    /// [`nm_flows::Endpoint::add`]. Without waiting; see [`command_then`](Self::command_then).
    pub fn add_flows_then(
        &self,
        flows: Vec<FlowSpec>,
        then: impl FnOnce(Result<(), PortError>) + Send + 'static,
    ) {
        self.flows_then(FlowOrder::Add(flows), then);
    }

    /// Stops user-space flows; see [`nm_flows::Endpoint::stop`].
    pub fn stop_flows_then(
        &self,
        ids: Vec<u64>,
        then: impl FnOnce(Result<(), PortError>) + Send + 'static,
    ) {
        self.flows_then(FlowOrder::Stop(ids), then);
    }

    /// The topology is ready: user-space flows may begin.
    pub fn start_flows(&self) {
        self.flows_then(FlowOrder::Start, |_| {});
    }

    fn flows_then(
        &self,
        order: FlowOrder,
        then: impl FnOnce(Result<(), PortError>) + Send + 'static,
    ) {
        self.ask_then(|reply| Request::Flows { order, reply }, then);
    }

    /// As [`stats`](Self::stats), without waiting; `None` when the node is closed.
    pub fn stats_then(&self, then: impl FnOnce(Option<NodeStats>) + Send + 'static) {
        let reply = Reply::then(then);
        self.mailbox
            .post(ShardMessage::ToNode(self.key, Request::Stats { reply }));
    }

    /// Requests the counters and what changed since the last call, without waiting; `None` when the node is closed.
    pub fn collect_then(&self, then: impl FnOnce(Option<NodeMetrics>) + Send + 'static) {
        let reply = Reply::then(then);
        self.mailbox
            .post(ShardMessage::ToNode(self.key, Request::Collect { reply }));
    }

    /// Makes one end of a link. A second call for the same neighbour replaces the first.
    pub fn connect_link(&self, setup: LinkSetup) -> Result<(), PortError> {
        self.ask(|reply| Request::ConnectLink {
            setup: Box::new(setup),
            reply,
        })?
        .map_err(PortError::from)
    }

    /// Changes the specification of a link for the packets that this node sends, while the link is up.
    pub fn set_link(&self, remote: NodeId, spec: LinkSpec) -> Result<(), PortError> {
        self.command(Command::SetLink { remote, spec }).map(|_| ())
    }

    /// Removes this end of a link; the other end is notified and waits for a new one.
    pub fn remove_link(&self, remote: NodeId) -> Result<(), PortError> {
        self.ask(|reply| Request::RemoveLink { remote, reply })?
            .map_err(PortError::from)
    }

    /// The node's current counters.
    pub fn stats(&self) -> Result<NodeStats, PortError> {
        self.ask(|reply| Request::Stats { reply })
    }

    /// Passes records of packets to a tap from now on.
    ///
    /// After an error the tap may still be added later, unless [`remove_tap`](Self::remove_tap) follows.
    pub fn add_tap(&self, tap: &Arc<Tap>) -> Result<(), PortError> {
        let (tap, on) = (tap.clone(), true);
        self.ask(|reply| Request::Tap { tap, on, reply })
    }

    /// Passes no more records of packets to a tap; no effect for one that was not added.
    ///
    /// Returns when that holds or the shard is stalled, which removes the tap when it resumes.
    pub fn remove_tap(&self, tap: &Arc<Tap>) {
        let (tap, on) = (tap.clone(), false);
        self.ask_always(|reply| Request::Tap { tap, on, reply });
    }

    /// Whether the node's device carries super-packets, and if not, why.
    pub fn offload(&self) -> OffloadState {
        (*self.offload).clone()
    }

    /// Removes the node from its shard: links go down, the neighbours are notified, the device is closed.
    ///
    /// A second call has no effect.
    pub fn close(&self) {
        self.ask_always(|reply| Request::Close { reply });
    }

    /// As [`ask`](Self::ask), but posted to a stalled shard as well, which handles it when it resumes.
    fn ask_always(&self, request: impl FnOnce(Reply<()>) -> Request) {
        // An error means that the node is closed, or that the shard has the request and is stalled.
        let _ = self.post_and_wait(request);
    }

    fn ask_then<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<Result<T, CommandError>>) -> Request,
        then: impl FnOnce(Result<T, PortError>) + Send + 'static,
    ) {
        // A shard drops the request for a closed node, and the dropped reply reports that.
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
        self.post_and_wait(request)
    }

    fn post_and_wait<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, PortError> {
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

/// Waits for a result while the shard is not stalled. One thread serves all nodes of a process towards the
/// controller; a stalled shard must not block the nodes of other shards.
///
/// `panics` is the number of the shard's panics before the request was posted.
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
            // The shard dropped the message: the node is closed.
            Err(RecvTimeoutError::Disconnected) => return Err(PortError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                if mailbox.is_stalled() || start.elapsed() >= ANSWER_LIMIT {
                    return Err(PortError::Stalled);
                }
            }
        }
    }
}
