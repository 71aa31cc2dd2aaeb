"""Write to Postgres in the background: in order, in batches, and across outages.

The controller decides in memory and writes later. A write can be waited for: `flushed` returns True when it
is committed, and False when Postgres is away, in which case it is kept and written as soon as Postgres is
back; `stored` waits for that.

Only writes that a lost connection interrupts are retried. A write that Postgres refuses, or that cannot be
passed to it, is dropped, its caller is notified, and the others of its batch are written: the batch is
bisected until the bad one is alone.

The queue is bounded in number and in bytes: measurements are dropped first, oldest first, and counted; when
the rest still does not fit, its oldest writes are dropped too, which is counted and makes the store
permanently unhealthy. Callers that can wait use `wait_for_capacity`, so that it does not come to this.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from orchestrator import log
from orchestrator.backoff import Backoff
from orchestrator.tasks import keep_running
from orchestrator.values import safe_text

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

__all__ = ["Copy", "OnRefused", "Statement", "Writer"]

KEEP_WRITES = 200_000
"""Writes kept while Postgres is away; a lab of 1,000 nodes makes some ten thousand while it starts."""

KEEP_BYTES = 256 * 1024 * 1024
"""Bytes of them; reached only by those who do not ask for `wait_for_capacity`."""

KEEP_ROW_BYTES = 32 * 1024 * 1024
"""Bytes of measurements kept while Postgres is away: a minute and a half of a lab of 1,000 nodes."""

BATCH = 5_000
"""Writes in one transaction."""

BATCH_BYTES = 1024 * 1024
"""Bytes at which a batch is closed: a tenth of a second for Postgres, for which a stop has to wait."""

HIGH_WATER = 8 * 1024 * 1024
"""Queued bytes at which `wait_for_capacity` blocks: about a second of what Postgres writes in large rows."""

_LOG = log.get(__name__)

OnRefused = Callable[[str], None]
"""Called in the loop with the reason when a write is left out."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement with `%s` places; equal statements in a row are sent together."""

    sql: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A table and its columns, filled by COPY."""

    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Write:
    statement: Statement
    values: Sequence[Any]
    size: int
    on_refused: OnRefused | None


class Writer:
    """Writes in the background.

    Attributes:
        problem: Why nothing can be written at the moment, None when all is well.
        lost_writes: Writes that were given up.
        lost_rows: Measurements that were given up.
        refused: Writes that Postgres does not accept, whenever they are tried.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._writes: deque[_Write] = deque()
        self._bytes = 0
        self._rows: dict[Copy, deque[bytes]] = {}
        self._row_bytes = 0
        self._lost_of: Counter[Copy] = Counter()
        self._waiters: list[tuple[int, int, bool, asyncio.Future[bool]]] = []
        # Writes, and measurements, that are committed or given up; the number of one is its place in all.
        self._done = self._rows_done = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._has_capacity = asyncio.Event()
        self._has_capacity.set()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None
        self.lost_writes = 0
        self.lost_rows = 0
        self.refused = 0

    def start(self) -> None:
        """Begin to write; what was put before is written first."""
        self._task = keep_running(self._run, name="store writer")

    async def close(self, within: float = 5.0) -> None:
        """Write what is left, if that can be done in time, and stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within if self.problem is None else 0.5):
                await self._idle.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def put(self, statement: Statement, *values: Any, on_refused: OnRefused | None = None) -> None:
        """Write one row, some time soon; `on_refused` is called if it cannot be written."""
        self._append(statement, values, on_refused)
        self._bound()

    def put_many(self, statement: Statement, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows, some time soon and in this order."""
        for row in rows:
            self._append(statement, row, None)
        self._bound()

    def copy(self, copy: Copy, lines: Iterable[bytes]) -> None:
        """Add measurements, lines of COPY's text format, some time soon."""
        kept = self._rows.setdefault(copy, deque())
        for line in lines:
            kept.append(line)
            self._row_bytes += len(line)
        while self._row_bytes > KEEP_ROW_BYTES:
            # Of the table with the most rows: frequent counters do not displace the few rows about flows.
            largest = max(self._rows, key=lambda each: len(self._rows[each]))
            if not self._rows[largest]:
                break
            self._row_bytes -= len(self._rows[largest].popleft())
            self._lost_of[largest] += 1
            self.lost_rows += 1
            self._rows_done += 1
        self._woken()

    async def flushed(self) -> bool:
        """Wait for what has been put so far: True when it is committed, False when Postgres is away."""
        if self.problem is not None:
            return False
        if not self._writes and not any(self._rows.values()):
            return True
        return await self._wait(durable=False)

    async def stored(self) -> None:
        """Wait for what has been put so far, however long Postgres is away."""
        if self._writes or self.problem is not None:
            await self._wait(durable=True)

    async def wait_for_capacity(self) -> None:
        """Wait until there is room for what can wait."""
        await self._has_capacity.wait()

    async def _wait(self, *, durable: bool) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        rows = self._rows_done + sum(map(len, self._rows.values()))
        self._waiters.append((self._done + len(self._writes), 0 if durable else rows, durable, future))
        return await future

    def _append(self, statement: Statement, values: Sequence[Any], on_refused: OnRefused | None) -> None:
        size = sum(map(_size, values))
        self._bytes += size
        self._writes.append(_Write(statement, values, size, on_refused))

    def _bound(self) -> None:
        while len(self._writes) > KEEP_WRITES or self._bytes > KEEP_BYTES:
            self.lost_writes += 1
            self._drop(1, "it was given up while Postgres was away")
        self._woken()

    def _woken(self) -> None:
        self._idle.clear()
        self._wake.set()
        self._update_capacity()

    def _update_capacity(self) -> None:
        if self._bytes < HIGH_WATER and len(self._writes) < KEEP_WRITES // 2:
            self._has_capacity.set()
        else:
            self._has_capacity.clear()

    async def _run(self) -> None:
        backoff = Backoff(max_delay=1.0)
        while True:
            await self._wake.wait()
            try:
                await self._write_once()
            except Exception as error:
                if not _is_away(error):
                    raise  # a fault of ours; it is logged, and writing continues after a pause
                if self.problem is None:
                    _LOG.warning("postgres away", reason=_one_line(error))
                self.problem = f"Postgres does not take writes: {_one_line(error)}"
                self._answer(False)
                await asyncio.sleep(backoff.next_delay())
                continue
            backoff.reset()
            if self.problem is not None:
                _LOG.info("postgres back", lost_writes=self.lost_writes, lost_rows=self.lost_rows)
                self.problem = None
            self._answer(True)
            if not self._writes and not any(self._rows.values()):
                self._wake.clear()
                self._idle.set()

    async def _write_once(self) -> None:
        batch: list[_Write] = []
        size = 0
        for write in self._writes:
            if batch and (len(batch) >= BATCH or size + write.size > BATCH_BYTES):
                break
            batch.append(write)
            size += write.size
        lost_before = self.lost_writes
        rows = {copy: list(islice(kept, BATCH)) for copy, kept in self._rows.items() if kept}
        lost_rows_before = self._lost_of.copy()
        refusals: list[tuple[_Write, str]] = []
        async with self._pool.connection(timeout=2.0) as connection:
            await self._apply(connection, batch, refusals)
            for copy, each in rows.items():
                await self._copy(connection, copy, each)
        # What was given up meanwhile was at the front as well.
        self._drop(len(batch) - (self.lost_writes - lost_before))
        for copy, written in rows.items():
            kept = self._rows[copy]
            lost = self._lost_of[copy] - lost_rows_before[copy]
            for _ in range(max(0, len(written) - lost)):
                self._row_bytes -= len(kept.popleft())
                self._rows_done += 1
        for write, reason in refusals:
            self._refuse(write, reason)

    async def _apply(
        self, connection: AsyncConnection, batch: Sequence[_Write], refusals: list[tuple[_Write, str]]
    ) -> None:
        """Write and commit a batch; one of which something is refused is cut in two until that is alone."""
        if not batch:
            return
        try:
            async with connection.transaction(), connection.cursor() as cursor:
                for statement, group in groupby(batch, key=lambda write: write.statement):
                    await cursor.executemany(statement.sql.encode(), [write.values for write in group])
            return
        except Exception as error:
            if _is_away(error):
                raise
            if len(batch) == 1:
                refusals.append((batch[0], _one_line(error)))
                return
        middle = len(batch) // 2
        await self._apply(connection, batch[:middle], refusals)
        await self._apply(connection, batch[middle:], refusals)

    async def _copy(self, connection: AsyncConnection, copy: Copy, rows: list[bytes]) -> None:
        """Like `_apply`, for measurements."""
        sql = f"COPY {copy.table} ({', '.join(copy.columns)}) FROM STDIN"
        try:
            async with (
                connection.transaction(),
                connection.cursor() as cursor,
                cursor.copy(sql.encode()) as stream,
            ):
                await stream.write(b"".join(rows))
            return
        except Exception as error:
            if _is_away(error):
                raise
            if len(rows) == 1:
                self.refused += 1
                _LOG.error("measurement refused", table=copy.table, reason=_one_line(error))
                return
        middle = len(rows) // 2
        await self._copy(connection, copy, rows[:middle])
        await self._copy(connection, copy, rows[middle:])

    def _refuse(self, write: _Write, reason: str) -> None:
        self.refused += 1
        _LOG.error("write refused", statement=" ".join(write.statement.sql.split())[:60], reason=reason)
        if write.on_refused is not None:
            write.on_refused(reason)

    def _drop(self, count: int, given_up: str | None = None) -> None:
        for _ in range(max(0, count)):
            write = self._writes.popleft()
            self._bytes -= write.size
            if given_up is not None and write.on_refused is not None:
                write.on_refused(given_up)
        self._done += max(0, count)
        self._update_capacity()

    def _answer(self, committed: bool) -> None:
        waiting = []
        for number, rows, durable, future in self._waiters:
            behind = number > self._done or rows > self._rows_done
            if (committed and behind) or (durable and not committed):
                waiting.append((number, rows, durable, future))
            elif not future.done():
                future.set_result(committed)
        self._waiters = waiting


def _size(value: Any) -> int:
    """About how many bytes a value takes; a number takes a few, whatever it is."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    encoded = getattr(value, "obj", None)  # JSON that was written by `values.jsonb`
    return len(encoded) if isinstance(encoded, str) else 16


@functools.cache
def _connection_errors() -> tuple[type[Exception], ...]:
    from psycopg import InterfaceError
    from psycopg_pool import PoolTimeout

    return (OSError, TimeoutError, InterfaceError, PoolTimeout)


def _is_away(error: Exception) -> bool:
    """Tell whether Postgres cannot be reached or is not well, as opposed to refusing what was written.

    An error with an SQLSTATE comes from a server that looked at the write. Of these, the classes 08
    (connection), 40 (a conflict or a deadlock), 53 (no memory, no disk, no connections), 57 (shut down,
    cancelled) and 58 (its system) are no fault of what was written; every other will be the same next time.
    Source: PostgreSQL documentation, appendix A, error codes.
    """
    from psycopg import Error, OperationalError

    if isinstance(error, _connection_errors()):
        return True
    if not isinstance(error, Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, OperationalError)
    return error.sqlstate[:2] in ("08", "53", "57", "58", "40")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return safe_text(text[:200]) or type(error).__name__
