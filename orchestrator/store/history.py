"""Write and read events and flows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.store.rows import EventRow
from orchestrator.store.values import jsonb, text
from orchestrator.store.writer import Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["HistoryTables", "last_event", "read_events", "to_ms", "to_time"]

_EVENT = Statement("""
    INSERT INTO events (seq, time, name, node, detail) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (seq) DO NOTHING""")
_FLOW_STARTED = Statement("""
    INSERT INTO flows (flow_id, start_ms, node_id, src_node_id, dst_node_id, controller_id)
    VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (flow_id, start_ms) DO NOTHING""")
_FLOW_ROUTED = Statement("UPDATE flows SET route_id = %s WHERE flow_id = %s AND finish_ms IS NULL")
_FLOW_FINISHED = Statement("""
    INSERT INTO flows (flow_id, start_ms, node_id, finish_ms, bytes) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (flow_id, start_ms) DO UPDATE SET finish_ms = excluded.finish_ms, bytes = excluded.bytes""")


class HistoryTables:
    """Writes what happened; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def event(self, event: EventRow) -> None:
        """Write an event."""
        detail = None if event.detail is None else jsonb(event.detail)
        self._writer.put(_EVENT, event.seq, to_time(event.time_ms), text(event.name), event.node, detail)

    def flows_started(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write flows that began: flow, start, node, source, destination, the controller's number."""
        self._writer.put_many(_FLOW_STARTED, rows)

    def flows_routed(self, rows: Iterable[tuple[int | None, bytes]]) -> None:
        """Write which explicit routes flows take, None for none: route, flow."""
        self._writer.put_many(_FLOW_ROUTED, rows)

    def flows_finished(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write flows that ended: flow, start, node, finish, bytes."""
        self._writer.put_many(_FLOW_FINISHED, rows)


async def last_event(connection: AsyncConnection) -> int:
    """Return the number of the latest event, 0 when there is none."""
    row = await (await connection.execute("SELECT coalesce(max(seq), 0) FROM events")).fetchone()
    return int(row[0]) if row else 0


async def read_events(connection: AsyncConnection, after: int, limit: int) -> tuple[EventRow, ...]:
    """Return events after a number, oldest first."""
    cursor = await connection.execute(
        "SELECT seq, time, name, node, detail FROM events WHERE seq > %s ORDER BY seq LIMIT %s",
        (after, limit),
    )
    return tuple(EventRow(row[0], to_ms(row[1]), *row[2:]) for row in await cursor.fetchall())


def to_time(time_ms: int) -> datetime:
    """Return a moment as Postgres wants it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def to_ms(time: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return round(time.timestamp() * 1000)
