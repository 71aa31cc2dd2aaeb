"""Write and read probes of links.

A probe is inserted in a statement of its own that is waited for, whichever way it is asked for, and started
from its row. What it measured is written in the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.store.values import text
from orchestrator.store.writer import Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["ProbeRow", "ProbeTables"]

_COLUMNS = (
    "probe_id, src_node_id, dst_node_id, below, probe_bytes, time_ms, origin, state, reason, capacity_bps,"
    " round_trip_p50_us, round_trip_p99_us, loss, packets_sent, packets_received, packets_answered,"
    " sent_bytes, start_us, finish_us"
)
_STARTED = Statement("UPDATE probes SET state = 'running', start_us = %s WHERE probe_id = %s")
_ENDED = Statement("""
    UPDATE probes SET state = %s, reason = %s, capacity_bps = %s, round_trip_p50_us = %s,
        round_trip_p99_us = %s, loss = %s, packets_sent = %s, packets_received = %s, packets_answered = %s,
        sent_bytes = %s, start_us = %s, finish_us = %s
    WHERE probe_id = %s""")


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A probe, and what it measured; the columns of `probes`."""

    probe_id: int
    src: int
    dst: int
    below: bool
    probe_bytes: int
    time_ms: int
    origin: str
    state: str
    reason: str = ""
    capacity_bps: int | None = None
    round_trip_p50_us: float | None = None
    round_trip_p99_us: float | None = None
    loss: float | None = None
    packets_sent: int = 0
    packets_received: int = 0
    packets_answered: int = 0
    sent_bytes: int = 0
    start_us: int | None = None
    finish_us: int | None = None


class ProbeTables:
    """Writes what becomes of probes; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def started(self, probe_id: int, start_us: int) -> None:
        """Write that a probe began."""
        self._writer.put(_STARTED, start_us, probe_id)

    def ended(self, row: ProbeRow) -> None:
        """Write what became of a probe."""
        measured = (row.capacity_bps, row.round_trip_p50_us, row.round_trip_p99_us, row.loss)
        counts = (row.packets_sent, row.packets_received, row.packets_answered, row.sent_bytes)
        times = (row.start_us, row.finish_us)
        self._writer.put(_ENDED, row.state, text(row.reason), *measured, *counts, *times, row.probe_id)


async def insert(
    connection: AsyncConnection, src: int, dst: int, probe_bytes: int, time_ms: int, *, below: bool
) -> int:
    """Insert a probe; return its number."""
    cursor = await connection.execute(
        "INSERT INTO probes (src_node_id, dst_node_id, below, probe_bytes, time_ms, origin)"
        " VALUES (%s, %s, %s, %s, %s, 'operator') RETURNING probe_id",
        (src, dst, below, probe_bytes, time_ms),
    )
    row = await cursor.fetchone()
    assert row is not None, "an insert returns what it inserted"
    return int(row[0])


async def read_open(connection: AsyncConnection) -> list[ProbeRow]:
    """Return the probes that have not ended."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM probes WHERE state IN ('waiting', 'running') ORDER BY probe_id"
    )
    return [ProbeRow(*row) for row in await cursor.fetchall()]


async def read(connection: AsyncConnection, after: int, limit: int) -> list[ProbeRow]:
    """Return probes after a number, in order."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM probes WHERE probe_id > %s ORDER BY probe_id LIMIT %s", (after, limit)
    )
    return [ProbeRow(*row) for row in await cursor.fetchall()]
