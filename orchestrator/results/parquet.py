"""Rows as a Parquet table, with the type of each column found from its values.

    true, false            bool
    integers               int64; uint64 where one is above its range
    integers and floats    double
    texts                  string
    nothing but null       null
    anything else          string: lists and maps as JSON, and whatever stands beside them as in `rows.csv`

pyarrow is imported when a table is written: it takes longer to load than all of `nm --help`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["columns", "parquet_bytes"]

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key of any row, in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def parquet_bytes(
    rows: Sequence[Mapping[str, Any]], stop: Callable[[], bool] = lambda: False
) -> bytes | None:
    """Return rows as the bytes of a Parquet file, one column per key; None when told to stop.

    Args:
        rows: What roles reported.
        stop: Asked between columns.
    """
    import pyarrow
    import pyarrow.parquet

    names, arrays = columns(rows), []
    for name in names:
        if stop():
            return None
        arrays.append(_array([row.get(name) for row in rows]))
    table = pyarrow.Table.from_arrays(arrays, names=[_storable(name) for name in names])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _array(values: list[Any]) -> Any:
    import pyarrow

    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return pyarrow.array(values, pyarrow.null())
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds == {int}:
        if all(value in _INT64 for value in present):
            return pyarrow.array(values, pyarrow.int64())
        if all(value in _UINT64 for value in present):
            return pyarrow.array(values, pyarrow.uint64())
    elif kinds <= {int, float}:
        return pyarrow.array([None if v is None else float(v) for v in values], pyarrow.float64())
    return pyarrow.array([None if v is None else _text(v) for v in values], pyarrow.string())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, bool | dict | list):
        return json.dumps(value, default=str)
    return str(value)


def _storable(text: str) -> str:
    """The text without lone surrogates, which are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
