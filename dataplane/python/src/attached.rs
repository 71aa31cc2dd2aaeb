//! The classes `Connection` and `Thing`, on which Python builds the node of an attached program.

use std::sync::Arc;
use std::time::Duration;

use nm_driver::attach::client::{Outcome, Payload, Thing};
use nm_driver::attach::{wire, Client, NAME};
use nm_driver::Value;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::packet::{payload, PacketView};
use crate::receiver::PayloadDelivery;
use crate::waiting::PyWaker;
use crate::{convert, error};

/// The connection of an attached program to its node.
#[pyclass(frozen, module = "nextmini_py._native")]
pub struct Connection {
    client: Arc<Client>,
    node: Py<PyThing>,
    facts: Value,
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (name = NAME))]
    fn new(py: Python<'_>, name: &str) -> PyResult<Self> {
        let (client, node, facts) = py
            .detach(|| Client::connect(name))
            .map_err(|failure| error::from_node(py, &failure))?;
        Ok(Connection {
            client,
            node: Py::new(py, PyThing(node))?,
            facts,
        })
    }

    #[getter]
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::to_python(py, &self.facts)
    }

    #[getter]
    fn node(&self, py: Python<'_>) -> Py<PyThing> {
        self.node.clone_ref(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.client.is_closed()
    }

    fn close(&self) {
        self.client.close();
    }

    /// Makes a call by its name and arguments; see `nm_driver::attach::wire::Request`.
    #[pyo3(signature = (name, arguments, message = None, transfer = None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        arguments: &Bound<'py, PyDict>,
        message: Option<&Bound<'py, PyAny>>,
        transfer: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fields = convert::from_python(arguments)?;
        let request = Value::Map(vec![(Value::from(name), fields)]);
        let request = wire::Request::from_value(&request)
            .map_err(|failure| PyTypeError::new_err(format!("{name}: {failure}")))?;
        let bytes = message.or(transfer).map(payload).transpose()?;
        let is_message = message.is_some();
        let outcome = py.detach(|| {
            let payload = match &bytes {
                None => Payload::None,
                Some(bytes) if is_message => Payload::Message((**bytes).as_ref()),
                Some(bytes) => Payload::Transfer((**bytes).as_ref()),
            };
            self.client.call(request, &payload)
        });
        match outcome.map_err(|failure| error::from_node(py, &failure))? {
            Outcome::Value(value) => convert::to_python(py, &value),
            Outcome::Thing(thing) => Ok(PyThing(thing).into_pyobject(py)?.into_any()),
            Outcome::Messages(messages) => {
                let deliveries = messages.into_iter().map(PayloadDelivery::from);
                Ok(PyList::new(py, deliveries.collect::<Vec<_>>())?.into_any())
            }
            Outcome::Data(bytes) => {
                let view = PacketView::whole(Arc::new(bytes));
                Ok(view.into_pyobject(py)?.into_any())
            }
        }
    }
}

/// Something at the node that an attached program waits for.
#[pyclass(frozen, module = "nextmini_py._native", name = "Thing", weakref)]
pub struct PyThing(Arc<Thing>);

#[pymethods]
impl PyThing {
    #[getter]
    fn number(&self) -> u64 {
        self.0.number()
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }

    fn wait(&self, py: Python<'_>, seen: u64, limit_ms: u64) {
        py.detach(|| self.0.wait(seen, Duration::from_millis(limit_ms)));
    }

    fn watch(&self, py: Python<'_>, waker: &PyWaker, key: u64) -> PyResult<()> {
        waker
            .0
            .watch(key, &self.0)
            .map_err(|failure| error::from_kernel(py, &failure))
    }
}
