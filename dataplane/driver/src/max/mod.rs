//! Max mode: a TCP flow ends at its first node and is carried over one connection per hop to its last, spliced in the
//! kernel at every node.
//!
//! ```text
//! client ─TCP─▶ first node ─pipe─▶ relay ─…─▶ last node ─TCP─▶ server
//! ```
//!
//! A client names its destination by SOCKS5, or is redirected by the packet filter of its namespace ([`redirect`]).
//! The first node asks its engine for the route, so a flow takes the one that its packets would take, pins included, and
//! sends the [header](nm_max::hop) of the flow to the next node. The nodes behind it follow that route; where this is not
//! possible the flow is refused. The last node connects to the destination from its own namespace. A node whose next hop
//! is not in max mode connects to the destination as well, and the flow continues as packets.
//!
//! One thread per process, the [`worker`], carries the flows of all its nodes. Nothing is copied to user space. The end
//! of one direction is passed on as the end of that direction, a reset as a reset, and a receiver that does not read
//! stops its sender, because what is in transit at a node is bounded by one pipe per direction.
//!
//! A flow that passes a paused node, or a link that is down or was removed, is held: its bytes wait, as its packets would,
//! and it is reset after a time limit. One whose node is stopped is reset at once.

mod end;
mod ending;
mod entry;
mod flow;
mod hosts;
mod inbox;
mod local;
mod opening;
mod pump;
mod redirect;
mod server;
mod table;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{FiveTuple, HopTarget, NodeId, RouteId};

pub use nm_max::socks::Credentials;
pub use redirect::redirect;
pub use server::{Changed, Membership, Server};

/// Where a flow goes on from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The node at which it leaves.
    pub exit: NodeId,
    /// The neighbour on the way there; `None` at the exit.
    pub next: Option<NodeId>,
    /// The route that it takes, 0 for that of the table.
    pub route: RouteId,
}

/// The question for the next hop of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The node at which the flow entered.
    pub source: NodeId,
    /// Where it goes.
    pub target: HopTarget,
    /// Its addresses and ports, by which the first node chooses one of several routes.
    pub flow: FiveTuple,
    /// The route that the first node has chosen; `None` there.
    pub route: Option<RouteId>,
}

/// The answer to a [`Query`], or the reason why there is no next hop.
pub type Found = Result<NextHop, String>;

/// The state of a node and of its links, as far as it stops flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLinks {
    /// Whether the node is paused.
    pub paused: bool,
    /// Whether its links carry packets, by neighbour. One that is not listed does not stop flows.
    pub links: BTreeMap<NodeId, bool>,
}

/// The routes of a node.
pub trait Router: Send + Sync {
    /// Finds the next hop; calls `then` exactly once, on any thread. It must not block.
    fn next_hop(&self, query: Query, then: Box<dyn FnOnce(Found) + Send>);

    /// The present state of the node and its links. It must not block.
    fn links(&self) -> NodeLinks {
        NodeLinks::default()
    }
}

/// How a flow entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By SOCKS5.
    Socks,
    /// By the packet filter.
    Redirected,
}

impl Entry {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socks => "socks5",
            Self::Redirected => "redirected",
        }
    }
}

/// What a node reports about a flow that entered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowReport {
    /// Its number.
    pub flow: u64,
    /// How it entered.
    pub entry: Entry,
    /// The address of its client.
    pub client: SocketAddr,
    /// Its destination, as the client named it.
    pub destination: String,
    /// The nodes that it passes, this one first; empty when it was not connected.
    pub route: Vec<NodeId>,
    /// When its destination was known, in microseconds since 1970 (Unix time).
    pub start_us: u64,
    /// When it ended; `None` while it runs.
    pub end_us: Option<u64>,
    /// Bytes from the client.
    pub sent: u64,
    /// Bytes to the client.
    pub received: u64,
    /// Why it failed or was cut; empty for a flow that runs or ended in order.
    pub reason: String,
}

/// Receives the reports of a node's flows: when a flow is connected or fails, each second in which it moved bytes, and
/// when it ends.
pub trait FlowSink: Send + Sync {
    /// Some flows changed. It must not block.
    fn flows(&self, reports: Vec<FlowReport>);
}

/// The limits of a [`Server`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client may take to name its destination.
    pub client: Duration,
    /// How long a connection to a destination may take.
    pub connect: Duration,
    /// How long a flow is held before it is reset.
    pub held: Duration,
    /// The most flows at one node.
    pub flows: usize,
    /// The most clients at one node that have not named their destination yet. One more resets the oldest of them, so
    /// that clients which never do keep nobody out.
    pub unnamed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client: Duration::from_secs(10),
            // Clients rarely wait longer for an answer.
            connect: Duration::from_secs(20),
            // The least time after which TCP may give a connection up (RFC 1122, section 4.2.3.5).
            held: Duration::from_secs(100),
            flows: 4096,
            // A program that opens this many connections at once names their destinations within milliseconds.
            unnamed: 512,
        }
    }
}

/// A node in max mode.
pub struct NodeSetup {
    /// Its lab.
    pub lab: Arc<str>,
    /// Its number.
    pub node: NodeId,
    /// Its network namespace; `None` for that of the process.
    pub namespace: Option<OwnedFd>,
    /// Where it listens for its clients.
    pub listen: Vec<SocketAddr>,
    /// What a client must know; `None` accepts every client that reaches the listener.
    pub credentials: Option<Credentials>,
    /// Whether a packet filter redirects flows of the namespace to the listener. Its own connections are marked then.
    pub redirected: bool,
    /// Its routes.
    pub router: Arc<dyn Router>,
    /// Receives reports about its flows.
    pub sink: Arc<dyn FlowSink>,
}
