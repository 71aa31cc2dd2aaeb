"""Write and read flows that nodes in max mode carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.store.values import text
from orchestrator.store.writer import Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["MaxFlowRow", "MaxFlowTables", "read_max_flows"]

KEPT = 100_000
"""Flows that are kept, some 30 MB."""

PRUNE_EVERY = 10_000
"""Reports between two removals of older ones."""

MOST = 2**63 - 1
"""The largest number that a column of times takes."""

# A flow that has ended stays as it ended, whatever is reported late.
_REPORTED = Statement("""
    INSERT INTO max_flows (node_id, flow_id, entry, client, destination, route, start_us, finish_us,
        bytes_out, bytes_in, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (node_id, flow_id) DO UPDATE SET route = excluded.route, finish_us = excluded.finish_us,
        bytes_out = greatest(max_flows.bytes_out, excluded.bytes_out),
        bytes_in = greatest(max_flows.bytes_in, excluded.bytes_in), reason = excluded.reason
    WHERE max_flows.finish_us IS NULL""")
_NODE_GONE = Statement("""
    UPDATE max_flows SET finish_us = %s, reason = %s WHERE node_id = %s AND finish_us IS NULL""")
_PRUNE = Statement(
    "DELETE FROM max_flows WHERE start_us < (SELECT start_us FROM max_flows ORDER BY start_us DESC"
    " OFFSET %s LIMIT 1)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxFlowRow:
    """A flow in max mode; see the table `max_flows`."""

    node: int
    flow_id: int
    entry: str
    client: str
    destination: str
    route: tuple[int, ...]
    start_us: int
    finish_us: int | None
    bytes_out: int
    bytes_in: int
    reason: str


class MaxFlowTables:
    """Writes what nodes report; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._reports = 0

    def reported(self, rows: Iterable[MaxFlowRow]) -> None:
        """Write flows that began, progressed or ended."""
        before = self._reports
        for row in rows:
            self._reports += 1
            finish = None if row.finish_us is None else min(row.finish_us, MOST)
            self._writer.put(
                _REPORTED,
                row.node,
                row.flow_id,
                text(row.entry),
                text(row.client),
                text(row.destination),
                list(row.route),
                min(row.start_us, MOST),
                finish,
                row.bytes_out,
                row.bytes_in,
                text(row.reason),
            )
        if before // PRUNE_EVERY != self._reports // PRUNE_EVERY:
            self._writer.put(_PRUNE, KEPT)

    def node_gone(self, node: int, time_us: int, reason: str) -> None:
        """End the flows of a node that can no longer report about them."""
        self._writer.put(_NODE_GONE, time_us, reason, node)


async def read_max_flows(connection: AsyncConnection, limit: int, *, running: bool) -> list[MaxFlowRow]:
    """Read flows, the latest first; those that have not ended, if asked."""
    where = "WHERE finish_us IS NULL " if running else ""
    cursor = await connection.execute(
        "SELECT node_id, flow_id, entry, client, destination, route, start_us, finish_us, bytes_out,"
        f" bytes_in, reason FROM max_flows {where}ORDER BY start_us DESC LIMIT %s",
        (limit,),
    )
    return [
        MaxFlowRow(
            node=row[0],
            flow_id=int(row[1]),
            entry=row[2],
            client=row[3],
            destination=row[4],
            route=tuple(row[5]),
            start_us=row[6],
            finish_us=row[7],
            bytes_out=int(row[8]),
            bytes_in=int(row[9]),
            reason=row[10],
        )
        for row in await cursor.fetchall()
    ]
