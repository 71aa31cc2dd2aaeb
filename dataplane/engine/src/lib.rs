//! The packet engine of one node, without I/O: packets, commands and the time are arguments; packets, messages,
//! events and one deadline are results.
//!
//! One [`Engine`] is one node. It owns no socket, thread or clock, so a driver can run a thousand of them in a few
//! threads, and a simulator can run them in virtual time. Methods `handle_*` take input, methods `poll_*` return
//! output.
//!
//! ```text
//!             handle_tun ──▶ ┌───────────────────────────────┐ ──▶ Io::tun         to the application
//!            handle_link ──▶ │ local?  receivers · sessions  │ ──▶ Io::deliveries  to Python
//!         handle_command ──▶ │ group?  fan-out by tree       │ ──▶ Io::events
//!         handle_timeout ──▶ │ else    route → link → impairments │ ──▶ Io::transmits   to a neighbour
//!          poll_transmit ──▶ └───────────────────────────────┘ ──▶ poll_deadline
//! ```
//!
//! Forwarding a packet costs a table look-up, a TTL decrement and a counter per hop, and allocates nothing.
//! Impairments are applied on the outgoing side of a link; a link without impairments skips them.

#![forbid(unsafe_code)]

mod address;
mod buffer;
mod command;
mod config;
mod digest;
mod engine;
mod five_tuple;
mod flow;
mod group;
mod io;
mod link;
mod packet;
mod pool;
mod prefix;
mod probe;
mod receiver;
mod rng;
mod route;
pub mod segment;
mod session;
mod stats;
mod tap;
mod time;
pub mod vnet;
pub mod wire;

/// A node of the lab; node *n* has address `base_addr + n`.
pub type NodeId = u32;
/// The link to one neighbour, both directions: an index local to one engine.
pub type LinkId = u32;
/// An explicit route of a pair of nodes; 0 is none.
pub type RouteId = u32;
/// A multicast group.
pub type GroupId = u32;
/// A tree of a group.
pub type TreeId = u32;
/// A registered receiver, local to one engine.
pub type ReceiverId = u64;
/// A lossless session of one engine: counted from 1 and never reused. Each side of a transfer has its own id for it.
pub type SessionId = u64;

pub use buffer::{Depot, HEADROOM, LARGE, SMALL};
pub use command::{
    Command, CommandError, CommandOutput, FlowFilter, GroupInfo, GroupRoute, HopTarget, PairRoute,
    SharedBytes, Target,
};
pub use config::{
    AddressPlan, ClassKey, Classes, LinkSpec, NodeConfig, QueueDiscipline, Scheduler, SessionConfig, TtlMode,
    DEFAULT_CLIENT_PORT, DEFAULT_SERVER_PORT, PROBE_PORT, SESSION_PORT,
};
pub use engine::{Engine, MAX_MESSAGE};
pub use five_tuple::FiveTuple;
pub use io::{Delivery, Event, Io, ReceivedBytes};
pub use link::{Distribution, Histogram, LinkMeasurement, Trace};
pub use packet::{Packet, MAX_IP_HEADER};
pub use pool::Pool;
pub use prefix::{Prefix, Prefixes};
pub use probe::report::{ProbeOrder, ProbeReport};
pub use route::{ChosenBy, Pin, RouteChoice, RoutedFlow, RoutedFlows};
pub use session::report::{PeerReport, Role, SessionReport, SessionState};
pub use session::{Prefetch, SinkAllocator};
pub use stats::{DropCause, DropCounters, FlowStats, ImpairedCounters, LinkStats, NodeStats, Traffic};
pub use tap::{TapPoint, Tapped, Taps};
pub use time::Instant;
pub use vnet::VnetHeader;
pub use wire::PacketError;
