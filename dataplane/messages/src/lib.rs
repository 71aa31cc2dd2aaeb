//! The control protocol as a node's dataplane speaks it: messages, and frames to bytes and back.
//!
//! A websocket message holds one or more frames, one after the other. A frame is a msgpack array of five:
//! version, id, node, type, body; the body is a map of named fields. `id` is the sender's request number, 0
//! when no reply is wanted; `node` is the node that the frame concerns, 0 for the connection as a whole.
//!
//! [`ToController`] and [`ToNode`] are the two directions. Only what a dataplane says or hears is here; the
//! messages of agents and operators exist in Python alone (`orchestrator.protocol`). The vectors under
//! `tests/vectors` hold the two definitions together.
//!
//! Reading forgives in one way only: a frame that is well-formed msgpack but wrong in itself does not affect
//! those around it, see [`decode_batch`].

#![forbid(unsafe_code)]

mod codec;
mod connection;
mod error;
mod to_controller;
mod to_node;

pub use codec::{
    batches, decode_batch, decode_frames, encode, Bad, Frame, Wire, MAX_MESSAGE, VERSION,
};
pub use connection::{Ack, Error, Goodbye, Hello, Role, Welcome};
pub use error::{DecodeError, EncodeError};
pub use rmpv::Value;
pub use to_controller::*;
pub use to_node::*;
