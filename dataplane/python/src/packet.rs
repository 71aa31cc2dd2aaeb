//! Payload classes of Python: `PacketBuilder`, a growing buffer, and `PacketView`, an immutable view.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};

use crate::buffer::{export, hold, Shared};

/// Immutable bytes; a view of a view shares its memory.
#[pyclass(frozen, module = "nextmini_py", weakref)]
pub struct PacketView {
    bytes: Shared,
    start: usize,
    len: usize,
}

impl PacketView {
    /// A view of everything in `bytes`.
    pub fn whole(bytes: Shared) -> Self {
        let len = (*bytes).as_ref().len();
        PacketView {
            bytes,
            start: 0,
            len,
        }
    }

    /// A view of `len` bytes of `bytes` from `start` on; the caller guarantees that they exist.
    pub fn part(bytes: Shared, start: usize, len: usize) -> Self {
        PacketView { bytes, start, len }
    }

    /// The bytes of this view.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.start..self.start + self.len]
    }

    /// The bytes of this view as a shared owner for native use.
    pub fn share(&self) -> Shared {
        if self.start == 0 && self.len == (*self.bytes).as_ref().len() {
            return Arc::clone(&self.bytes);
        }
        Arc::new(Part {
            bytes: Arc::clone(&self.bytes),
            start: self.start,
            len: self.len,
        })
    }
}

struct Part {
    bytes: Shared,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.start..self.start + self.len]
    }
}

/// The bytes behind an argument: a `PacketView` or anything with the buffer protocol, without a copy.
pub fn payload(object: &Bound<'_, PyAny>) -> PyResult<Shared> {
    if let Ok(view) = object.cast::<PacketView>() {
        return Ok(view.get().share());
    }
    match hold(object) {
        Ok(exported) => Ok(exported.bytes),
        Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => {
            Err(PyTypeError::new_err(format!(
                "expected a PacketView or an object with the buffer protocol, got {}",
                object.get_type().name()?
            )))
        }
        Err(error) => Err(error),
    }
}

#[pymethods]
impl PacketView {
    #[new]
    fn new(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(view) = data.cast::<PacketView>() {
            let view = view.get();
            return Ok(Self::part(Arc::clone(&view.bytes), view.start, view.len));
        }
        let exported = hold(data)?;
        if exported.readonly {
            return Ok(Self::whole(exported.bytes));
        }
        // Copied, because the owner of a writable buffer may change it while the view exists.
        Ok(Self::whole(Arc::new((*exported.bytes).as_ref().to_vec())))
    }

    #[staticmethod]
    fn from_buffer(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        if data.cast::<PacketView>().is_ok() {
            return Self::new(data);
        }
        let exported = hold(data)?;
        Ok(Self::part(exported.bytes, 0, exported.len))
    }

    #[pyo3(signature = (start = 0, stop = None))]
    fn slice(&self, py: Python<'_>, start: isize, stop: Option<isize>) -> PyResult<Self> {
        let length = isize::try_from(self.len)?;
        let found = PySlice::new(py, start, stop.unwrap_or(length), 1).indices(length)?;
        let from = usize::try_from(found.start)?;
        Ok(Self::part(
            Arc::clone(&self.bytes),
            self.start + from,
            found.slicelength,
        ))
    }

    fn read<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.as_slice())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.read(py)
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<PacketView of {} bytes>", self.len)
    }

    #[allow(unsafe_code)] // the signature of the buffer slot is unsafe; `buffer` implements it
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.clone();
        // SAFETY: the interpreter passes `view` to the slot; the bytes exist as long as this frozen object.
        unsafe { export(slf.into_any(), this.get().as_slice(), view, flags) }
    }
}

/// Largest capacity in bytes that is reserved from the size hint; a larger buffer grows when bytes are written.
const LARGEST_HINT: usize = 64 << 20;

/// A buffer to which bytes are appended.
#[pyclass(module = "nextmini_py")]
pub struct PacketBuilder {
    bytes: Vec<u8>,
    size: usize,
}

#[pymethods]
impl PacketBuilder {
    #[new]
    #[pyo3(signature = (size = 4096))]
    fn new(size: usize) -> Self {
        PacketBuilder {
            bytes: Vec::new(),
            size,
        }
    }

    fn write(&mut self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let bytes = payload(data)?;
        let bytes = (*bytes).as_ref();
        if self.bytes.capacity() == 0 {
            self.bytes
                .reserve(self.size.min(LARGEST_HINT).max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn freeze(&mut self) -> PacketView {
        PacketView::whole(Arc::new(std::mem::take(&mut self.bytes)))
    }

    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    fn __repr__(&self) -> String {
        format!("<PacketBuilder with {} bytes>", self.bytes.len())
    }
}
