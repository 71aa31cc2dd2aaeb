"""Write and read runs, their roles and their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.store.history import to_ms, to_time
from orchestrator.store.rows import RoleRow, RunRow
from orchestrator.store.values import jsonb, text
from orchestrator.store.writer import OnRefused, Statement, Writer

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["RunTables", "read_failures", "read_run_events", "read_runs"]

_RUN = Statement("""
    INSERT INTO runs (run, scenario, state, reason, entry, params, seed, timeout_s, started_at,
                      started_monotonic, boot)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run) DO NOTHING""")
_FILE = Statement(
    "INSERT INTO run_files (run, path, content) VALUES (%s, %s, %s) ON CONFLICT (run, path) DO NOTHING"
)
_RUN_STATE = Statement("UPDATE runs SET state = %s, reason = %s, finished_at = %s WHERE run = %s")
_FORGET_FILES = Statement("DELETE FROM run_files WHERE run = %s")
_ROLE = Statement("""
    INSERT INTO run_roles (run, node_id, role, state, error, traceback) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (run, node_id) DO UPDATE SET
        state = excluded.state, error = excluded.error, traceback = excluded.traceback""")
# A row and the event that tells of it, which refers to it by number: both, or neither.
_ROW = Statement("""
    WITH reported AS (
        INSERT INTO run_rows (run, node_id, seq, role, content, time) VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (run, node_id, seq) DO NOTHING RETURNING run, time, node_id, role, seq)
    INSERT INTO run_events (run, seq, time, kind, node, role, data)
    SELECT run, %s, time, 'report', node_id, role, to_jsonb(seq) FROM reported
    ON CONFLICT (run, seq) DO NOTHING""")
_VALUE = Statement("""
    INSERT INTO run_values (run, key, value) VALUES (%s, %s, %s)
    ON CONFLICT (run, key) DO UPDATE SET value = excluded.value""")
_BARRIER = Statement("""
    INSERT INTO run_barriers (run, name, generation) VALUES (%s, %s, %s)
    ON CONFLICT (run, name) DO UPDATE SET
        generation = greatest(run_barriers.generation, excluded.generation)""")
_EVENT = Statement("""
    INSERT INTO run_events (run, seq, time, kind, node, role, data) VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (run, seq) DO NOTHING""")
_RESULT = Statement("""
    INSERT INTO results (run, verdict, document) VALUES (%s, %s, %s)
    ON CONFLICT (run) DO UPDATE SET
        verdict = excluded.verdict, document = excluded.document, saved_at = now()""")


class RunTables:
    """Writes what runs do; nothing here waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def begin(self, run: RunRow) -> None:
        """Write a run that starts, with its files and roles."""
        params = jsonb(dict(run.params))
        started = to_time(run.started_ms)
        values = (run.scenario, run.state, run.reason, run.entry, params, run.seed, run.timeout_s, started)
        self._writer.put(_RUN, run.run, *values, run.started_monotonic, run.boot)
        self._writer.put_many(_FILE, [(run.run, path, content) for path, content in run.files.items()])
        self.roles(run.run, run.roles)

    def state(self, run: str, state: str, reason: str, finished_ms: int | None) -> None:
        """Write how a run stands; one that has ended needs its files no longer."""
        finished = None if finished_ms is None else to_time(finished_ms)
        self._writer.put(_RUN_STATE, state, text(reason), finished, run)
        if finished is not None:
            self._writer.put(_FORGET_FILES, run)

    def roles(self, run: str, roles: tuple[RoleRow, ...]) -> None:
        """Write how roles stand."""
        rows = [
            (run, role.node, text(role.role), role.state, text(role.error), text(role.traceback))
            for role in roles
        ]
        self._writer.put_many(_ROLE, rows)

    def row(
        self,
        run: str,
        node: int,
        seq: int,
        role: str,
        content: Mapping[str, Any],
        time_ms: int,
        event: int,
        on_refused: OnRefused | None = None,
    ) -> None:
        """Write a row that a role reported, and the event of that number which tells of it."""
        values = (run, node, seq, text(role), jsonb(dict(content)), to_time(time_ms), event)
        self._writer.put(_ROW, *values, on_refused=on_refused)

    def value(self, run: str, key: str, value: Any, on_refused: OnRefused | None = None) -> None:
        """Write a published value."""
        self._writer.put(_VALUE, run, text(key), jsonb(value), on_refused=on_refused)

    def barrier(self, run: str, name: str, generation: int) -> None:
        """Write that a barrier was released."""
        self._writer.put(_BARRIER, run, text(name), generation)

    def event(self, run: str, seq: int, time_ms: int, kind: str, node: int, role: str, data: Any) -> None:
        """Write an event of a run."""
        self._writer.put(_EVENT, run, seq, to_time(time_ms), kind, node, text(role), jsonb(data))

    def result(self, run: str, verdict: str, document: Any, on_refused: OnRefused | None = None) -> None:
        """Write what a run came to."""
        self._writer.put(_RESULT, run, text(verdict), jsonb(document), on_refused=on_refused)


async def read_runs(connection: AsyncConnection) -> tuple[RunRow, ...]:
    """Return the runs that have not ended, with all they need to continue."""
    cursor = await connection.execute(
        "SELECT run, scenario, state, reason, entry, params, seed, timeout_s, started_at,"
        " started_monotonic, boot FROM runs WHERE finished_at IS NULL"
        " AND isfinite(started_at) ORDER BY started_at"
    )
    found = []
    for row in await cursor.fetchall():
        run, scenario, state, reason, entry, params, seed, timeout_s, started_at, monotonic, boot = row
        head = (run, scenario, state, reason, entry, params, int(seed), timeout_s, to_ms(started_at))
        details = await _details(connection, run)
        found.append(RunRow(*head, **details, started_monotonic=monotonic, boot=boot))
    return tuple(found)


async def _details(connection: AsyncConnection, run: str) -> dict[str, Any]:
    async def ask(sql: str) -> list[tuple[Any, ...]]:
        return await (await connection.execute(sql.encode(), (run,))).fetchall()

    roles = await ask(
        "SELECT node_id, role, state, error, traceback FROM run_roles WHERE run = %s ORDER BY node_id"
    )
    rows = await ask("SELECT node_id, max(seq), count(*) FROM run_rows WHERE run = %s GROUP BY node_id")
    timeline = await ask(
        "SELECT kind, time, data FROM run_events WHERE run = %s AND kind LIKE 'timeline%%' ORDER BY seq"
    )
    last = await ask("SELECT coalesce(max(seq), 0) FROM run_events WHERE run = %s")
    return {
        "files": dict(await ask("SELECT path, content FROM run_files WHERE run = %s")),
        "roles": tuple(RoleRow(*row) for row in roles),
        "rows": {node: last_row for node, last_row, _ in rows},
        "counts": {node: count for node, _, count in rows},
        "values": dict(await ask("SELECT key, value FROM run_values WHERE run = %s")),
        "barriers": dict(await ask("SELECT name, generation FROM run_barriers WHERE run = %s")),
        "last_event": int(last[0][0]),
        "timeline": tuple((kind, to_ms(time), data) for kind, time, data in timeline),
    }


async def read_run_events(
    connection: AsyncConnection, run: str, after: int, limit: int
) -> list[tuple[Any, ...]]:
    """Return a run's events after a number: number, time, kind, node, role, data."""
    cursor = await connection.execute(
        "SELECT e.seq, e.time, e.kind, e.node, e.role, coalesce(r.content, e.data) FROM ("
        " SELECT *, CASE WHEN kind = 'report' AND jsonb_typeof(data) = 'number'"
        " THEN data::bigint END AS number"
        " FROM run_events WHERE run = %s AND seq > %s ORDER BY seq LIMIT %s) AS e"
        " LEFT JOIN run_rows AS r ON r.run = e.run AND r.node_id = e.node AND r.seq = e.number"
        " ORDER BY e.seq",
        (run, after, limit),
    )
    return [(row[0], to_ms(row[1]), *row[2:]) for row in await cursor.fetchall()]


async def read_failures(connection: AsyncConnection, run: str, limit: int) -> list[tuple[Any, ...]]:
    """Return the roles of a run that did not end well: node, role, error, traceback."""
    cursor = await connection.execute(
        "SELECT node_id, role, error, traceback FROM run_roles"
        " WHERE run = %s AND state IN ('failed', 'lost') ORDER BY node_id LIMIT %s",
        (run, limit),
    )
    return await cursor.fetchall()
