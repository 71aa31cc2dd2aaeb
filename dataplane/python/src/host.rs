//! Functions for a process that hosts nodes: namespaces, captures, and the controller's request for an agent.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

use nm_driver::node::agent_request;
use nm_kernel::namespace::{self, Setting};
use nm_kernel::KernelError;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::error;
use crate::waiting::PyWaker;

/// A new descriptor for the file of a descriptor that Python owns.
pub fn duplicate(descriptor: i32) -> PyResult<OwnedFd> {
    let path = format!("/proc/self/fd/{descriptor}");
    // The file is opened again rather than the number borrowed, which stays safe if Python closes its descriptor
    // meanwhile.
    std::fs::File::open(path)
        .map(OwnedFd::from)
        .map_err(|failure| {
            PyOSError::new_err((
                failure.raw_os_error(),
                format!("descriptor {descriptor} cannot be used"),
            ))
        })
}

fn kernel<T>(py: Python<'_>, result: Result<T, KernelError>) -> PyResult<T> {
    result.map_err(|failure| error::from_kernel(py, &failure))
}

/// Creates a network namespace with its loopback interface up; the caller owns the descriptor.
#[pyfunction]
pub fn create_namespace(py: Python<'_>) -> PyResult<i32> {
    kernel(py, py.detach(namespace::create)).map(IntoRawFd::into_raw_fd)
}

/// Creates a network namespace with settings and a UTS namespace with a host name; the caller owns the descriptors.
#[pyfunction]
pub fn create_machine(
    py: Python<'_>,
    hostname: &str,
    settings: Vec<(String, String, bool)>,
) -> PyResult<(i32, i32, Vec<String>)> {
    let settings: Vec<Setting> = settings
        .into_iter()
        .map(|(name, value, required)| Setting {
            name,
            value,
            required,
        })
        .collect();
    let made = kernel(
        py,
        py.detach(|| namespace::create_machine(hostname, &settings)),
    )?;
    Ok((
        made.network.into_raw_fd(),
        made.names.into_raw_fd(),
        made.refused,
    ))
}

/// Moves the calling thread into a UTS namespace.
#[pyfunction]
pub fn enter_names(py: Python<'_>, namespace_fd: i32) -> PyResult<()> {
    let namespace = duplicate(namespace_fd)?;
    kernel(py, namespace::enter_names(namespace.as_fd()))
}

/// Moves the calling thread into a network namespace.
#[pyfunction]
pub fn enter_namespace(py: Python<'_>, namespace_fd: i32) -> PyResult<()> {
    let namespace = duplicate(namespace_fd)?;
    kernel(py, namespace::enter(namespace.as_fd()))
}

/// Moves the process into a user namespace in which it is root.
#[pyfunction]
pub fn enter_user_namespace(py: Python<'_>) -> PyResult<()> {
    kernel(py, namespace::enter_user_namespace())
}

/// Gives the calling thread its own mount namespace and mounts `hosts_file` over `/etc/hosts` in it.
#[pyfunction]
pub fn unshare_mounts(py: Python<'_>, hosts_file: PathBuf) -> PyResult<()> {
    kernel(py, namespace::unshare_mounts())?;
    kernel(
        py,
        namespace::bind_mount(&hosts_file, std::path::Path::new("/etc/hosts")),
    )
}

/// Opens a socket at which local programs ask for captures of this process's nodes.
#[pyfunction]
pub fn serve_captures(path: PathBuf) -> PyResult<()> {
    nm_driver::capture::serve(&path).map_err(|failure| {
        let reason = failure.to_string();
        PyOSError::new_err((failure.raw_os_error(), reason, path))
    })
}

/// Whether the controller has requested an agent, which runs roles in this process.
#[pyfunction]
pub fn agent_requested() -> bool {
    agent_request::is_requested()
}

/// Wakes `waker` with `key` when the controller requests an agent.
#[pyfunction]
pub fn watch_agent_request(waker: &PyWaker, key: u64) {
    agent_request::signal().watch(key, waker.0.waker());
}
