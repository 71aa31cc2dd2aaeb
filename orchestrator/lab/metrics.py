"""`AsyncMetrics` and `Metrics`: the counters of nodes, links and flows of a lab that is up."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import UnitInvalid, UsageError
from orchestrator.lab import loop_thread
from orchestrator.lab.operator import ANSWER_S, operator
from orchestrator.protocol.messages import GetMetricRows, GetMetrics, MetricRows, MetricsState, NodeMetrics
from orchestrator.units import parse_duration

__all__ = ["TABLES", "AsyncMetrics", "Metrics", "MetricsSnapshot"]

TableName = Literal["links", "flows", "nodes", "groups", "sessions", "app-flows", "route-changes"]
TABLES: tuple[TableName, ...] = (
    "links",
    "flows",
    "nodes",
    "groups",
    "sessions",
    "app-flows",
    "route-changes",
)
"""The tables of metrics in Postgres."""

_TEXTS = frozenset({"drops", "name", "flow_id", "role", "state"})
"""Columns that hold text; `drops` holds JSON. All others hold integers."""


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The newest counters of all nodes.

    Attributes:
        state: How metrics are collected.
        nodes: By node; nodes that have reported nothing yet are missing.
    """

    state: MetricsState
    nodes: Mapping[int, NodeMetrics]


@dataclass(frozen=True)
class AsyncMetrics:
    """Counters of nodes, links, flows, groups and sessions, and their history in Postgres."""

    directory: LabDirectory
    state: LabState

    async def snapshot(self) -> MetricsSnapshot:
        """Return the newest counters of all nodes, with the rates between the last two reports.

        Raises:
            ControllerUnreachable: The controller does not answer.
        """
        async with operator(self.directory, self.state) as connection:
            reply = await connection.connection.request(GetMetrics(), within=ANSWER_S)
            frames = connection.connection.take()
        assert isinstance(reply, MetricsState), "the controller answers a request with its reply"
        nodes = {frame.node: frame.message for frame in frames if isinstance(frame.message, NodeMetrics)}
        return MetricsSnapshot(reply, nodes)

    async def pages(self, table: TableName, last: float | str | None = None) -> AsyncIterator[MetricRows]:
        """Yield the rows of a table, oldest first, some at a time.

        Args:
            table: One of `TABLES`.
            last: Only what is not older: seconds, or a duration such as `"10 min"`.

        Raises:
            UsageError: There is no such table, or `last` is no duration.
        """
        since = _since(last)
        after = 0
        async with operator(self.directory, self.state) as connection:
            while True:
                request = GetMetricRows(table, after, since)
                page = await connection.connection.request(request, within=ANSWER_S)
                assert isinstance(page, MetricRows), "the controller answers a request with its reply"
                yield page
                if not page.next:
                    return
                after = page.next

    async def rows(self, table: TableName, last: float | str | None = None) -> Sequence[dict[str, Any]]:
        """Return the rows of a table, oldest first; the arguments are those of `pages`."""
        found: list[dict[str, Any]] = []
        async for page in self.pages(table, last):
            found += [dict(zip(page.columns, row, strict=True)) for row in page.rows]
        return found

    async def export(
        self, path: Path | str, table: TableName = "links", last: float | str | None = None
    ) -> int:
        """Write a table to a CSV or Parquet file, by its suffix; return the number of rows.

        The file has its name when it is complete; one that exists is replaced.

        Raises:
            UsageError: The suffix is neither `.csv` nor `.parquet`, the table is none, or the file cannot be
                written.
        """
        path, count = Path(path), 0
        if path.suffix not in _WRITERS:
            raise UsageError(
                f"`{path}` is neither a CSV nor a Parquet file by its name",
                id="metrics.file",
                found=path.suffix or path.name,
                expected=".csv or .parquet",
            )
        part = path.with_name(f".{path.name}.part")
        try:
            with _WRITERS[path.suffix](part) as write:
                async for page in self.pages(table, last):
                    write(page)
                    count += len(page.rows)
            part.replace(path)
        except OSError as error:
            raise UsageError(
                f"`{path}` cannot be written: {error.strerror or error}", id="metrics.file", found=str(path)
            ) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return count


class Metrics:
    """The counters of a lab that is up; every method calls its counterpart in `AsyncMetrics`."""

    def __init__(self, inner: AsyncMetrics) -> None:
        self._inner = inner

    def snapshot(self) -> MetricsSnapshot:
        """Return the newest counters of all nodes."""
        return loop_thread.call(self._inner.snapshot())

    def rows(self, table: TableName, last: float | str | None = None) -> Sequence[dict[str, Any]]:
        """Return the rows of a table in Postgres, oldest first."""
        return loop_thread.call(self._inner.rows(table, last))

    def export(self, path: Path | str, table: TableName = "links", last: float | str | None = None) -> int:
        """Write a table to a CSV or Parquet file; return the number of rows."""
        return loop_thread.call(self._inner.export(path, table, last))


def _since(last: float | str | None) -> int:
    """Return the first moment in milliseconds since 1970; 0 for all."""
    if last is None:
        return 0
    if isinstance(last, str):
        try:
            seconds = parse_duration(last).seconds
        except UnitInvalid as error:
            raise UsageError(
                f"`{last}` is no duration: {error.reason}",
                id="metrics.last",
                found=last,
                expected="a duration such as `10 min`",
            ) from None
    else:
        seconds = last
    return max(0, round((time.time() - seconds) * 1000))


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


@contextmanager
def _csv_writer(path: Path) -> Iterator[Any]:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        named = False

        def write(page: MetricRows) -> None:
            nonlocal named
            if not named:
                lines.writerow(page.columns)
                named = True
            lines.writerows([_plain(value) for value in row] for row in page.rows)

        yield write


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Any]:
    import pyarrow
    from pyarrow import parquet

    file: Any = None

    def write(page: MetricRows) -> None:
        nonlocal file
        schema = pyarrow.schema(
            [(name, pyarrow.string() if name in _TEXTS else pyarrow.int64()) for name in page.columns]
        )
        if file is None:
            file = parquet.ParquetWriter(path, schema, compression="zstd")
        columns = [[_plain(row[place]) for row in page.rows] for place in range(len(page.columns))]
        file.write_table(
            pyarrow.table(
                [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
                schema=schema,
            )
        )

    try:
        yield write
    finally:
        if file is not None:
            file.close()


_WRITERS = {".csv": _csv_writer, ".parquet": _parquet_writer}
