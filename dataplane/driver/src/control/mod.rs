//! The connection to the controller: one per controller, shared by all nodes of the process.
//!
//! ```text
//! node ──Input──▶ connection ──frames──▶ controller
//!   ▲                │  ▲                    │
//!   └──Executor──── member ◀────orders───────┘
//! ```
//!
//! Everything here runs on one thread, which therefore never waits: not for a packet thread, a name server or a
//! controller that does not read. A [`member::Member`] holds what a node was told and turns orders into effects. A
//! node's [`Executor`] begin these, and say later how they ended; only then is the order acknowledged. The connection
//! itself moves frames, keeps requests until they are answered, and comes back when it is lost. Packets are none of
//! its business: transfers go on while there is no controller.

mod attached;
mod backoff;
mod connection;
mod dial;
mod error;
pub mod member;
mod pool;
mod requests;
mod resolve;
mod session;
mod state_filter;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{NodeId, NodeStats};
use nm_messages::{Metrics, ToController, Value};
use tokio::sync::mpsc::UnboundedSender;

pub use error::ControlError;
pub use member::{link_spec, Effect, Introduction};

use crate::runtime::Carrier;

/// Called once, on any thread, when an effect has ended; an error goes back to the controller as a sentence.
pub type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// What a node lets the connection do to it. Called on the control thread, which waits for nobody: each call returns
/// at once.
pub trait Executor: Send + Sync {
    /// From now on the node's packet threads tell the controller about links. Called before the controller hears of
    /// the node, so that no link comes up unheard.
    fn report_links_to(&self, report: LinkReport);
    /// Begins an effect. Effects of one node take place in the order in which they were begun.
    fn carry_out(&self, effect: Effect, done: Done);
    /// Asks for the node's counters; `done` is called once, on any thread, with `None` when the node is gone.
    fn measure(&self, done: Box<dyn FnOnce(Option<NodeStats>) + Send>);
    /// What is to be reported of these counters; `None` when nothing moved since the last report.
    fn report(&self, stats: NodeStats) -> Option<Metrics>;
    /// The connection was made (again) or lost.
    fn connected(&self, up: bool, reason: &str);
}

/// Where a controller is. Nodes of this process that have the same one share a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Websocket address.
    pub addr: String,
    /// The number of this process.
    pub process: u64,
}

/// A node that wants to be under a controller.
pub struct Registration {
    /// How it introduces itself.
    pub who: Introduction,
    /// What carries out the controller's orders.
    pub executor: Arc<dyn Executor>,
    /// How long the first connection and registration may take.
    pub limit: Duration,
    /// Whether to come back when the connection is lost.
    pub reconnect: bool,
}

/// What becomes of a request: its value, or why there is none. Called on the control thread.
pub type Reply<T> = Box<dyn FnOnce(Result<T, ControlError>) + Send>;

/// What nodes ask of the connection.
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
    /// The node has lost everything that it was told.
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
    /// A look-up for a link of a node has ended.
    Resolved {
        node: NodeId,
        attached: u64,
        remote: NodeId,
        ticket: u64,
        found: Result<SocketAddr, String>,
    },
    /// A node's counters are there.
    Measured {
        node: NodeId,
        attached: u64,
        stats: Option<Box<NodeStats>>,
    },
}

/// Requests of one node that may wait for the controller at the same time: as many as the controller keeps waiting
/// for groups that do not exist yet. Only programs decide how many there are; all other input of a connection is
/// bounded by what it reports: states of links, and the steps and counters that the connection itself has asked for.
const MAX_REQUESTS: usize = 10_000;

/// A node's place on a connection.
#[derive(Clone)]
pub struct Place {
    node: NodeId,
    input: UnboundedSender<Input>,
    requests: Arc<AtomicUsize>,
}

/// How a node's packet threads tell the controller about links, and what else befalls them.
pub struct LinkReport(Place);

/// Puts a node under a controller. Returns at once; `reply` is called when the controller has accepted the node
/// and said who it is, or when that failed.
///
/// # Errors
///
/// [`ControlError::Start`] when the control thread cannot be started.
pub fn attach(
    endpoint: Endpoint,
    registration: Registration,
    reply: Reply<()>,
) -> Result<Place, ControlError> {
    let node = registration.who.node_id;
    let input = pool::send(endpoint, Input::Attach(Box::new(registration), reply))?;
    Ok(Place::new(node, input))
}

/// A request that counts until its reply is called or dropped.
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

impl Place {
    fn new(node: NodeId, input: UnboundedSender<Input>) -> Self {
        Self {
            node,
            input,
            requests: Arc::default(),
        }
    }

    /// Asks the controller for something. While there is no connection the request waits for one, and it is asked
    /// again after a loss: every request means the same when it is made twice. Refused with [`ControlError::Busy`]
    /// while
    /// [`MAX_REQUESTS`] wait.
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

    /// Says goodbye and leaves; returns when the controller has been told, or cannot be.
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
    /// A link changed. Never waits.
    pub fn send(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str) {
        let Place { node, input, .. } = &self.0;
        let _ = input.send(Input::Link {
            node: *node,
            remote,
            carrier,
            reason: reason.to_owned(),
        });
    }

    /// The node's engine is a new one that knows nothing: it registers again, and the controller sends everything.
    /// Never waits.
    pub fn restarted(&self) {
        let Place { node, input, .. } = &self.0;
        let _ = input.send(Input::Restarted { node: *node });
    }

    /// Something happened that belongs into the lab's event log. Never waits.
    pub fn tell(&self, name: &str, detail: Value) {
        let Place { node, input, .. } = &self.0;
        let _ = input.send(Input::Event {
            node: *node,
            name: name.to_owned(),
            detail,
        });
    }
}

/// Our end of a connection, for nodes that do not know their address.
pub(crate) const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests;
