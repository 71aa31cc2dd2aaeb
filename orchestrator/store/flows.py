"""Write and read user-space flows.

Flows are inserted, stopped and deleted in statements of their own that are waited for, so that the database
refuses a wrong one before anything is done, whichever way it came. What became of them is written in the
background.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.store.values import text
from orchestrator.store.writer import Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["FlowChange", "FlowRow", "FlowTables", "NewFlow"]

_COLUMNS = (
    "flow_id, src_node_id, dst_node_id, size_bytes, duration_ms, rate_bps, weight, transport, route_id,"
    " wanted, origin, state, reason, start_us, finish_us, bytes, taken_route"
)
_INSERT = (
    "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes, duration_ms, rate_bps, weight, transport,"
    " route_id, origin, tag)"
    " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],"
    " %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[])"
    " RETURNING flow_id"
)
# A flow that has ended stays as it ended, whatever is reported late.
_STARTED = Statement("""
    UPDATE user_flows SET state = 'running', start_us = %s, packet_flow = %s
    WHERE flow_id = %s AND state IN ('waiting', 'running')""")
_PROGRESS = Statement("UPDATE user_flows SET bytes = %s WHERE flow_id = %s AND state = 'running'")
_ROUTED = Statement("UPDATE user_flows SET taken_route = %s WHERE flow_id = %s")
_ENDED = Statement("""
    UPDATE user_flows SET state = %s, reason = %s, start_us = coalesce(%s, start_us), finish_us = %s,
        bytes = coalesce(%s, bytes)
    WHERE flow_id = %s AND state IN ('waiting', 'running')""")
_HANDLED = Statement("DELETE FROM user_flow_changes WHERE seq = %s")

OPEN = "state IN ('waiting', 'running')"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFlow:
    """A flow to be inserted; exactly one of `size_bytes` and `duration_ms` is given.

    `tag` is its name among those of the same origin, for one that is asked for again after a restart.
    """

    src: int
    dst: int
    size_bytes: int | None = None
    duration_ms: int | None = None
    rate_bps: int | None = None
    weight: int | None = None
    transport: str = "tcp"
    route_id: int | None = None
    origin: str = "operator"
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A user-space flow, and what became of it; times are microseconds since 1970.

    Attributes:
        flow_id: Its number.
        src: The node that sends.
        dst: The node that receives.
        size_bytes: Payload to transfer, or None.
        duration_ms: How long the source sends, or None.
        rate_bps: The most payload that the source sends.
        weight: Its weight at links whose scheduler knows weights.
        transport: `tcp` or `lossless_unicast`.
        route_id: The explicit route that it takes.
        wanted: `running` or `stopped`.
        origin: `file`, `sql`, `operator`, or the id of a run.
        state: `waiting`, `running`, `finished`, `stopped` or `failed`.
        reason: Why it failed or was stopped.
        start_us: When it began.
        finish_us: When it ended.
        bytes: Payload that arrived.
        taken_route: The explicit route that it took when it began.
    """

    flow_id: int
    src: int
    dst: int
    size_bytes: int | None
    duration_ms: int | None
    rate_bps: int | None
    weight: int | None
    transport: str
    route_id: int | None
    wanted: str
    origin: str
    state: str
    reason: str
    start_us: int | None
    finish_us: int | None
    bytes: int
    taken_route: int | None = None


@dataclass(frozen=True, slots=True)
class FlowChange:
    """A row that was inserted, changed or deleted; without `row`, it was deleted."""

    seq: int
    flow_id: int
    src: int
    dst: int
    row: FlowRow | None


class FlowTables:
    """Writes what became of flows; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def started(self, rows: Iterable[tuple[int, bytes, int]]) -> None:
        """Write that flows began: start in microseconds, identifier of the packets, flow."""
        self._writer.put_many(_STARTED, rows)

    def progressed(self, rows: Iterable[tuple[int, int]]) -> None:
        """Write how far flows are: bytes, flow."""
        self._writer.put_many(_PROGRESS, rows)

    def routed(self, rows: Iterable[tuple[int | None, int]]) -> None:
        """Write which explicit routes flows take, None for none: route, flow."""
        self._writer.put_many(_ROUTED, rows)

    def ended(self, rows: Iterable[tuple[str, str, int | None, int, int | None, int]]) -> None:
        """Write that flows ended: state, reason, start and finish in microseconds, bytes, flow."""
        self._writer.put_many(_ENDED, [(row[0], text(row[1]), *row[2:]) for row in rows])

    def handled(self, seqs: Iterable[int]) -> None:
        """Forget changes that are in force."""
        self._writer.put_many(_HANDLED, [(seq,) for seq in seqs])


def refusal(error: Exception) -> str:
    """Return why the database refused a flow, in a sentence."""
    diagnosis = getattr(error, "diag", None)
    constraint = getattr(diagnosis, "constraint_name", None) or ""
    if constraint in _REFUSALS:
        return _REFUSALS[constraint]
    return str(getattr(diagnosis, "message_primary", None) or error).partition("\n")[0]


_REFUSALS = {
    "user_flows_src_node_id_fkey": "its source is no node of the lab",
    "user_flows_dst_node_id_fkey": "its destination is no node of the lab",
    "user_flows_to_itself": "it ends where it starts",
    "user_flows_length": "it needs a size or a duration, one of both",
    "user_flows_lossless_rate": "a `lossless_unicast` flow with a duration needs a rate",
}
"""What the constraints of the table mean."""


async def insert(connection: AsyncConnection, flows: Sequence[NewFlow]) -> list[int]:
    """Insert flows, all or none; return their numbers."""
    columns = zip(
        *[
            (
                flow.src,
                flow.dst,
                flow.size_bytes,
                flow.duration_ms,
                flow.rate_bps,
                flow.weight,
                flow.transport,
                flow.route_id,
                flow.origin,
                flow.tag,
            )
            for flow in flows
        ],
        strict=True,
    )
    cursor = await connection.execute(_INSERT, [list(column) for column in columns])
    return [int(row[0]) for row in await cursor.fetchall()]


async def insert_of_file(
    connection: AsyncConnection, name: str, digest: str, flows: Sequence[NewFlow]
) -> bool:
    """Insert the flows of the lab's file in place of those of the file before, unless they were already.

    Args:
        connection: In autocommit mode.
        name: The lab.
        digest: Tells the flows of one file from those of another.
        flows: The flows.
    """
    async with connection.transaction():  # all of it or nothing, if the controller ends meanwhile
        cursor = await connection.execute(
            "UPDATE lab SET file_flows = %s WHERE name = %s AND file_flows <> %s", (digest, name, digest)
        )
        if not cursor.rowcount:
            return False
        await connection.execute("DELETE FROM user_flows WHERE origin = 'file'")
        if flows:
            await insert(connection, flows)
    return True


async def stop(connection: AsyncConnection, flow_ids: Sequence[int] | None) -> list[int]:
    """Want flows to be stopped, all that are open for None; return those for which that is new."""
    cursor = await connection.execute(
        f"UPDATE user_flows SET wanted = 'stopped' WHERE {OPEN} AND wanted = 'running'"
        " AND (%s::bigint[] IS NULL OR flow_id = ANY(%s)) RETURNING flow_id",
        (flow_ids, flow_ids),
    )
    return sorted(int(row[0]) for row in await cursor.fetchall())


async def remove(connection: AsyncConnection, flow_ids: Sequence[int]) -> list[int]:
    """Delete flows; return those that were there."""
    cursor = await connection.execute(
        "DELETE FROM user_flows WHERE flow_id = ANY(%s) RETURNING flow_id", (list(flow_ids),)
    )
    return sorted(int(row[0]) for row in await cursor.fetchall())


async def read_open(connection: AsyncConnection) -> list[FlowRow]:
    """Return the flows that have not ended."""
    cursor = await connection.execute(f"SELECT {_COLUMNS} FROM user_flows WHERE {OPEN} ORDER BY flow_id")
    return [_row(row) for row in await cursor.fetchall()]


async def read_flows(
    connection: AsyncConnection, flow_ids: Sequence[int] | None, after: int, limit: int, open_only: bool
) -> list[FlowRow]:
    """Return flows after a number, in order; of these numbers only, and of those not ended only, if asked."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM user_flows WHERE flow_id > %s"
        f" AND (%s::bigint[] IS NULL OR flow_id = ANY(%s)) AND (NOT %s OR {OPEN})"
        " ORDER BY flow_id LIMIT %s",
        (after, flow_ids, flow_ids, open_only, limit),
    )
    return [_row(row) for row in await cursor.fetchall()]


async def read_tagged(connection: AsyncConnection, origin: str, tag: str) -> FlowRow | None:
    """Return the flow of this name."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM user_flows WHERE origin = %s AND tag = %s", (origin, tag)
    )
    row = await cursor.fetchone()
    return None if row is None else _row(row)


async def read_changes(connection: AsyncConnection, limit: int) -> list[FlowChange]:
    """Return changes that are not handled, the oldest, each with the row as it is now."""
    columns = ", ".join(f"f.{name.strip()}" for name in _COLUMNS.split(","))
    cursor = await connection.execute(
        f"SELECT c.seq, c.flow_id, c.src_node_id, c.dst_node_id, {columns} FROM user_flow_changes c"
        " LEFT JOIN user_flows f USING (flow_id) ORDER BY c.seq LIMIT %s",
        (limit,),
    )
    return [
        FlowChange(row[0], row[1], row[2], row[3], None if row[4] is None else _row(row[4:]))
        for row in await cursor.fetchall()
    ]


def _row(row: Sequence[Any]) -> FlowRow:
    values = [*row[:-1], None if row[-1] is None else int(row[-1])]
    return FlowRow(*values)
