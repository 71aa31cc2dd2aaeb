//! Buffers shared with Python: Python buffers read by native threads, and native bytes exported to Python.
//!
//! The two operations that need `unsafe` are in this file: the buffer slot of a class, and reading a Python buffer
//! through its pointer.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Immutable bytes that several owners share.
pub type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The memory of a Python object, referenced as long as native code reads it.
///
/// Releasing a Python buffer needs the interpreter lock, and the last owner is often a thread of the packet path,
/// which must never wait for that lock. The buffer is therefore added to a list, and the next Python call that uses
/// buffers releases it ([`release_pending`]).
struct BufferOwner {
    buffer: Option<PyUntypedBuffer>,
}

static PUT_ASIDE: Mutex<Vec<PyUntypedBuffer>> = Mutex::new(Vec::new());

impl AsRef<[u8]> for BufferOwner {
    fn as_ref(&self) -> &[u8] {
        let Some(buffer) = &self.buffer else {
            return &[];
        };
        if buffer.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the buffer is C-contiguous (checked in `hold`) and its exporter keeps `len_bytes` bytes at
        // `buf_ptr` readable until the buffer is released, which happens after `self` is dropped. A writable exporter
        // can change the bytes meanwhile; the documentation of the Python calls forbids it, and such a program sends
        // other bytes, as with any system call that reads a buffer.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
    }
}

impl Drop for BufferOwner {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            PUT_ASIDE
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(buffer);
        }
    }
}

/// Releases the Python buffers that native threads no longer use.
pub fn release_pending(py: Python<'_>) {
    let buffers = std::mem::take(&mut *PUT_ASIDE.lock().unwrap_or_else(PoisonError::into_inner));
    for buffer in buffers {
        buffer.release(py);
    }
}

/// Shared memory of an object, and its properties.
pub struct Exported {
    /// The memory.
    pub bytes: Shared,
    /// Its length.
    pub len: usize,
    /// Whether the exporter declared it read-only.
    pub readonly: bool,
}

/// Shares the memory of any object with the buffer protocol, without a copy.
pub fn hold(object: &Bound<'_, PyAny>) -> PyResult<Exported> {
    release_pending(object.py());
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err(
            "the buffer is not contiguous; make a contiguous copy first",
        ));
    }
    let (len, readonly) = (buffer.len_bytes(), buffer.readonly());
    Ok(Exported {
        bytes: Arc::new(BufferOwner {
            buffer: Some(buffer),
        }),
        len,
        readonly,
    })
}

/// Fills the buffer slot of `owner` with `bytes`, read-only.
///
/// # Safety
///
/// `view` must be the pointer that the interpreter passed to the slot, and `bytes` must belong to `owner` and not
/// move while `owner` exists: the interpreter keeps a reference to `owner` in the view.
pub unsafe fn export(
    owner: Bound<'_, PyAny>,
    bytes: &[u8],
    view: *mut ffi::Py_buffer,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    let len = isize::try_from(bytes.len())
        .map_err(|_| PyBufferError::new_err("too large for a buffer"))?;
    // SAFETY: the caller guarantees it; the function sets `view.obj` to null when it fails.
    let done = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            owner.as_ptr(),
            bytes.as_ptr().cast_mut().cast(),
            len,
            1,
            flags,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(owner.py()))
    }
}
