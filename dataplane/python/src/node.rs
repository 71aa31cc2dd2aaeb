//! The class `Node` of Python, which `Dataplane` wraps: converts arguments and results of the driver's calls.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nm_driver::attach;
use nm_driver::config::NodeSettings;
use nm_driver::node::{values, Node, NodeError, NodeEvent, Options, SEND_WAIT};
use nm_engine::{SharedBytes, Target};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::packet::{payload, PacketView};
use crate::receiver::PyReceiver;
use crate::waiting::{block, limit, Answer, PyWaker};
use crate::{buffer, convert, error, host};

/// A node in this process.
#[pyclass(frozen, module = "nextmini_py._native", name = "Node", weakref)]
pub struct PyNode(Arc<Node>);

/// Runs `call` without the interpreter lock and converts its error.
fn call<T: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> Result<T, NodeError> + Send,
) -> PyResult<T> {
    py.detach(call)
        .map_err(|failure| error::from_node(py, &failure))
}

fn address(text: &str) -> PyResult<Ipv4Addr> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("{text:?} is not an IPv4 address")))
}

/// An event's kind and details.
pub type Event<'py> = (&'static str, Bound<'py, PyAny>);

fn event<'py>(py: Python<'py>, event: &NodeEvent) -> PyResult<Event<'py>> {
    let (kind, details) = values::event(event);
    Ok((kind, convert::to_python(py, &details)?))
}

#[pymethods]
impl PyNode {
    #[new]
    #[pyo3(signature = (config_path, enable_local_interface = false, namespace_fd = None))]
    fn new(
        py: Python<'_>,
        config_path: PathBuf,
        enable_local_interface: bool,
        namespace_fd: Option<i32>,
    ) -> PyResult<Self> {
        let namespace: Option<OwnedFd> = namespace_fd.map(host::duplicate).transpose()?;
        call(py, || {
            let settings = NodeSettings::load(&config_path)?;
            Node::start(
                settings,
                Options {
                    enable_local_interface,
                    namespace,
                },
            )
            .map(|node| PyNode(Arc::new(node)))
        })
    }

    fn registration(&self) -> Answer {
        Arc::clone(self.0.registration()).into()
    }

    #[getter]
    fn node_id(&self) -> u32 {
        self.0.settings().node_id
    }

    #[getter]
    fn controller_token(&self) -> &str {
        &self.0.settings().controller_token.0
    }

    #[getter]
    fn offload(&self) -> String {
        self.0.offload()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Lets programs of the node's network namespace attach under an abstract name.
    #[pyo3(signature = (name, namespace_fd = None))]
    fn serve(&self, py: Python<'_>, name: &str, namespace_fd: Option<i32>) -> PyResult<()> {
        let namespace: Option<OwnedFd> = namespace_fd.map(host::duplicate).transpose()?;
        py.detach(|| attach::serve(&self.0, name, namespace.as_ref().map(AsFd::as_fd)))
            .map_err(|failure| error::from_kernel(py, &failure))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
        buffer::release_pending(py);
    }

    fn set_paused(&self, py: Python<'_>, paused: bool) -> PyResult<()> {
        call(py, || self.0.set_paused(paused))
    }

    fn watch(&self, waker: &PyWaker, key: u64) {
        self.0.signal().watch(key, waker.0.waker());
    }

    fn network_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = PyDict::new(py);
        for (name, value) in self.0.network_info() {
            info.set_item(name, value)?;
        }
        Ok(info)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let statistics = call(py, || self.0.statistics())?;
        convert::to_python(py, &values::statistics(&statistics))
    }

    // ---- waiting: for each condition a query and a wait

    fn topology_ready(&self, py: Python<'_>) -> PyResult<bool> {
        self.open(py, self.0.topology_ready().then_some(()))
            .map(|found| found.is_some())
    }

    #[pyo3(signature = (timeout_ms = None))]
    fn wait_for_topology_ready(&self, py: Python<'_>, timeout_ms: Option<u64>) -> PyResult<bool> {
        self.wait(py, timeout_ms, || self.0.topology_ready().then_some(()))
            .map(|found| found.is_some())
    }

    #[pyo3(signature = (label = None))]
    fn group(&self, py: Python<'_>, label: Option<&str>) -> PyResult<Option<(u32, String, u32)>> {
        Ok(self.open(py, self.0.group(label))?.map(convert::group))
    }

    #[pyo3(signature = (timeout_ms = None, label = None))]
    fn wait_for_group(
        &self,
        py: Python<'_>,
        timeout_ms: Option<u64>,
        label: Option<&str>,
    ) -> PyResult<Option<(u32, String, u32)>> {
        Ok(self
            .wait(py, timeout_ms, || self.0.group(label))?
            .map(convert::group))
    }

    fn is_member(&self, py: Python<'_>, group_id: u32) -> PyResult<bool> {
        self.open(py, self.0.is_member(group_id).then_some(()))
            .map(|found| found.is_some())
    }

    #[pyo3(signature = (group_id, timeout_ms = None))]
    fn wait_for_local_membership(
        &self,
        py: Python<'_>,
        group_id: u32,
        timeout_ms: Option<u64>,
    ) -> PyResult<bool> {
        self.wait(py, timeout_ms, || self.0.is_member(group_id).then_some(()))
            .map(|found| found.is_some())
    }

    fn group_routes(&self, py: Python<'_>, group_id: u32, src_node_id: u32) -> PyResult<u32> {
        let routes = self.0.group_routes(group_id, src_node_id);
        self.open(py, (routes > 0).then_some(routes))
            .map(|found| found.unwrap_or(0))
    }

    #[pyo3(signature = (group_id, src_node_id, min_routes = 1, timeout_ms = None))]
    fn wait_for_group_routes(
        &self,
        py: Python<'_>,
        group_id: u32,
        src_node_id: u32,
        min_routes: u32,
        timeout_ms: Option<u64>,
    ) -> PyResult<bool> {
        let enough = || (self.0.group_routes(group_id, src_node_id) >= min_routes).then_some(());
        self.wait(py, timeout_ms, enough)
            .map(|found| found.is_some())
    }

    fn event<'py>(&self, py: Python<'py>) -> PyResult<Option<Event<'py>>> {
        let found = self.open(py, self.0.next_event())?;
        found.map(|found| event(py, &found)).transpose()
    }

    #[pyo3(signature = (timeout_ms = None))]
    fn wait_for_event<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: Option<u64>,
    ) -> PyResult<Option<Event<'py>>> {
        let found = self.wait(py, timeout_ms, || self.0.next_event())?;
        found.map(|found| event(py, &found)).transpose()
    }

    // ---- requests

    fn create_group(&self, py: Python<'_>, label: &str) -> PyResult<Answer> {
        call(py, || self.0.create_group(label)).map(Answer::from)
    }

    fn join_group(&self, py: Python<'_>, group_id: u32, wait_ms: u64) -> PyResult<Answer> {
        call(py, || {
            self.0.join_group(group_id, Duration::from_millis(wait_ms))
        })
        .map(Answer::from)
    }

    fn leave_group(&self, py: Python<'_>, group_id: u32) -> PyResult<()> {
        call(py, || self.0.leave_group(group_id))
    }

    fn set_group_routes(
        &self,
        py: Python<'_>,
        group_id: u32,
        edges: Vec<(u32, u32)>,
    ) -> PyResult<Answer> {
        call(py, || self.0.set_group_routes(group_id, edges)).map(Answer::from)
    }

    fn set_group_routes_multi(
        &self,
        py: Python<'_>,
        group_id: u32,
        trees: Vec<(u16, Vec<(u32, u32)>)>,
    ) -> PyResult<Answer> {
        call(py, || self.0.set_group_routes_multi(group_id, trees)).map(Answer::from)
    }

    fn compute_group_routes(
        &self,
        py: Python<'_>,
        group_id: u32,
        receivers: Vec<u32>,
        kind: &str,
    ) -> PyResult<Answer> {
        call(py, || {
            self.0.compute_group_routes(group_id, receivers, kind)
        })
        .map(Answer::from)
    }

    fn group_address(&self, group_id: u32) -> Option<String> {
        self.0
            .group_address(group_id)
            .map(|address| address.to_string())
    }

    // ---- messages

    #[pyo3(signature = (src_node_id, group_ip = None, src_port = None, dst_port = None))]
    fn register_receiver(
        &self,
        py: Python<'_>,
        src_node_id: u32,
        group_ip: Option<&str>,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    ) -> PyResult<PyReceiver> {
        let group = group_ip.map(address).transpose()?;
        call(py, || {
            self.0
                .register_receiver(src_node_id, group, src_port, dst_port)
        })
        .map(PyReceiver)
    }

    #[pyo3(signature = (dst_node_id, frozen, src_port = None, dst_port = None))]
    fn send_to_node(
        &self,
        py: Python<'_>,
        dst_node_id: u32,
        frozen: &Bound<'_, PyAny>,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    ) -> PyResult<u64> {
        let target = || Ok(Target::Node(dst_node_id));
        self.send_message(py, target, frozen, (src_port, dst_port))
    }

    #[pyo3(signature = (group_id, frozen, src_port = None, dst_port = None))]
    fn send_to_group(
        &self,
        py: Python<'_>,
        group_id: u32,
        frozen: &Bound<'_, PyAny>,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    ) -> PyResult<u64> {
        let target = || self.0.group_target(group_id);
        self.send_message(py, target, frozen, (src_port, dst_port))
    }

    // ---- lossless transfers

    fn send_data(
        &self,
        py: Python<'_>,
        group_id: u32,
        dest_ip: &str,
        receiver_ids: Vec<u32>,
        buffer: &Bound<'_, PyAny>,
        chunk_size: u64,
    ) -> PyResult<u64> {
        let (dest, data) = (address(dest_ip)?, SharedBytes::from_arc(payload(buffer)?));
        call(py, || {
            self.0
                .send_data(group_id, dest, receiver_ids, data, chunk_size)
        })
    }

    fn receive_data(
        &self,
        py: Python<'_>,
        group_id: u32,
        dest_ip: &str,
        source_node_id: u32,
        expected_bytes: u64,
        chunk_size: u64,
    ) -> PyResult<u64> {
        let dest = address(dest_ip)?;
        call(py, || {
            self.0
                .receive_data(group_id, dest, source_node_id, expected_bytes, chunk_size)
        })
    }

    fn session_done(&self, py: Python<'_>, session_id: u64) -> PyResult<Option<bool>> {
        let state = self
            .0
            .session_state(session_id)
            .map_err(|failure| error::from_node(py, &failure))?;
        Ok(state.map(|state| state == nm_engine::SessionState::Complete))
    }

    #[pyo3(signature = (session_id, timeout_ms = None))]
    fn lossless_wait(
        &self,
        py: Python<'_>,
        session_id: u64,
        timeout_ms: Option<u64>,
    ) -> PyResult<bool> {
        let state = block(py, self.0.signal(), limit(timeout_ms), || {
            self.0.session_state(session_id)
        })?;
        buffer::release_pending(py);
        Ok(state == Some(nm_engine::SessionState::Complete))
    }

    fn session_report<'py>(&self, py: Python<'py>, session_id: u64) -> PyResult<Bound<'py, PyAny>> {
        let report = call(py, || self.0.session_report(session_id))?;
        convert::to_python(py, &values::report(&report))
    }

    fn session_data(&self, py: Python<'_>, session_id: u64, consume: bool) -> PyResult<PacketView> {
        let data = call(py, || self.0.session_data(session_id, consume))?;
        Ok(PacketView::whole(data))
    }

    fn cancel_session(&self, py: Python<'_>, session_id: u64) -> PyResult<()> {
        call(py, || self.0.cancel_session(session_id))
    }
}

impl PyNode {
    /// Returns `found`, or the error of a closed node.
    fn open<T>(&self, py: Python<'_>, found: Option<T>) -> PyResult<Option<T>> {
        self.found(found)
            .map_err(|failure| error::from_node(py, &failure))
    }

    fn found<T>(&self, found: Option<T>) -> Result<Option<T>, NodeError> {
        if found.is_none() && self.0.is_closed() {
            return Err(NodeError::Closed(self.0.settings().node_id));
        }
        Ok(found)
    }

    /// Sends a message to a target that is looked up once the node may send.
    fn send_message(
        &self,
        py: Python<'_>,
        target: impl FnOnce() -> Result<Target, NodeError> + Send,
        frozen: &Bound<'_, PyAny>,
        (src_port, dst_port): (Option<u16>, Option<u16>),
    ) -> PyResult<u64> {
        let payload = SharedBytes::from_arc(payload(frozen)?);
        self.wait_to_send(py)?;
        call(py, || {
            self.0.send_message(target()?, payload, src_port, dst_port)
        })
    }

    fn wait_to_send(&self, py: Python<'_>) -> PyResult<()> {
        if !self.0.may_send() {
            let look = || self.found(self.0.topology_ready().then_some(()));
            block(py, self.0.signal(), Some(SEND_WAIT), look)?;
            self.0.end_send_wait();
        }
        Ok(())
    }

    fn wait<T>(
        &self,
        py: Python<'_>,
        timeout_ms: Option<u64>,
        look: impl Fn() -> Option<T>,
    ) -> PyResult<Option<T>> {
        block(py, self.0.signal(), limit(timeout_ms), || {
            self.found(look())
        })
    }
}
