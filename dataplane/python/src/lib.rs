//! `nextmini_py._native`: the seam between Python and the node.
//!
//! It converts arguments, lets go of the interpreter lock, calls the driver and translates errors. It decides
//! nothing: what a call means is written down in the driver, what it promises to users in `nextmini_py`.

mod buffer;
mod error;
mod host;
mod node;
mod packet;
mod receiver;
mod shapes;
mod waiting;

use std::path::PathBuf;

use nm_driver::config::NodeSettings;
use pyo3::prelude::*;

/// Reads a node's settings and complains as opening the node would, without starting anything.
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
    module.add_function(wrap_pyfunction!(check_config, module)?)?;
    module.add_function(wrap_pyfunction!(host::create_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::create_machine, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_names, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::enter_user_namespace, module)?)?;
    module.add_function(wrap_pyfunction!(host::unshare_mounts, module)?)?;
    module.add_function(wrap_pyfunction!(host::agent_requested, module)?)?;
    module.add_function(wrap_pyfunction!(host::watch_agent_request, module)?)
}
