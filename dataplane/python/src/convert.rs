//! Convert plain values of the driver to Python objects, and back.

use nm_driver::node::state::KnownGroup;
use nm_driver::Value;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// `(group_id, group_ip, src_node_id)`.
pub fn group(group: KnownGroup) -> (u32, String, u32) {
    (
        group.group_id,
        group.group_ip.to_string(),
        group.src_node_id,
    )
}

/// The Python object of a value: maps become dictionaries.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Nil => py.None().into_bound(py),
        Value::Boolean(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Integer(number) => match number.as_u64() {
            Some(number) => number.into_pyobject(py)?.into_any(),
            None => number.as_i64().into_pyobject(py)?.into_any(),
        },
        Value::F32(number) => f64::from(*number).into_pyobject(py)?.into_any(),
        Value::F64(number) => number.into_pyobject(py)?.into_any(),
        Value::String(text) => PyString::new(py, text.as_str().unwrap_or_default()).into_any(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => {
            bytes.as_slice().into_pyobject(py)?.into_any()
        }
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(to_python(py, value)?)?;
            }
            list.into_any()
        }
        Value::Map(pairs) => dictionary(py, pairs)?.into_any(),
    })
}

fn dictionary<'py>(py: Python<'py>, pairs: &[(Value, Value)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in pairs {
        dict.set_item(to_python(py, key)?, to_python(py, value)?)?;
    }
    Ok(dict)
}

/// The value of a Python object made of dictionaries, lists, tuples, text and numbers.
pub fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if object.is_none() {
        return Ok(Value::Nil);
    }
    if object.is_instance_of::<PyBool>() {
        return Ok(Value::from(object.extract::<bool>()?));
    }
    if object.is_instance_of::<PyInt>() {
        return Ok(match object.extract::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(object.extract::<i64>()?),
        });
    }
    if object.is_instance_of::<PyFloat>() {
        return Ok(Value::from(object.extract::<f64>()?));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::from(text.extract::<String>()?));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::from(bytes.as_bytes()));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let pair = |(key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Ok((from_python(&key)?, from_python(&value)?))
        };
        return Ok(Value::Map(dict.iter().map(pair).collect::<PyResult<_>>()?));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let items = object.try_iter()?;
        return Ok(Value::Array(
            items
                .map(|item| from_python(&item?))
                .collect::<PyResult<_>>()?,
        ));
    }
    // Numbers of other libraries, such as numpy's.
    object.call_method0("__index__").map_or_else(
        |_| {
            Err(PyTypeError::new_err(format!(
                "expected a number, a text or a list, got {}",
                object.get_type().name()?
            )))
        },
        |number| from_python(&number),
    )
}
