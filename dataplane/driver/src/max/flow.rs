//! The state of one flow at one node.

use std::net::SocketAddr;

use nm_engine::{NodeId, RouteId};
use nm_max::hop::Reader;
use nm_max::socks::Negotiation;

use super::end::End;
use super::pump::Direction;
use super::{Entry, FlowReport};

/// A flow in the worker's table. The epoch tells it from an earlier flow of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    pub slot: u32,
    pub epoch: u32,
}

/// Index of the connection towards the client in [`Flow::ends`] …
pub const UP: usize = 0;
/// … and of that towards the server.
pub const DOWN: usize = 1;

/// The stage of a flow at this node.
pub enum Stage {
    /// The client names its destination.
    Socks(Box<Negotiation>),
    /// The previous node sends the header.
    Header(Reader),
    /// The engine was asked for the next hop.
    Routing,
    /// The connection to the destination is being made.
    Connecting,
    /// The next node was asked.
    Answer(Reader),
    /// Bytes pass: from the client, and to it.
    Open(Box<[Direction; 2]>),
}

/// The request of a flow, as far as it is known.
pub struct Request {
    /// The flow's number.
    pub flow: u64,
    /// The node at which it entered.
    pub source: NodeId,
    /// The node at which it leaves, if another node has decided it.
    pub exit: Option<NodeId>,
    /// The route that the first node has chosen, 0 for the table; `None` before it has.
    pub route: Option<RouteId>,
    /// How many nodes may follow.
    pub hops: u8,
    /// The address of the client that opened it.
    pub client: SocketAddr,
    pub destination: SocketAddr,
}

/// A flow at one node.
pub struct Flow {
    /// The number of the node in the worker's table.
    pub node: u64,
    pub stage: Stage,
    /// The connections towards the client and towards the server.
    pub ends: [Option<End>; 2],
    /// The neighbours on both sides; `None` for the client, the server, and where it continues as packets.
    pub neighbours: [Option<NodeId>; 2],
    /// The same flow at the neighbours that are in this process.
    pub partners: [Option<FlowKey>; 2],
    pub request: Option<Request>,
    /// How it entered, at its first node; `None` elsewhere.
    pub entry: Option<Entry>,
    /// What is reported about it, at its first node.
    pub report: Option<Box<FlowReport>>,
    /// When its present stage must have ended, in nanoseconds of the monotonic clock; `None` without a limit.
    pub deadline: Option<u64>,
    /// Whether it waits for another turn.
    pub runnable: bool,
    /// Why no bytes pass at present.
    pub held: Option<String>,
}

impl Flow {
    /// A flow that entered here, from a client.
    pub fn entering(node: u64, client: End, entry: Entry, stage: Stage) -> Self {
        Self {
            entry: Some(entry),
            ..Self::new(node, client, stage)
        }
    }

    /// A flow that comes from another node.
    pub fn passing(node: u64, previous: End) -> Self {
        Self::new(node, previous, Stage::Header(Reader::default()))
    }

    fn new(node: u64, up: End, stage: Stage) -> Self {
        Self {
            node,
            stage,
            ends: [Some(up), None],
            neighbours: [None, None],
            partners: [None, None],
            request: None,
            entry: None,
            report: None,
            deadline: None,
            runnable: false,
            held: None,
        }
    }

    /// The address of the client, at its first node.
    pub fn client(&self) -> Option<SocketAddr> {
        match &self.ends[UP] {
            Some(End::Tcp(stream)) => stream.peer_addr().ok(),
            _ => None,
        }
    }

    /// Whether both directions have ended.
    pub fn is_finished(&self) -> bool {
        match &self.stage {
            Stage::Open(directions) => directions.iter().all(|direction| direction.finished),
            _ => false,
        }
    }
}
