//! Errors of calls on a node.

use std::time::Duration;

use nm_engine::{CommandError, SessionId};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
pub use crate::control::ControlError;
use crate::runtime::{PortError, RuntimeError};

/// Why a call on a node failed. Each has an [`id`](Self::id) that does not change with the wording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The settings file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node could not be started on this machine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The controller refused, or cannot be reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The engine refused.
    #[error(transparent)]
    Port(#[from] PortError),
    /// An invalid argument.
    #[error("{message}")]
    Argument {
        /// Stable name.
        id: &'static str,
        /// One sentence.
        message: String,
    },
    /// This node knows no group with that number.
    #[error("group {0} is unknown here")]
    UnknownGroup(u32),
    /// This node knows no session with that number.
    #[error("session {0} is unknown here")]
    UnknownSession(SessionId),
    /// The session has no data to return.
    #[error("session {session} has no data: {reason}")]
    NoData {
        /// The session.
        session: SessionId,
        /// Why not.
        reason: String,
    },
    /// Too many received bytes have not been fetched.
    #[error("{0}")]
    Unfetched(String),
    /// An operation exceeded its time limit.
    #[error("{what} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// The operation.
        what: String,
        /// The time limit.
        limit: Duration,
    },
    /// The node was closed.
    #[error("the dataplane of node {0} is closed")]
    Closed(u32),
    /// The receiver or its node was closed.
    #[error("the receiver is closed")]
    ReceiverClosed,
    /// The node of an attached program refused a call, or cannot be reached any more.
    #[error("{}", .0.message)]
    Attached(Box<Failure>),
    /// The node sent a reply of the wrong kind: a defect of this program.
    #[error("the node answered {0} with a reply of the wrong kind")]
    Internal(&'static str),
}

/// An error as it is passed to an attached program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// See [`NodeError::class`].
    pub class: String,
    /// The stable id.
    pub id: String,
    /// One sentence.
    pub message: String,
    /// How to fix it, where that is known.
    pub hint: Option<String>,
    /// The most bytes of one message, where a message was too large.
    pub largest: Option<u64>,
}

impl From<&NodeError> for Failure {
    fn from(error: &NodeError) -> Self {
        Failure {
            class: error.class().to_owned(),
            id: error.id().to_owned(),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
            largest: error.largest(),
        }
    }
}

impl NodeError {
    /// The stable id of this error.
    pub fn id(&self) -> &str {
        match self {
            Self::Config(error) => error.first().id,
            Self::Runtime(error) => error.id(),
            Self::Control(error) => error.id(),
            Self::Port(PortError::Command(error)) => error.id(),
            Self::Port(error) => error.id(),
            Self::Argument { id, .. } => id,
            Self::UnknownGroup(_) => "group.unknown",
            Self::UnknownSession(_) => "session.unknown",
            Self::NoData { .. } => "session.no_data",
            Self::Unfetched(_) => "session.unfetched",
            Self::Timeout { .. } => "control.timeout",
            Self::Closed(_) | Self::ReceiverClosed => "node.closed",
            Self::Attached(failure) => &failure.id,
            Self::Internal(_) => "internal",
        }
    }

    /// How to fix the error, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Runtime(RuntimeError::Kernel(error)) => error.hint(),
            Self::Control(error) => error.hint(),
            Self::Attached(failure) => failure.hint.as_deref(),
            Self::Unfetched(_) => {
                Some("fetch them with `get_data_buffer`, or let go of them with `lossless_cancel`")
            }
            _ => None,
        }
    }
}

impl From<CommandError> for NodeError {
    fn from(error: CommandError) -> Self {
        NodeError::Port(PortError::Command(error))
    }
}
