//! Map errors of the native code to Python exception classes.
//!
//! The classes are defined in Python (`nextmini_py/errors.py`), where they can be read, pickled and caught without
//! the native module; this file contains only the mapping.

use nm_driver::config::ConfigError;
use nm_driver::node::error::ControlError;
use nm_driver::node::NodeError;
use nm_driver::runtime::{PortError, RuntimeError};
use nm_engine::CommandError;
use nm_kernel::KernelError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The exception of a failed call on a node.
pub fn from_node(py: Python<'_>, error: &NodeError) -> PyErr {
    match error {
        NodeError::Config(error) => from_config(py, error),
        NodeError::Runtime(RuntimeError::Kernel(error)) => from_kernel(py, error),
        NodeError::Port(PortError::Command(CommandError::MessageTooLarge { max, .. })) => {
            let largest = |details: &Bound<'_, PyDict>| details.set_item("largest", *max);
            build(
                py,
                "MessageTooLarge",
                error.id(),
                &error.to_string(),
                error.hint(),
                largest,
            )
        }
        error => build(
            py,
            node_class(error),
            error.id(),
            &error.to_string(),
            error.hint(),
            |_| Ok(()),
        ),
    }
}

fn node_class(error: &NodeError) -> &'static str {
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
        _ => "InvalidArgument",
    }
}

/// The exception of a failed system call.
pub fn from_kernel(py: Python<'_>, error: &KernelError) -> PyErr {
    let (class, id) = match error {
        KernelError::NoTunDevice { .. } => ("TunMissing", "tun.missing"),
        KernelError::NoPermission { .. } => ("TunDenied", "tun.denied"),
        error => ("StartError", error.id()),
    };
    build(py, class, id, &error.to_string(), error.hint(), |_| Ok(()))
}

/// The exception of an invalid settings file.
pub fn from_config(py: Python<'_>, error: &ConfigError) -> PyErr {
    let first = error.first();
    build(
        py,
        "ConfigError",
        first.id,
        &error.to_string(),
        first.hint.as_deref(),
        |details| {
            details.set_item("file", error.file.display().to_string())?;
            details.set_item("line", first.line)?;
            details.set_item("column", first.column)?;
            details.set_item("key", first.key.as_deref())?;
            details.set_item("nearest", first.nearest.as_deref())?;
            let lines = error.problems.iter().map(|problem| error.line_for(problem));
            details.set_item("problems", PyList::new(details.py(), lines)?)
        },
    )
}

/// Builds the exception `class` with its message, its id and the fields that `fill` adds.
fn build(
    py: Python<'_>,
    class: &str,
    id: &str,
    message: &str,
    hint: Option<&str>,
    fill: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
) -> PyErr {
    let made = (|| {
        let details = PyDict::new(py);
        details.set_item("id", id)?;
        details.set_item("hint", hint)?;
        fill(&details)?;
        py.import("nextmini_py.errors")?
            .getattr(class)?
            .call((message,), Some(&details))
    })();
    made.map_or_else(|error| error, PyErr::from_value)
}
