//! The user-space endpoint of a node: flows that the controller requests, as TCP connections inside the dataplane.
//!
//! An [`Endpoint`] is the transport layer behind the user-space address of one node. It has no I/O and no clock:
//! packets and the time are arguments (`handle_*`), packets, events and one deadline are results (`poll_*`), so that
//! a shard drives it beside the node's engine, and the simulator does the same in virtual time. No flow has a thread;
//! only flows with work or an expired timer are visited.
//!
//! ```text
//!   add, stop, start ─▶ ┌──────────────────────────────┐ ─▶ poll_event      began, progressed, ended
//!      handle_packet ─▶ │ ready queue ─▶ one TCP socket│ ─▶ poll_transmit   a packet of the node
//!     handle_timeout ─▶ │ timers      ─▶ of smoltcp    │ ─▶ poll_deadline
//!                       └──────────────────────────────┘
//! ```
//!
//! TCP is the `smoltcp` crate's: connection states, retransmission (go-back-N with fast retransmit), reassembly, flow
//! control. Its congestion window does not limit the data in flight (0.12), therefore [`window`] does, after RFC 5681.
//!
//! # On the wire
//!
//! The source connects from a port of its own to [`FLOW_PORT`] of the destination's user-space address. It sends a
//! header of 16 bytes (a constant and the number of the flow), the payload, and FIN. The destination counts the
//! payload and answers FIN with 16 bytes (the constant and the count), so that the source reports what has arrived.

#![forbid(unsafe_code)]

mod connection;
mod device;
mod endpoint;
mod flow;
mod frame;
mod pace;
mod paths;
mod record;
mod sink;
mod source;
mod window;

pub use endpoint::Endpoint;
pub use flow::{Amount, EndReason, FlowEnd, FlowError, FlowEvent, FlowKey, FlowSpec};
pub use frame::FLOW_PORT;
