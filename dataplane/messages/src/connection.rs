//! Messages about the connection itself: identification, results of requests, and the end.

use rmpv::Value;
use serde::{Deserialize, Serialize};

/// The role of a peer of the controller; its token must permit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A process with dataplanes.
    Node,
    /// A process that runs roles of scenarios.
    Agent,
    /// The command line.
    Operator,
}

/// The first frame of a peer; answered by [`Welcome`], or by [`Error`] and the end of the connection. The header of
/// the frame contains the node that the token belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The token of the role; for a node its own.
    pub token: String,
    /// The protocol version of the peer.
    pub protocol: u16,
    /// Its role.
    pub role: Role,
    /// Name and version, for the log.
    #[serde(default)]
    pub software: String,
    /// A random number that identifies the process.
    #[serde(default)]
    pub process: u64,
}

/// The controller accepts the peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version of the controller.
    pub protocol: u16,
    /// The lab's name.
    pub lab: String,
    /// Number of starts of this lab's controller; a changed number means that it was restarted.
    pub incarnation: u64,
}

/// A request was executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The request's number.
    pub re: u32,
    /// Its result, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A request was refused or failed, or (with `re` 0) another error occurred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// The request's number.
    pub re: u32,
    /// Stable id, such as `control.token`.
    pub error: String,
    /// The error as one sentence.
    pub message: String,
    /// A remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The sender disconnects intentionally: the node in the header of the frame, or with node 0 the whole connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goodbye {
    /// The reason.
    #[serde(default)]
    pub reason: String,
}
