//! Errors between a node and its controller.

use std::time::Duration;

/// Why a request to the controller failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No connection within the time limit of the settings.
    #[error("controller {addr} could not be reached within {} ms: {last}", limit.as_millis())]
    Unreachable {
        /// The controller's address.
        addr: String,
        /// The time limit.
        limit: Duration,
        /// The error of the last attempt.
        last: String,
    },
    /// The controller replied with an error.
    #[error("{message}")]
    Refused {
        /// The controller's error id.
        id: String,
        /// The controller's message.
        message: String,
        /// The controller's hint.
        hint: Option<String>,
    },
    /// The controller did not reply in time.
    #[error("the controller did not answer {what} within {} ms", limit.as_millis())]
    Timeout {
        /// The request's type.
        what: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The node has too many pending requests.
    #[error("{limit} requests of this node wait for the controller already")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The connection was lost, and the node's settings disable reconnecting.
    #[error("the connection to the controller was lost, and `restart_on_disconnect` is off")]
    Lost,
    /// The node was detached before the reply arrived.
    #[error("the node was closed before the controller answered")]
    Closed,
    /// The control thread could not be started.
    #[error("the control connection could not be started: {0}")]
    Start(String),
}

impl ControlError {
    /// The stable id of this error; a refusal keeps the controller's id.
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

    /// How to fix the error, if the controller gave a hint.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            Self::Busy { .. } => Some("wait for the replies of some before making more"),
            _ => None,
        }
    }
}
