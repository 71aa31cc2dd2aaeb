//! Which class of Python's error tree an error belongs to, for programs in this process and attached ones alike.

use nm_engine::CommandError;

use super::error::{ControlError, NodeError};
use crate::runtime::PortError;

impl NodeError {
    /// The name of the class that a program handles the error by, as `nextmini_py.errors` defines it.
    pub fn class(&self) -> &str {
        match self {
            Self::Attached(failure) => &failure.class,
            error => class_of(error),
        }
    }

    /// The most bytes that one message may have, where a message was too large.
    pub fn largest(&self) -> Option<u64> {
        match self {
            Self::Port(PortError::Command(CommandError::MessageTooLarge { max, .. })) => {
                Some(*max as u64)
            }
            Self::Attached(failure) => failure.largest,
            _ => None,
        }
    }
}

fn class_of(error: &NodeError) -> &'static str {
    match error {
        NodeError::Config(_) => "ConfigError",
        NodeError::Runtime(_) => "StartError",
        NodeError::Control(error) => control_class(error),
        NodeError::Port(PortError::Command(error)) => command_class(error),
        NodeError::Port(PortError::Closed) | NodeError::Closed(_) | NodeError::ReceiverClosed => {
            "NodeClosed"
        }
        NodeError::Argument { .. } => "InvalidArgument",
        NodeError::Unfetched(_) => "Unfetched",
        NodeError::UnknownGroup(_) => "UnknownGroup",
        NodeError::UnknownSession(_) => "UnknownSession",
        NodeError::NoData { .. } => "NoData",
        NodeError::Timeout { .. } => "RequestTimeout",
        _ => "InternalError",
    }
}

fn control_class(error: &ControlError) -> &'static str {
    match error {
        ControlError::Unreachable { .. } | ControlError::Lost => "ControllerUnreachable",
        ControlError::Timeout { .. } => "RequestTimeout",
        ControlError::Closed => "NodeClosed",
        ControlError::Start(_) => "StartError",
        ControlError::Refused { id, .. } => match id.as_str() {
            "control.token" => "TokenRefused",
            "protocol.version" => "ProtocolMismatch",
            "group.unknown" => "UnknownGroup",
            "node.unknown" => "UnknownNode",
            id if id.starts_with("tree.") || id.starts_with("group.tree") => "TreeRefused",
            _ => "ControllerError",
        },
        _ => "ControllerError",
    }
}

fn command_class(error: &CommandError) -> &'static str {
    match error {
        CommandError::UnknownGroup(_) | CommandError::UnknownGroupAddress(_) => "UnknownGroup",
        CommandError::UnknownLink(_)
        | CommandError::UnknownAddress(_)
        | CommandError::NoRoute(_) => "UnknownNode",
        CommandError::UnknownSession(_) => "UnknownSession",
        CommandError::MessageTooLarge { .. } => "MessageTooLarge",
        _ => "InvalidArgument",
    }
}
