//! The control protocol of a node's dataplane: messages, and the encoding of frames.
//!
//! A websocket message contains one or more consecutive frames. A frame is a msgpack array of five parts: version,
//! id, node, type, body; the body is a map of named fields. `id` is the sender's request number, 0 when no reply is
//! wanted; `node` is the node that the frame concerns, 0 for the connection as a whole.
//!
//! [`ToController`] and [`ToNode`] are the two directions. This crate contains only the messages of a dataplane;
//! those of agents and operators exist in Python alone (`orchestrator.protocol`). The vectors under `tests/vectors`
//! keep both definitions equal.
//!
//! A frame that is well-formed msgpack but otherwise invalid does not affect the other frames of a message, see
//! [`decode_batch`].

#![forbid(unsafe_code)]

mod codec;
mod connection;
mod error;
mod flows;
mod link;
mod max_flows;
mod metrics;
mod samples;
mod to_controller;
mod to_node;

pub use codec::{
    batches, decode_batch, decode_frames, encode, Bad, Frame, Wire, MAX_MESSAGE, VERSION,
};
pub use connection::{Ack, Error, Goodbye, Hello, Role, Welcome};
pub use error::{DecodeError, EncodeError};
pub use flows::{
    AddFlows, FinishedFlow, Flow, FlowFinished, FlowProgress, StopFlows, UserFlow,
    UserFlowProgress, UserFlowStart,
};
pub use link::{ClassKey, Distribution, LinkSpec, Queue, Scheduler};
pub use max_flows::{MaxFlow, MaxFlows};
pub use metrics::{
    AppFlowColumns, DropCounter, Metrics, SessionCounter, APP_FLOW_NUMBERS, GROUP_NUMBERS,
    LINK_NUMBERS,
};
pub use rmpv::Value;
pub use samples::{FlowSample, LinkSample, NodeSample};
pub use to_controller::*;
pub use to_node::*;
