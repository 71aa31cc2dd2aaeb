//! Errors of calls on a node.

use std::time::Duration;

use nm_engine::{CommandError, SessionId};

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
    /// The node sent a reply of the wrong kind: a defect of this program.
    #[error("the node answered {0} with a reply of the wrong kind")]
    Internal(&'static str),
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
            Self::Internal(_) => "internal",
        }
    }

    /// How to fix the error, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Runtime(RuntimeError::Kernel(error)) => error.hint(),
            Self::Control(error) => error.hint(),
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
