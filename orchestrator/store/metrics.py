"""Write and read metrics: one row per node and report, which a controller makes a thousand times a second.

The rows are made as lines of COPY's text format, because that costs a fraction of what a row of values costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.store.writer import Copy, Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["TABLES", "MetricTables", "expire", "metric_line", "read_rows"]

_COPY = Copy(
    "node_metrics",
    ("time", "node_id", "totals", "links", "drops", "flow_ids", "flow_counts", "groups", "sessions"),
)
_APP_FLOW = Statement("""
    INSERT INTO flows (flow_id, start_ms, node_id, src_node_id, dst_node_id, name, start_us, finish_ms,
        finish_us, packets, bytes, rx_packets, rx_bytes, answered_us)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (flow_id, start_ms) DO UPDATE SET finish_ms = excluded.finish_ms,
        finish_us = excluded.finish_us, packets = excluded.packets, bytes = excluded.bytes,
        rx_packets = excluded.rx_packets, rx_bytes = excluded.rx_bytes, answered_us = excluded.answered_us""")

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

APP_FLOWS = (
    "encode(flow_id, 'hex') AS flow_id, name, node_id, dst_node_id, start_us, finish_us, packets,"
    " bytes::bigint AS bytes, rx_packets, rx_bytes, answered_us, route_id::bigint AS route_id"
)

EXPIRED_ROWS = 10_000
"""Rows deleted in one statement, so that none takes long."""


class MetricTables:
    """Writes metrics; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def reports(self, lines: Iterable[bytes]) -> None:
        """Write reports of nodes, made by `metric_line`."""
        self._writer.copy(_COPY, lines)

    def app_flows(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write flows of programs that began or ended; the values are those of the statement."""
        self._writer.put_many(_APP_FLOW, rows)

    @property
    def lost_rows(self) -> int:
        """Rows that were given up while Postgres was away."""
        return self._writer.lost_rows


def metric_line(
    time_ms: int,
    node_id: int,
    totals: Sequence[int],
    links: Sequence[tuple[int, ...]],
    drops: Mapping[str, Mapping[str, int]],
    flow_ids: Sequence[bytes],
    flow_counts: Sequence[tuple[int, ...]],
    groups: Sequence[tuple[int, ...]],
    sessions: Sequence[Mapping[str, Any]],
) -> bytes:
    """Return the line of a report."""
    parts = (
        _time(time_ms),
        str(node_id),
        "{" + ",".join(map(str, totals)) + "}",
        _rows(links),
        _json(drops),
        "{" + ",".join([key.hex() for key in flow_ids]) + "}" if flow_ids else "\\N",
        _rows(flow_counts),
        _rows(groups),
        _json(sessions),
    )
    return ("\t".join(parts) + "\n").encode()


@lru_cache(maxsize=64)
def _time(time_ms: int) -> str:
    """Return a moment as Postgres reads it; the nodes of a process report at the same one."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def _rows(rows: Sequence[tuple[int, ...]]) -> str:
    """Return rows of numbers as an array of arrays."""
    return str(list(rows)).replace(" ", "").translate(_BRACES) if rows else "\\N"


_BRACES = str.maketrans("()[]", "{}{}")


def _json(value: Any) -> str:
    """Return JSON in which backslashes are doubled, as COPY wants them."""
    return json.dumps(value).replace("\\", "\\\\") if value else "\\N"


async def expire(connection: AsyncConnection, keep_s: int) -> bool:
    """Delete the oldest rows that are older than so many seconds; return whether there may be more."""
    reports = await connection.execute(
        "DELETE FROM node_metrics WHERE ctid = ANY(ARRAY(SELECT ctid FROM node_metrics"
        " WHERE time < now() - make_interval(secs => %s) ORDER BY time LIMIT %s))",
        (keep_s, EXPIRED_ROWS),
    )
    flows = await connection.execute(
        "DELETE FROM flows WHERE ctid = ANY(ARRAY(SELECT ctid FROM flows WHERE controller_id IS NULL"
        " AND finish_ms < extract(epoch FROM now()) * 1000 - %s::bigint * 1000 ORDER BY finish_ms LIMIT %s))",
        (keep_s, EXPIRED_ROWS),
    )
    return reports.rowcount == EXPIRED_ROWS or flows.rowcount == EXPIRED_ROWS


async def read_rows(
    connection: AsyncConnection, table: str, after: int, since_ms: int, limit: int
) -> tuple[tuple[str, ...], list[list[Any]], int]:
    """Read rows of a table of metrics after a place, oldest first.

    Returns:
        The columns, the rows, and the place to go on from, 0 when there is no more.
    """
    if table == "app-flows":
        cursor = await connection.execute(
            f"SELECT {APP_FLOWS} FROM flows WHERE controller_id IS NULL AND start_ms >= %s"
            " ORDER BY start_ms, flow_id OFFSET %s LIMIT %s",
            (since_ms, after, limit),
        )
        rows = [list(row) for row in await cursor.fetchall()]
        return _names(cursor), rows, after + limit if len(rows) == limit else 0
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
