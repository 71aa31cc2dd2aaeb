//! The classes `Receiver`, which `PacketReceiver` wraps, and `PayloadDelivery`.

use std::sync::Arc;

use nm_driver::node::receiver::Message;
use nm_driver::node::{NodeError, Receiver};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::packet::PacketView;
use crate::waiting::{block, limit, PyWaker};
use crate::{buffer, error};

/// A registered flow.
#[pyclass(frozen, module = "nextmini_py._native", name = "Receiver", weakref)]
pub struct PyReceiver(pub Receiver);

impl PyReceiver {
    /// The next message, if any; an error when the receiver is closed and empty.
    fn look(&self) -> Result<Option<Message>, NodeError> {
        let queue = self.0.queue();
        let found = queue.pop();
        if found.is_none() && queue.is_closed() {
            return Err(NodeError::ReceiverClosed);
        }
        Ok(found)
    }
}

#[pymethods]
impl PyReceiver {
    #[pyo3(signature = (timeout_ms = None))]
    fn recv(&self, py: Python<'_>, timeout_ms: Option<u64>) -> PyResult<Option<PayloadDelivery>> {
        let queue = self.0.queue();
        let found = block(py, &queue.signal, limit(timeout_ms), || self.look())?;
        Ok(found.map(PayloadDelivery::from))
    }

    #[pyo3(signature = (limit_messages = 256, timeout_ms = None))]
    fn recv_batch<'py>(
        &self,
        py: Python<'py>,
        limit_messages: usize,
        timeout_ms: Option<u64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let queue = self.0.queue();
        let look = || {
            let found = queue.pop_many(limit_messages);
            if !found.is_empty() {
                return Ok(Some(found));
            }
            if queue.is_closed() {
                Err(NodeError::ReceiverClosed)
            } else {
                Ok(None)
            }
        };
        let found = block(py, &queue.signal, limit(timeout_ms), look)?;
        PyList::new(
            py,
            found
                .unwrap_or_default()
                .into_iter()
                .map(PayloadDelivery::from),
        )
    }

    fn poll(&self, py: Python<'_>) -> PyResult<Option<PayloadDelivery>> {
        let found = self
            .look()
            .map_err(|failure| error::from_node(py, &failure))?;
        Ok(found.map(PayloadDelivery::from))
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.0.queue().dropped()
    }

    fn close(&self, py: Python<'_>) {
        buffer::release_pending(py);
        self.0.close();
    }

    fn watch(&self, waker: &PyWaker, key: u64) {
        self.0.queue().signal.watch(key, waker.0.waker());
    }
}

/// A received message.
#[pyclass(frozen, module = "nextmini_py")]
pub struct PayloadDelivery(Arc<Message>);

impl From<Message> for PayloadDelivery {
    fn from(message: Message) -> Self {
        PayloadDelivery(Arc::new(message))
    }
}

#[pymethods]
impl PayloadDelivery {
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, (*self.0).as_ref())
    }

    #[getter]
    fn frozen_payload(&self) -> PacketView {
        PacketView::whole(Arc::clone(&self.0) as _)
    }

    #[getter]
    fn src_ip(&self) -> String {
        self.0.src_ip.to_string()
    }

    #[getter]
    fn dst_ip(&self) -> String {
        self.0.dst_ip.to_string()
    }

    #[getter]
    fn src_port(&self) -> u16 {
        self.0.src_port
    }

    #[getter]
    fn dst_port(&self) -> u16 {
        self.0.dst_port
    }

    #[getter]
    fn flow_id(&self) -> u64 {
        self.0.flow_id
    }

    #[getter]
    fn message_id(&self) -> u64 {
        self.0.message_id
    }

    fn __len__(&self) -> usize {
        (*self.0).as_ref().len()
    }

    fn __repr__(&self) -> String {
        let Message {
            src_ip,
            src_port,
            dst_ip,
            dst_port,
            message_id,
            ..
        } = &*self.0;
        let len = (*self.0).as_ref().len();
        format!("<PayloadDelivery {message_id}: {len} bytes, {src_ip}:{src_port} to {dst_ip}:{dst_port}>")
    }
}
