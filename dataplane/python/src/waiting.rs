//! Blocking calls that release the GIL and can be interrupted, and waiting in an asyncio event loop.

use std::sync::Arc;
use std::time::Duration;

use nm_driver::attach::Watcher;
use nm_driver::node::{Deadline, NodeError, Pending, Signal};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error;

/// Interval at which the main thread checks for signals (Ctrl-C): below the delay that a person notices.
const MAIN_SLICE: Duration = Duration::from_millis(50);
/// Other threads get no signals from Python, so they wait without checks.
const SLICE: Duration = Duration::from_secs(3600);

/// Waits until `look` returns a value; `None` after `limit`. The interpreter lock is released meanwhile.
pub fn block<T>(
    py: Python<'_>,
    signal: &Signal,
    limit: Option<Duration>,
    mut look: impl FnMut() -> Result<Option<T>, NodeError>,
) -> PyResult<Option<T>> {
    let deadline = Deadline::after(limit);
    let mut slice = None;
    loop {
        let seen = signal.changes();
        match look() {
            Ok(None) => {}
            found => return found.map_err(|failure| error::from_node(py, &failure)),
        }
        if deadline.passed() {
            return Ok(None);
        }
        let slice = match slice {
            Some(slice) => slice,
            None => *slice.insert(if in_main_thread(py)? {
                MAIN_SLICE
            } else {
                SLICE
            }),
        };
        py.detach(|| signal.wait(seen, deadline.left(slice)));
        py.check_signals()?;
    }
}

/// Converts a time limit in milliseconds.
pub fn limit(timeout_ms: Option<u64>) -> Option<Duration> {
    timeout_ms.map(Duration::from_millis)
}

fn in_main_thread(py: Python<'_>) -> PyResult<bool> {
    static THREADING: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let threading = THREADING
        .get_or_try_init(py, || py.import("threading").map(Bound::unbind))?
        .bind(py);
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    main.eq(threading.call_method0("get_ident")?)
}

/// Wakes an event loop: a descriptor that becomes readable, and the keys of what changed.
#[pyclass(frozen, module = "nextmini_py._native", name = "Waker")]
pub struct PyWaker(pub Watcher);

#[pymethods]
impl PyWaker {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        Watcher::new()
            .map(PyWaker)
            .map_err(|failure| error::from_kernel(py, &failure))
    }

    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    fn take(&self) -> Vec<u64> {
        self.0.take()
    }
}

/// The controller's pending answer to a request.
#[pyclass(frozen, module = "nextmini_py._native", weakref)]
pub struct Answer(Kind);

enum Kind {
    Nothing(Arc<Pending<()>>),
    Edges(Arc<Pending<Vec<(u32, u32)>>>),
}

impl From<Arc<Pending<()>>> for Answer {
    fn from(pending: Arc<Pending<()>>) -> Self {
        Answer(Kind::Nothing(pending))
    }
}

impl From<Arc<Pending<Vec<(u32, u32)>>>> for Answer {
    fn from(pending: Arc<Pending<Vec<(u32, u32)>>>) -> Self {
        Answer(Kind::Edges(pending))
    }
}

impl Answer {
    fn signal(&self) -> &Signal {
        match &self.0 {
            Kind::Nothing(pending) => &pending.signal,
            Kind::Edges(pending) => &pending.signal,
        }
    }

    /// The list of edges, empty for an answer without one.
    fn look(&self) -> Result<Option<Vec<(u32, u32)>>, NodeError> {
        match &self.0 {
            Kind::Nothing(pending) => pending
                .take()
                .map(|result| result.map(|()| Vec::new()))
                .transpose(),
            Kind::Edges(pending) => pending.take().transpose(),
        }
    }
}

#[pymethods]
impl Answer {
    fn wait(&self, py: Python<'_>) -> PyResult<Vec<(u32, u32)>> {
        let found = block(py, self.signal(), None, || self.look())?;
        Ok(found.unwrap_or_default()) // without a limit the wait returns only with a value
    }

    fn poll(&self, py: Python<'_>) -> PyResult<Option<Vec<(u32, u32)>>> {
        self.look()
            .map_err(|failure| error::from_node(py, &failure))
    }

    fn watch(&self, waker: &PyWaker, key: u64) {
        self.signal().watch(key, waker.0.waker());
    }
}
