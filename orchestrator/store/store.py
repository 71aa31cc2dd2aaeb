"""The store: open the database, read the lab's state, write in the background, listen for SQL changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator import log
from orchestrator.backoff import Backoff
from orchestrator.clock import Clock, SystemClock
from orchestrator.errors import StoreUnavailable
from orchestrator.store import flows, history, lab, max_flows, metrics, probes, runs
from orchestrator.store.errors import RowRefused
from orchestrator.store.flows import FlowChange, FlowRow, FlowTables, NewFlow
from orchestrator.store.history import HistoryTables
from orchestrator.store.lab import LabTables
from orchestrator.store.max_flows import MaxFlowRow, MaxFlowTables
from orchestrator.store.metrics import MetricTables
from orchestrator.store.migrate import migrate
from orchestrator.store.pins import read_pins
from orchestrator.store.probes import ProbeRow, ProbeTables
from orchestrator.store.rows import EventRow, Snapshot
from orchestrator.store.runs import RunTables
from orchestrator.store.sql_changes import Changed, SqlTables, fill_link_fields, read_changes
from orchestrator.store.writer import Writer
from orchestrator.tasks import keep_running

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

__all__ = ["CHANNEL", "Store"]

CHANNEL = "nm_changed"
"""The channel that triggers notify on writes of other sessions; the payload is the table."""

TABLES = ("links", "routes", "groups", "user_flows", "probes")
"""What may be changed by SQL; members and trees belong to groups."""

NUMBERING_S = 10.0
"""Seconds that Postgres has to number new routes and pins, which takes milliseconds; a request has twenty."""

_HINT = "`nm status` says whether it runs; `nm up` with the lab's topology file starts it again"

_LOG = log.get(__name__)


class Store:
    """The connection to Postgres.

    Args:
        conninfo: As libpq reads it.
        clock: Tells how long an opening has taken.

    Attributes:
        lab: Writes nodes, links, routes and groups.
        sql: Writes the answers to changes by SQL.
        runs: Writes runs and results.
        flows: Writes what became of user-space flows.
        probes: Writes what became of probes of links.
        history: Writes events and flows.
        metrics: Writes counters of nodes.
    """

    def __init__(self, conninfo: str, *, clock: Clock | None = None) -> None:
        self._conninfo = conninfo
        self._clock = clock or SystemClock()
        self._pool: AsyncConnectionPool | None = None
        self._writer: Writer | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listening = True  # until the contrary is known

    lab: LabTables
    sql: SqlTables
    runs: RunTables
    flows: FlowTables
    probes: ProbeTables
    history: HistoryTables
    metrics: MetricTables
    max_flows: MaxFlowTables

    # Opening and closing.

    async def open(self, lab_name: str, *, within: float = 30.0) -> Snapshot:
        """Wait for Postgres, bring it to our schema, count this start, and return what is there.

        Args:
            lab_name: The lab.
            within: Seconds to wait for Postgres.

        Raises:
            StoreUnavailable: It did not answer in time, or refuses us.
            SchemaTooNew: A newer release made the database.
        """
        connection = await self._first_connection(within)
        async with connection:
            await migrate(connection)
            await fill_link_fields(connection)
            snapshot = await _read_all(connection, lab_name)
        await self._open_pool()
        return snapshot

    async def close(self) -> None:
        """Write what is queued, and close the connections."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        if self._writer is not None:
            await self._writer.close()
        if self._pool is not None:
            await self._pool.close(timeout=1.0)

    # Health.

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it at the moment, as sentences; empty when all is well."""
        found = []
        if self._writer is not None:
            if self._writer.problem is not None:
                found.append(self._writer.problem)
            if self._writer.lost_writes:
                found.append(f"{self._writer.lost_writes} writes were lost while Postgres was away")
            if self._writer.refused:
                found.append(f"Postgres refused {self._writer.refused} writes; the controller's log has them")
        if not found and self._listener is not None and not self._listening:
            found.append("changes made by SQL are not received at the moment")
        return tuple(found)

    async def flushed(self) -> bool:
        """Wait for what was written so far: True when committed, False when it is kept for later."""
        return await self._writer.flushed() if self._writer is not None else False

    async def stored(self, within: float | None = None) -> bool:
        """Wait until what was written so far is committed; False if it is not within so many seconds."""
        if self._writer is None:
            return False
        try:
            async with asyncio.timeout(within):
                await self._writer.stored()
        except TimeoutError:
            return False
        return True

    async def wait_for_capacity(self) -> None:
        """Wait until there is room for what can wait."""
        if self._writer is not None:
            await self._writer.wait_for_capacity()

    # Reading.

    async def sql_changes(self) -> Changed:
        """Read what was changed by SQL and is not applied yet."""
        async with self._connection() as connection:
            return await read_changes(connection)

    async def new_routes(self, count: int) -> list[int]:
        """Return numbers for new routes, in order; no other route gets one of them."""
        if not count:
            return []  # then Postgres may be away
        async with self._numbering() as connection:
            return await lab.new_routes(connection, count)

    async def new_pin(self) -> int:
        """Return a number for a new pin; no other pin gets it."""
        async with self._numbering() as connection:
            return await lab.new_pin(connection)

    async def open_flows(self) -> list[FlowRow]:
        """Read the user-space flows that have not ended."""
        async with self._connection() as connection:
            return await flows.read_open(connection)

    async def read_flows(
        self, flow_ids: Sequence[int] | None, after: int, limit: int, *, open_only: bool
    ) -> list[FlowRow]:
        """Read user-space flows after a number, in order; of these numbers only, unless that is None."""
        async with self._connection() as connection:
            return await flows.read_flows(connection, flow_ids, after, limit, open_only)

    async def tagged_flow(self, origin: str, tag: str) -> FlowRow | None:
        """Read the user-space flow of a name."""
        async with self._connection() as connection:
            return await flows.read_tagged(connection, origin, tag)

    async def flow_changes(self, limit: int = 5_000) -> list[FlowChange]:
        """Read changes of user-space flows that were not handled, the oldest first."""
        async with self._connection() as connection:
            return await flows.read_changes(connection, limit)

    async def add_flows(self, new: Sequence[NewFlow]) -> list[int]:
        """Insert user-space flows, all or none; return their numbers.

        Raises:
            RowRefused: One of them is none.
        """
        async with self._checked() as connection:
            return await flows.insert(connection, new)

    async def set_file_flows(self, name: str, digest: str, new: Sequence[NewFlow]) -> bool:
        """Insert the user-space flows of the lab's file, unless it was done; see `insert_of_file`."""
        async with self._checked() as connection:
            return await flows.insert_of_file(connection, name, digest, new)

    async def stop_flows(self, flow_ids: Sequence[int] | None) -> list[int]:
        """Want user-space flows to be stopped, all for None; return those for which that is new."""
        async with self._connection() as connection:
            return await flows.stop(connection, flow_ids)

    async def remove_flows(self, flow_ids: Sequence[int]) -> list[int]:
        """Delete user-space flows; return those that were there."""
        async with self._connection() as connection:
            return await flows.remove(connection, flow_ids)

    async def open_probes(self) -> list[ProbeRow]:
        """Read the probes that have not ended."""
        async with self._connection() as connection:
            return await probes.read_open(connection)

    async def read_probes(self, after: int, limit: int) -> list[ProbeRow]:
        """Read probes after a number, in order."""
        async with self._connection() as connection:
            return await probes.read(connection, after, limit)

    async def add_probe(self, src: int, dst: int, probe_bytes: int, time_ms: int, *, below: bool) -> int:
        """Insert a probe; return its number.

        Raises:
            RowRefused: The lab has no such node.
        """
        async with self._checked() as connection:
            return await probes.insert(connection, src, dst, probe_bytes, time_ms, below=below)

    async def read_max_flows(self, limit: int, *, running: bool) -> list[MaxFlowRow]:
        """Read flows in max mode, the latest first; those that have not ended, if asked."""
        async with self._connection() as connection:
            return await max_flows.read_max_flows(connection, limit, running=running)

    async def events(self, after: int, limit: int) -> tuple[EventRow, ...]:
        """Read events after a number, oldest first."""
        async with self._connection() as connection:
            return await history.read_events(connection, after, limit)

    async def run_events(self, run: str, after: int, limit: int = 1000) -> list[tuple[Any, ...]]:
        """Read a run's events after a number, oldest first: number, time, kind, node, role, data."""
        async with self._connection() as connection:
            return await runs.read_run_events(connection, run, after, limit)

    async def last_run_event(self, run: str) -> int:
        """Read the number of a run's last event, 0 when there is none."""
        async with self._connection() as connection:
            cursor = await connection.execute(
                "SELECT coalesce(max(seq), 0) FROM run_events WHERE run = %s", (run,)
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

    async def run_failures(self, run: str, limit: int = 1000) -> list[tuple[Any, ...]]:
        """Read which roles of a run did not end well: node, role, error, traceback."""
        async with self._connection() as connection:
            return await runs.read_failures(connection, run, limit)

    async def run_state(self, run: str) -> tuple[str, str, str] | None:
        """Read a run's scenario, state and reason; None if there is none of that name."""
        async with self._connection() as connection:
            cursor = await connection.execute(
                "SELECT scenario, state, reason FROM runs WHERE run = %s", (run,)
            )
            row = await cursor.fetchone()
            return None if row is None else (row[0], row[1], row[2])

    async def metric_rows(
        self, table: str, after: int, since_ms: int, limit: int
    ) -> tuple[tuple[str, ...], list[list[Any]], int]:
        """Read metrics after a place; see `read_rows`."""
        async with self._connection() as connection:
            return await metrics.read_rows(connection, table, after, since_ms, limit)

    async def expire_metrics(self, keep_s: int) -> bool:
        """Delete some metrics that are older than so many seconds; return whether there may be more."""
        async with self._connection() as connection:
            return await metrics.expire(connection, keep_s)

    def listen(self, changed: Callable[[str], None]) -> None:
        """Call back with the table when another session has changed one; `sql_changes` then says what.

        It calls back for all `TABLES` when it begins to listen, and again after an outage, since changes may
        have been missed before.
        """
        self._listener = keep_running(lambda: self._listen(changed), name="store listener")

    # Helpers.

    async def _first_connection(self, within: float) -> AsyncConnection:
        from psycopg import AsyncConnection, OperationalError

        started = self._clock.monotonic()
        backoff, said = Backoff(0.02, 0.5), False
        while True:
            left = within - (self._clock.monotonic() - started)
            try:
                async with asyncio.timeout(max(0.1, left)):
                    return await AsyncConnection.connect(self._conninfo, autocommit=True, **_OPTIONS)
            except (OperationalError, TimeoutError) as error:
                delay = backoff.next_delay()
                if left <= delay:
                    raise StoreUnavailable(
                        f"Postgres did not answer within {within:g} s",
                        id="store.unreachable",
                        hint=" ".join(str(error).split())[:300] or None,
                    ) from None
                if not said and within - left > 0.5:
                    _LOG.warning(
                        "waiting for postgres", limit_s=within, reason=" ".join(str(error).split())[:200]
                    )
                    said = True
            await asyncio.sleep(delay)

    async def _open_pool(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        # The pool speaks of every attempt while Postgres is away; the writer says it once.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        self._pool = AsyncConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=4,
            kwargs=_OPTIONS,
            open=False,
            check=AsyncConnectionPool.check_connection,
            reconnect_timeout=1.0,
            name="store",
        )
        await self._pool.open()
        self._writer = Writer(self._pool)
        self.metrics = MetricTables(self._writer)
        self.lab, self.sql, self.runs, self.history, self.flows = (
            LabTables(self._writer),
            SqlTables(self._writer),
            RunTables(self._writer),
            HistoryTables(self._writer),
            FlowTables(self._writer),
        )
        self.probes = ProbeTables(self._writer)
        self.max_flows = MaxFlowTables(self._writer)
        self._writer.start()

    @contextlib.asynccontextmanager
    async def _connection(self) -> Any:
        from psycopg import OperationalError
        from psycopg_pool import PoolTimeout

        if self._pool is None:
            raise StoreUnavailable("the store is not open", id="store.closed")
        try:
            async with self._pool.connection(timeout=2.0) as connection:
                yield connection
        except (OperationalError, PoolTimeout) as error:
            text = f"Postgres does not answer: {' '.join(str(error).split())[:200]}"
            raise StoreUnavailable(text, id="store.unreachable", hint=_HINT) from None

    @contextlib.asynccontextmanager
    async def _numbering(self) -> AsyncIterator[AsyncConnection]:
        """A connection for a statement that has to be answered within `NUMBERING_S`.

        A backend whose server was killed may wait for ever for a lock of another one that has ended.
        """
        try:
            async with asyncio.timeout(NUMBERING_S), self._connection() as connection:
                yield connection
        except TimeoutError:
            text = f"Postgres has not answered within {NUMBERING_S:g} s"
            raise StoreUnavailable(text, id="store.unreachable", hint=_HINT) from None

    @contextlib.asynccontextmanager
    async def _checked(self) -> AsyncIterator[AsyncConnection]:
        """A connection for rows that the database may refuse."""
        from psycopg import DataError, IntegrityError

        async with self._connection() as connection:
            try:
                yield connection
            except (DataError, IntegrityError) as error:
                raise RowRefused(flows.refusal(error)) from None

    async def _listen(self, changed: Callable[[str], None]) -> None:
        from psycopg import AsyncConnection, Error

        backoff = Backoff(max_delay=1.0)
        while True:
            try:
                connection = await AsyncConnection.connect(self._conninfo, autocommit=True, **_OPTIONS)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._listening = True
                    backoff.reset()
                    for table in TABLES:
                        changed(table)
                    while True:
                        async for note in connection.notifies(timeout=0):
                            changed(note.payload)
                        await _readable(connection.fileno())
            except (Error, OSError) as error:
                _LOG.debug("listener lost", reason=" ".join(str(error).split())[:200])
            self._listening = False
            await asyncio.sleep(backoff.next_delay())


async def _readable(file: int) -> None:
    """Wait until something can be read; psycopg itself would look ten times a second, for nothing."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(file, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(file)


_OPTIONS: dict[str, Any] = {"application_name": "nm-controller", "connect_timeout": 5}


async def _read_all(connection: AsyncConnection, name: str) -> Snapshot:
    return Snapshot(
        lab=await lab.begin(connection, name),
        nodes=await lab.read_nodes(connection),
        links=await lab.read_links(connection),
        routes=await lab.read_routes(connection),
        groups=await lab.read_groups(connection),
        last_event=await history.last_event(connection),
        runs=await runs.read_runs(connection),
        traces=await lab.read_traces(connection),
        pins=await read_pins(connection),
        deleted_links=await lab.read_deleted_links(connection),
        file_routes=await lab.read_file_routes(connection),
    )
