"""Test rows as Parquet tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from orchestrator.clock import ManualClock
from orchestrator.results import ResultsFolder
from orchestrator.results.parquet import parquet_bytes


def read(rows: list[dict[str, Any]]) -> Any:
    data = parquet_bytes(rows)
    assert data is not None
    return pyarrow.parquet.read_table(io.BytesIO(data))


@pytest.mark.parametrize(
    ("values", "type", "kept"),
    [
        ([True, False], "bool", [True, False]),
        ([1, -(2**63)], "int64", [1, -(2**63)]),
        ([1, 2**64 - 1], "uint64", [1, 2**64 - 1]),
        ([-1, 2**64 - 1], "string", ["-1", str(2**64 - 1)]),
        ([1, 0.5], "double", [1.0, 0.5]),
        (["a", "é"], "string", ["a", "é"]),
        ([None, None], "null", [None, None]),
        ([1, True], "string", ["1", "true"]),
        ([1, "a"], "string", ["1", "a"]),
        ([[1, 2], {"a": None}], "string", ["[1, 2]", '{"a": null}']),
        (["a\ud800", "b"], "string", ["a\\ud800", "b"]),
    ],
)
def test_the_type_of_a_column_follows_from_its_values(values: list[Any], type: str, kept: list[Any]) -> None:
    table = read([{"x": value} for value in values] + [{"y": 1}])
    assert str(table.schema.field("x").type) == type
    assert table["x"].to_pylist() == [*kept, None]


def test_no_rows_are_a_table_without_columns() -> None:
    table = read([])
    assert (table.num_rows, table.num_columns) == (0, 0)


def test_the_end_of_a_run_writes_the_table_beside_the_others(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock(), files={"scenario/lib/a.py": b"x = 1\n"})
    folder.row(1, "a", {"n": 1})
    folder.write_tables()
    assert not (tmp_path / "rows.parquet").exists()
    folder.write_last_tables()
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist() == [
        {"node": 1, "role": "a", "n": 1}
    ]
    assert (tmp_path / "scenario/lib/a.py").read_bytes() == b"x = 1\n"
    assert folder.trouble == ""


def test_a_table_that_nobody_waits_for_is_not_written(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    folder.row(1, "a", {"n": 1})
    folder.write_last_tables(lambda: True)
    assert not (tmp_path / "rows.parquet").exists() and not list(tmp_path.glob(".*"))
