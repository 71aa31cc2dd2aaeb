//! Map errors of the native code to Python exception classes.
//!
//! The classes are defined in Python (`nextmini_py/errors.py`), where they can be read, pickled and caught without
//! the native module; this file contains only the mapping.

use nm_driver::config::ConfigError;
use nm_driver::node::NodeError;
use nm_driver::runtime::RuntimeError;
use nm_kernel::KernelError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The exception of a failed call on a node.
pub fn from_node(py: Python<'_>, error: &NodeError) -> PyErr {
    match error {
        NodeError::Config(error) => from_config(py, error),
        NodeError::Runtime(RuntimeError::Kernel(error)) => from_kernel(py, error),
        error => build(
            py,
            error.class(),
            error.id(),
            &error.to_string(),
            error.hint(),
            |details| match error.largest() {
                Some(largest) => details.set_item("largest", largest),
                None => Ok(()),
            },
        ),
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
