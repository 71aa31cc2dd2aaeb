//! What can go wrong between a node and its controller.

use std::time::Duration;

/// Why the controller did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No connection within the time that the settings allow.
    #[error("controller {addr} could not be reached within {} ms: {last}", limit.as_millis())]
    Unreachable {
        /// Where it was looked for.
        addr: String,
        /// How long.
        limit: Duration,
        /// What the last attempt ended with.
        last: String,
    },
    /// It answered a request, or the greeting, with an error.
    #[error("{message}")]
    Refused {
        /// The id that the controller gave.
        id: String,
        /// Its sentence.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// It did not answer in time.
    #[error("the controller did not answer {what} within {} ms", limit.as_millis())]
    Timeout {
        /// The request's type.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// Too many requests of this node wait already.
    #[error("{limit} requests of this node wait for the controller already")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The connection was lost, and the node's settings say not to make it again.
    #[error("the connection to the controller was lost, and `restart_on_disconnect` is off")]
    Lost,
    /// The node was taken off the connection before the answer came.
    #[error("the node was closed before the controller answered")]
    Closed,
    /// The control thread could not be started.
    #[error("the control connection could not be started: {0}")]
    Start(String),
}

impl ControlError {
    /// The stable name of this failure; a refusal keeps the controller's.
    pub fn id(&self) -> &str {
        match self {
            Self::Unreachable { .. } | Self::Lost => "control.unreachable",
            Self::Refused { id, .. } => id,
            Self::Timeout { .. } => "control.timeout",
            Self::Busy { .. } => "control.busy",
            Self::Closed => "node.closed",
            Self::Start(_) => "control.start",
        }
    }

    /// How to fix it, where the controller said so.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            Self::Busy { .. } => Some("wait for the replies of some before making more"),
            _ => None,
        }
    }
}
