//! Both directions between a node and its controller connection: [`Executor`] has the operations of the node that the
//! connection uses, [`ControlHandle`] and [`LinkReport`] send the node's [`Input`] to the connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{FlowMetrics, NodeId, NodeMetrics, NodeStats, RoutedFlows};
use nm_messages::{
    AppFlowStart, LinkMeasurements, Metrics, NodeSample, ProbeResult, ToController, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use super::member::{Effect, Identity};
use super::ControlError;
use crate::runtime::Carrier;

/// Called once, on any thread, when an effect has ended; the text of an error is sent to the controller.
pub type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The operations on a node that the connection uses. Called on the control thread, which must not block: each call
/// returns at once.
pub trait Executor: Send + Sync {
    /// From now on the node's packet threads report link changes to the controller. Called before the node registers,
    /// so that no change is missed.
    fn report_links_to(&self, report: LinkReport);
    /// Starts an effect. Effects of one node are carried out in the order in which they were started.
    fn carry_out(&self, effect: Effect, done: Done);
    /// Requests the node's counters; `done` is called once, on any thread, with `None` when the node is closed.
    fn measure(&self, done: Box<dyn FnOnce(Option<NodeStats>) + Send>);
    /// Requests the counters and what changed; `done` is called once, with `None` when the node is closed.
    fn collect(&self, done: Box<dyn FnOnce(Option<NodeMetrics>) + Send>);
    /// The report for these counters; `None` when nothing changed since the last report.
    fn report(&self, found: NodeMetrics) -> Option<Metrics>;
    /// Keeps flows that were collected and cannot be reported now for the next report.
    fn keep_flows(&self, flows: Vec<FlowMetrics>);
    /// The message about flows that began; `None` when none of them is a program's.
    fn flows_began(&self, flows: &[FlowMetrics]) -> Option<AppFlowStart>;
    /// The measurements in these counters.
    fn measurements(&self, stats: &NodeStats) -> LinkMeasurements;

    /// The sample of these counters.
    fn sample(&self, stats: &NodeStats) -> NodeSample;
    /// Requests the flows for which the node chose a route, at most `limit`; `done` is called once, on any thread, with
    /// `None` when the node is closed.
    fn routed_flows(&self, limit: usize, done: Box<dyn FnOnce(Option<RoutedFlows>) + Send>);
    /// The connection was made or lost.
    fn connected(&self, up: bool, reason: &str);
}

/// The address of a controller. Nodes of this process with the same controller share a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Websocket address.
    pub addr: String,
    /// The number of this process.
    pub process: u64,
}

/// A node to attach to a controller.
pub struct Registration {
    /// The identity that it registers with.
    pub identity: Identity,
    /// Carries out the controller's orders.
    pub executor: Arc<dyn Executor>,
    /// Time limit of the first connection and registration.
    pub limit: Duration,
    /// Whether to reconnect when the connection is lost.
    pub reconnect: bool,
}

/// Called on the control thread with the value that a request returned, or with its error.
pub type Reply<T> = Box<dyn FnOnce(Result<T, ControlError>) + Send>;

/// Messages from nodes to the connection.
pub(crate) enum Input {
    Attach(Box<Registration>, Reply<()>),
    Detach {
        node: NodeId,
        reason: String,
        done: SyncSender<()>,
    },
    Request {
        node: NodeId,
        message: ToController,
        limit: Duration,
        reply: Reply<Option<Value>>,
    },
    Link {
        node: NodeId,
        remote: NodeId,
        carrier: Option<Carrier>,
        reason: String,
    },
    Event {
        node: NodeId,
        name: String,
        detail: Value,
    },
    /// The node has lost all state that the controller sent.
    Restarted {
        node: NodeId,
    },
    /// A step of a node has ended.
    Ended {
        node: NodeId,
        attached: u64,
        ticket: u64,
        result: Result<(), String>,
    },
    /// An address lookup for a link of a node has ended.
    Resolved {
        node: NodeId,
        attached: u64,
        remote: NodeId,
        ticket: u64,
        found: Result<SocketAddr, String>,
    },
    /// Flows began at a node.
    FlowsBegan {
        node: NodeId,
        flows: Vec<FlowMetrics>,
    },
    /// A node's counters have arrived, which the connection asked for.
    Collected {
        node: NodeId,
        attached: u64,
        found: Option<Box<NodeMetrics>>,
    },
    /// A node's counters have arrived, which an order of the controller asked for.
    Measured {
        node: NodeId,
        order: u64,
        stats: Option<Box<NodeStats>>,
    },
    /// The flows of a node have arrived, for an order of the controller.
    RoutedFlows {
        order: u64,
        flows: Option<RoutedFlows>,
    },
}

/// Largest number of pending requests of one node: the number that the controller keeps waiting for groups that do
/// not exist yet. Only programs decide how many requests there are; all other input is bounded by what it reports:
/// states of links, and the steps and counters that the connection itself requested.
pub(super) const MAX_REQUESTS: usize = 10_000;

/// How long the beginning or the end of a flow is reported to a controller that is away …
const FLOW_REPORT_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// … and its progress, which the next report replaces.
const FLOW_PROGRESS_LIMIT: Duration = Duration::from_secs(1);

/// How long the result of a probe is reported to a controller that is away; it then counts the probe as failed.
const PROBE_REPORT_LIMIT: Duration = Duration::from_secs(60);

/// A node's handle to its controller connection.
#[derive(Clone)]
pub struct ControlHandle {
    node: NodeId,
    input: UnboundedSender<Input>,
    requests: Arc<AtomicUsize>,
}

/// Reports link changes and other events of a node's packet threads to the controller.
pub struct LinkReport(pub(super) ControlHandle);

/// A request that is counted as pending until its reply is called or dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(requests: &Arc<AtomicUsize>) -> Option<Self> {
        let counted = Self(Arc::clone(requests));
        (requests.fetch_add(1, Ordering::Relaxed) < MAX_REQUESTS).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ControlHandle {
    pub(super) fn new(node: NodeId, input: UnboundedSender<Input>) -> Self {
        Self {
            node,
            input,
            requests: Arc::default(),
        }
    }

    /// Sends a request to the controller. Without a connection the request waits for one, and after a loss it is sent
    /// again: every request is idempotent. Refused with [`ControlError::Busy`] while [`MAX_REQUESTS`] are pending.
    pub fn request(
        &self,
        message: impl Into<ToController>,
        limit: Duration,
        reply: Reply<Option<Value>>,
    ) {
        let Some(counted) = Counted::new(&self.requests) else {
            return reply(Err(ControlError::Busy {
                limit: MAX_REQUESTS,
            }));
        };
        let input = Input::Request {
            node: self.node,
            message: message.into(),
            limit,
            reply: Box::new(move |result| {
                drop(counted);
                reply(result);
            }),
        };
        if let Err(lost) = self.input.send(input) {
            if let Input::Request { reply, .. } = lost.0 {
                reply(Err(ControlError::Lost));
            }
        }
    }

    /// Detaches the node; returns when the controller has been informed, or cannot be.
    pub fn detach(&self, reason: &str) {
        let (done, left) = sync_channel(1);
        if self
            .input
            .send(Input::Detach {
                node: self.node,
                reason: reason.to_owned(),
                done,
            })
            .is_ok()
        {
            let _ = left.recv_timeout(Duration::from_secs(5));
        }
    }
}

impl LinkReport {
    /// Reports a link change. Never blocks.
    pub fn send(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        let ControlHandle { node, input, .. } = &self.0;
        let _ = input.send(Input::Link {
            node: *node,
            remote,
            carrier,
            reason: reason.to_owned(),
        });
    }

    /// Reports that the node's engine was restarted without state: the node registers again, and the controller sends
    /// everything. Never blocks.
    pub fn restarted(&self) {
        let ControlHandle { node, input, .. } = &self.0;
        let _ = input.send(Input::Restarted { node: *node });
    }

    /// Reports user-space flows. What began or ended is sent until it is acknowledged, across reconnects; progress is
    /// not worth repeating. Never blocks.
    pub fn report_flows(&self, message: impl Into<ToController>, repeat: bool) {
        let limit = if repeat {
            FLOW_REPORT_LIMIT
        } else {
            FLOW_PROGRESS_LIMIT
        };
        // A refused report is not repeated: the node remembers the result, and `AddFlows` asks for it again.
        self.0.request(message, limit, Box::new(|_| {}));
    }

    /// Reports flows that began, if the controller wants metrics and there is a connection: the next report of the
    /// counters has them as well. Never blocks.
    pub fn flows_began(&self, flows: Vec<FlowMetrics>) {
        let ControlHandle { node, input, .. } = &self.0;
        let _ = input.send(Input::FlowsBegan { node: *node, flows });
    }

    /// Reports the result of a probe, until it is acknowledged. Never blocks.
    pub fn report_probe(&self, result: ProbeResult) {
        self.0.request(result, PROBE_REPORT_LIMIT, Box::new(|_| {}));
    }

    /// Reports an event for the lab's event log. Never blocks.
    pub fn report_event(&self, name: &str, detail: Value) {
        let ControlHandle { node, input, .. } = &self.0;
        let _ = input.send(Input::Event {
            node: *node,
            name: name.to_owned(),
            detail,
        });
    }
}
