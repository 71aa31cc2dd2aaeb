//! What is requested of a flow, and what is reported about it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use nm_engine::{Instant, NodeId, RouteId};

/// How much a flow sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Bytes of payload.
    Bytes(u64),
    /// As much as it can from its beginning until this time has passed.
    Time(Duration),
}

/// A flow to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSpec {
    /// Its number, unique in the lab.
    pub id: u64,
    /// The node that sends.
    pub src: NodeId,
    /// The node that receives.
    pub dst: NodeId,
    /// How much it sends.
    pub amount: Amount,
    /// Upper limit of the rate of its payload in bits per second.
    pub rate_bps: Option<u64>,
    /// Packets that it may send in turn when several flows of its node are ready; at least 1.
    pub weight: u32,
    /// The explicit route that its packets prefer; 0 for none.
    pub route: RouteId,
}

/// The addresses and ports of a flow's packets from the source to the destination; the protocol is TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// The source's address.
    pub src: Ipv4Addr,
    /// The destination's address.
    pub dst: Ipv4Addr,
    /// The source's port.
    pub src_port: u16,
    /// The destination's port.
    pub dst_port: u16,
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It sent everything, and the destination has counted it.
    Complete,
    /// It was stopped.
    Stopped,
    /// The destination did not answer for too long.
    TimedOut,
    /// The destination did not answer for too long, and routers reported that it has no route.
    RouteGone,
    /// The destination refused the connection.
    Refused,
    /// The destination closed the connection, for instance because its node was restarted.
    Reset,
}

impl EndReason {
    /// The word of the control protocol; empty for a complete flow.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "",
            Self::Stopped => "stopped",
            Self::TimedOut => "timed out",
            Self::RouteGone => "route is gone",
            Self::Refused => "refused",
            Self::Reset => "reset",
        }
    }
}

/// The result of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowEnd {
    /// The flow.
    pub id: u64,
    /// Its packets; `None` when it never sent any.
    pub key: Option<FlowKey>,
    /// When its connection was established, or it was requested if that never happened.
    pub began: Instant,
    /// When the destination's count arrived, or the flow was given up.
    pub ended: Instant,
    /// Payload in bytes that the destination counted; without its count, what it has acknowledged.
    pub bytes: u64,
    /// Why it ended.
    pub reason: EndReason,
}

/// A change of a flow whose source is this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowEvent {
    /// Its connection is established.
    Began {
        /// The flow.
        id: u64,
        /// Its packets.
        key: FlowKey,
        /// When.
        at: Instant,
    },
    /// The packets of a flow take an explicit route, since the flow began or from now on ([`Endpoint::check_routes`]).
    ///
    /// [`Endpoint::check_routes`]: crate::Endpoint::check_routes
    Routed {
        /// Its packets.
        key: FlowKey,
        /// When.
        at: Instant,
        /// The route; 0 when its pair of nodes has none any more.
        route: RouteId,
    },
    /// Acknowledged bytes of the flows that progressed during the last second, by number.
    Progressed(Vec<(u64, u64)>),
    /// It ended.
    Ended(FlowEnd),
}

/// Why a flow was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowError {
    /// Its source and destination are the same node.
    SameNode(u64),
    /// Neither end is this node.
    Elsewhere(u64, NodeId),
    /// The lab has no user-space addresses.
    NoAddresses,
    /// All ports of the node are in use.
    NoPort(u64),
}

impl fmt::Display for FlowError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameNode(id) => write!(out, "flow {id} has the same source and destination"),
            Self::Elsewhere(id, node) => write!(out, "flow {id} neither begins nor ends at node {node}"),
            Self::NoAddresses => {
                write!(out, "the lab has no user-space addresses, which flows need (user_space_base_addr)")
            }
            Self::NoPort(id) => write!(out, "flow {id} finds all ports of its node in use"),
        }
    }
}

impl std::error::Error for FlowError {}
