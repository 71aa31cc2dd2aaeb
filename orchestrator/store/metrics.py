"""Write and read metrics: one row per node and report, which a controller makes a thousand times a second.

The rows are made as lines of COPY's text format, because that costs a fraction of what a row of values costs,
and because the writer drops the oldest lines, and counts them, while Postgres is away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.store.writer import Copy, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from orchestrator.protocol import messages as m

__all__ = ["TABLES", "AppFlow", "MetricTables", "app_flow_line", "expire", "metric_line", "read_rows"]

_COPY = Copy(
    "node_metrics",
    ("time", "node_id", "totals", "links", "drops", "flow_ids", "flow_counts", "groups", "sessions"),
)
_APP_FLOWS = Copy(
    "app_flows",
    (
        "flow_id",
        "name",
        "src_node_id",
        "seen_time",
        "dst_node_id",
        "start_us",
        "finish_us",
        "packets",
        "bytes",
        "rx_packets",
        "rx_bytes",
        "answered_us",
        "route_id",
    ),
)
"""A trigger of the view adds the flow, or changes what is known of it."""

TABLES: Mapping[str, tuple[str, str]] = {
    "links": (
        "link_counters",
        "node_id, remote_node_id, tx_packets, tx_bytes, rx_packets, rx_bytes, queued_packets, queued_bytes,"
        " drops",
    ),
    "flows": ("flow_counters", "node_id, encode(flow_id, 'hex') AS flow_id, packets, bytes"),
    "nodes": (
        "node_counters",
        "node_id, process, cpu_ms, packets_out, bytes_out, packets_in, bytes_in, drops, flows_forgotten,"
        " packets_unrecorded",
    ),
    "groups": ("group_counters", "node_id, group_id, tx_packets, tx_bytes, rx_packets, rx_bytes"),
    "sessions": (
        "session_counters",
        "node_id, session, role, source, state, total_bytes, done_bytes, sent_bytes, repair_bytes, receivers,"
        " rtt_us",
    ),
}
"""The tables of counters: the view, and what is read of it beside the time."""

_APP_FLOW_COLUMNS = (
    "encode(flow_id, 'hex') AS flow_id, name, src_node_id AS node_id, dst_node_id, start_us, finish_us,"
    " packets, bytes::bigint AS bytes, rx_packets, rx_bytes, answered_us, route_id::bigint AS route_id"
)
_ROUTE_CHANGE_COLUMNS = (
    "(extract(epoch FROM time) * 1000)::bigint AS time_ms, encode(flow_id, 'hex') AS flow_id, name,"
    " src_node_id, dst_node_id, from_route_id::bigint AS from_route_id, route_id::bigint AS route_id"
)

EXPIRED_ROWS = 10_000
"""Rows deleted in one statement, so that none takes long."""

KEPT_PROBES = 10_000
"""Probes that have ended and are kept: they are few, and are asked for long after the counters."""


class AppFlow(NamedTuple):
    """A flow of programs; the numbers are those of `AppFlowColumns`, with 0 for what is not known."""

    flow_id: bytes
    name: str
    node_id: int
    seen_ms: int
    dst_node_id: int
    start_us: int
    finish_us: int
    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int
    answered_us: int
    route_id: int


class MetricTables:
    """Writes metrics; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def reports(self, lines: Iterable[bytes]) -> None:
        """Write reports of nodes, made by `metric_line`."""
        self._writer.copy(_COPY, lines)

    def app_flows(self, lines: Iterable[bytes]) -> None:
        """Write what is known of flows of programs, made by `app_flow_line`."""
        self._writer.copy(_APP_FLOWS, lines)

    @property
    def lost_rows(self) -> int:
        """Rows that were given up while Postgres was away."""
        return self._writer.lost_rows


def metric_line(time_ms: int, node_id: int, totals: Sequence[int], report: m.Metrics) -> bytes:
    """Return the line of a report; `totals` begins with the process."""
    drops = {str(each.remote_node_id): each.drops for each in report.drops or ()}
    sessions = [_session(each) for each in report.sessions or ()]
    parts = (
        _time(time_ms),
        str(node_id),
        _numbers(totals),
        _numbers(report.links),
        _json(drops),
        "\\\\x" + report.flow_ids.hex() if report.flow_ids else "\\N",
        _numbers(report.flows),
        _numbers(report.groups),
        _json(sessions),
    )
    return ("\t".join(parts) + "\n").encode()


def app_flow_line(flow: AppFlow, seen_ms: int) -> bytes:
    """Return the line of a flow of programs as of a time."""
    flow_id, name, node_id, _, dst, start_us, finish_us, *counts, answered_us, route_id = flow
    numbers = (node_id, seen_ms, dst or None, start_us, finish_us or None, *counts, answered_us or None)
    cells = [f"\\\\x{flow_id.hex()}", name.replace("\\", "\\\\")]
    cells += ["\\N" if each is None else str(each) for each in (*numbers, route_id or None)]
    return ("\t".join(cells) + "\n").encode()


@lru_cache(maxsize=64)
def _time(time_ms: int) -> str:
    """Return a moment as Postgres reads it; the nodes of a process report at the same one."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def _numbers(numbers: Sequence[int] | None) -> str:
    """Return numbers as an array; no numbers are null."""
    return "{" + str(list(numbers))[1:-1].replace(" ", "") + "}" if numbers else "\\N"


def _session(session: m.SessionCounter) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__slots__}


def _json(value: Any) -> str:
    """Return JSON in which backslashes are doubled, as COPY wants them."""
    return json.dumps(value).replace("\\", "\\\\") if value else "\\N"


async def expire(connection: AsyncConnection, keep_s: int) -> bool:
    """Delete the oldest rows that are older than so many seconds; return whether there may be more.

    A flow that runs has the time of its last report. One that was deleted because it was silent for so long
    is written again when it is not silent any more. Of probes the last ones are kept, however old they are.
    """
    keep_ms = 1000 * keep_s
    full = False
    for statement, value in (
        (
            "DELETE FROM node_metrics WHERE ctid = ANY(ARRAY(SELECT ctid FROM node_metrics"
            " WHERE time < now() - %s::bigint * interval '1 ms' ORDER BY time LIMIT %s))",
            keep_ms,
        ),
        (
            "DELETE FROM flows WHERE ctid = ANY(ARRAY(SELECT ctid FROM flows WHERE controller_id IS NULL"
            " AND seen_ms < extract(epoch FROM now()) * 1000 - %s::bigint ORDER BY seen_ms LIMIT %s))",
            keep_ms,
        ),
        (
            "DELETE FROM route_changes WHERE ctid = ANY(ARRAY(SELECT ctid FROM route_changes"
            " WHERE time < now() - %s::bigint * interval '1 ms' ORDER BY time LIMIT %s))",
            keep_ms,
        ),
        (
            "DELETE FROM probes WHERE probe_id = ANY(ARRAY(SELECT probe_id FROM probes"
            " WHERE state IN ('finished', 'failed') AND probe_id <= (SELECT max(probe_id) FROM probes) - %s"
            " ORDER BY probe_id LIMIT %s))",
            KEPT_PROBES,
        ),
    ):
        cursor = await connection.execute(statement, (value, EXPIRED_ROWS))
        full = full or cursor.rowcount == EXPIRED_ROWS
    return full


async def read_rows(
    connection: AsyncConnection, table: str, after: int, since_ms: int, limit: int
) -> tuple[tuple[str, ...], list[list[Any]], int]:
    """Read rows of a table of metrics after a place, oldest first.

    Returns:
        The columns, the rows, and the place to go on from, 0 when there is no more.
    """
    if table in ("app-flows", "route-changes"):
        if table == "app-flows":
            view, columns, since = "app_flows", _APP_FLOW_COLUMNS, "start_time >= %s"
        else:
            view, columns = "flow_route_changes", _ROUTE_CHANGE_COLUMNS
            since = "time >= to_timestamp(%s::bigint / 1000.0)"
        cursor = await connection.execute(
            f"SELECT id, {columns} FROM {view} WHERE id > %s AND {since} ORDER BY id LIMIT %s".encode(),
            (after, since_ms, limit),
        )
        found = await cursor.fetchall()
        rows = [list(row[1:]) for row in found]
        return _names(cursor)[1:], rows, found[-1][0] if len(found) == limit else 0
    view, columns = TABLES[table]
    cursor = await connection.execute(
        "SELECT min(id), max(id), count(*) FROM (SELECT id FROM node_metrics WHERE id > greatest(%s, (SELECT"
        " id - 1 FROM node_metrics WHERE time >= to_timestamp(%s::bigint / 1000.0) ORDER BY time LIMIT 1))"
        " ORDER BY id LIMIT %s) AS page",
        (after, since_ms, limit),
    )
    page = await cursor.fetchone()
    first, last, count = page if page is not None and page[0] is not None else (1, 0, 0)
    cursor = await connection.execute(
        f"SELECT (extract(epoch FROM time) * 1000)::bigint AS time_ms, {columns} FROM {view}"
        " WHERE id BETWEEN %s AND %s AND time >= to_timestamp(%s::bigint / 1000.0) ORDER BY id",
        (first, last, since_ms),
    )
    rows = [list(row) for row in await cursor.fetchall()]
    return _names(cursor), rows, last if count == limit else 0


def _names(cursor: Any) -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())
