//! `nextmini_py._native`: Python bindings of the node.
//!
//! The bindings convert arguments, release the interpreter lock, call the driver and convert errors. They contain no
//! logic: the driver documents the calls, `nextmini_py` the public API.

mod attached;
mod buffer;
mod convert;
mod error;
mod host;
mod node;
mod packet;
mod receiver;
mod simulation;
mod waiting;

use std::path::PathBuf;

use nm_driver::config::NodeSettings;
use pyo3::prelude::*;

/// Validates the settings of a node, with the same errors as opening it, without starting anything.
#[pyfunction]
fn check_config(py: Python<'_>, path: PathBuf) -> PyResult<u32> {
    NodeSettings::load(&path)
        .map(|settings| settings.node_id)
        .map_err(|e| error::from_config(py, &e))
}

#[pymodule]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("MAX_MESSAGE", nm_engine::MAX_MESSAGE)?;
    module.add("JOIN_WAIT_MS", nm_driver::node::JOIN_WAIT.as_millis())?;
    module.add_class::<packet::PacketView>()?;
    module.add_class::<packet::PacketBuilder>()?;
    module.add_class::<receiver::PayloadDelivery>()?;
    module.add_class::<receiver::PyReceiver>()?;
    module.add_class::<waiting::PyWaker>()?;
    module.add_class::<waiting::Answer>()?;
    module.add_class::<node::PyNode>()?;
    module.add("ATTACH_NAME", nm_driver::attach::NAME)?;
    module.add("SEND_WAIT_MS", nm_driver::node::SEND_WAIT.as_millis())?;
    module.add_class::<attached::Connection>()?;
    module.add_class::<attached::PyThing>()?;
    module.add_class::<simulation::PySimulation>()?;
    module.add_function(wrap_pyfunction!(check_config, module)?)?;
    module.add_function(wrap_pyfunction!(host::create_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::create_machine, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_names, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_user_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::unshare_mounts, module)?)?;
    module.add_function(wrap_pyfunction!(host::serve_captures, module)?)?;
    module.add_function(wrap_pyfunction!(host::agent_requested, module)?)?;
    module.add_function(wrap_pyfunction!(host::watch_agent_request, module)?)
}
