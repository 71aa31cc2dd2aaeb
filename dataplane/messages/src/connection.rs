//! Messages that concern the connection itself: who is there, and how a request ended.

use rmpv::Value;
use serde::{Deserialize, Serialize};

/// What a peer of the controller may be; its token has to allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A process with dataplanes.
    Node,
    /// A process that runs roles.
    Agent,
    /// The command line.
    Operator,
}

/// A peer's first frame; answered by [`Welcome`], or by [`Error`] and the end of the connection. The frame's header
/// names the node whose token it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The secret of the role: for a node its own.
    pub token: String,
    /// The version that the peer speaks.
    pub protocol: u16,
    /// Who it is.
    pub role: Role,
    /// Name and version, for the log.
    #[serde(default)]
    pub software: String,
    /// A random number that names the process.
    #[serde(default)]
    pub process: u64,
}

/// The peer may go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that the controller speaks.
    pub protocol: u16,
    /// The lab's name.
    pub lab: String,
    /// How many times this lab's controller has started; another number means that it came back.
    pub incarnation: u64,
}

/// A request was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The request's number.
    pub re: u32,
    /// Its result, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A request was not carried out, or (with `re` 0) something else went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// The request's number.
    pub re: u32,
    /// Stable id, such as `control.token`.
    pub error: String,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The sender leaves on purpose: the node in the frame's header, or with node 0 the whole connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    #[serde(default)]
    pub reason: String,
}
