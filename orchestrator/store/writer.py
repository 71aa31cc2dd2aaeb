"""Writes that must not hold up the lab: in order, in batches, and through an outage of Postgres.

The controller decides in memory and writes behind. A write can be waited for: the answer is True when it is
committed, and False when Postgres is away, in which case it is kept and written as soon as Postgres is back.
What is kept is bounded: measurements are given up first, oldest first, and counted; when even the rest does
not fit, the oldest of it is given up as well, which is counted and makes the store unhealthy for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from orchestrator import log

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

__all__ = ["Copy", "Statement", "Writer"]

KEEP_WRITES = 200_000
"""Writes kept while Postgres is away; a lab of 1,000 nodes makes some ten thousand while it starts."""

KEEP_ROWS = 100_000
"""Measurements kept while Postgres is away."""

BATCH = 5_000
"""Writes in one transaction."""

_LOG = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement with `%s` places; equal statements in a row are sent together."""

    sql: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A table and its columns, filled by COPY."""

    table: str
    columns: tuple[str, ...]


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
        self._writes: deque[tuple[Statement, Sequence[Any]]] = deque()
        self._rows: dict[Copy, deque[Sequence[Any]]] = {}
        self._waiters: list[tuple[int, asyncio.Future[bool]]] = []
        self._done = 0  # writes that are committed or given up; the number of a write is its place in all
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None
        self.lost_writes = 0
        self.lost_rows = 0
        self.refused = 0

    def start(self) -> None:
        """Begin to write; what was put before is written first."""
        self._task = asyncio.create_task(self._run(), name="store writer")

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

    def put(self, statement: Statement, *values: Any) -> None:
        """Write one row, some time soon."""
        self.put_many(statement, (values,))

    def put_many(self, statement: Statement, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows, some time soon and in this order."""
        self._writes.extend((statement, row) for row in rows)
        over = len(self._writes) - KEEP_WRITES
        if over > 0:
            for _ in range(over):
                self._writes.popleft()
            self._done += over
            self.lost_writes += over
        self._woken()

    def copy(self, copy: Copy, rows: Iterable[Sequence[Any]]) -> None:
        """Add measurements, some time soon."""
        kept = self._rows.setdefault(copy, deque())
        kept.extend(rows)
        while len(kept) > KEEP_ROWS:
            kept.popleft()
            self.lost_rows += 1
        self._woken()

    async def flushed(self) -> bool:
        """Wait for what has been put so far: True when it is committed, False when Postgres is away."""
        if self.problem is not None:
            return False
        if not self._writes and not any(self._rows.values()):
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._done + len(self._writes), future))
        return await future

    def _woken(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        wait = 0.05
        while True:
            await self._wake.wait()
            try:
                await self._write_once()
            except Exception as error:  # whatever it is, the next attempt may succeed
                if self.problem is None:
                    _LOG.warning("postgres away", reason=_one_line(error))
                self.problem = f"Postgres does not take writes: {_one_line(error)}"
                self._answer(False)
                await asyncio.sleep(wait)
                wait = min(1.0, wait * 2)
                continue
            wait = 0.05
            if self.problem is not None:
                _LOG.info("postgres back", lost_writes=self.lost_writes, lost_rows=self.lost_rows)
                self.problem = None
            self._answer(True)
            if not self._writes and not any(self._rows.values()):
                self._wake.clear()
                self._idle.set()

    async def _write_once(self) -> None:
        batch = [self._writes[index] for index in range(min(BATCH, len(self._writes)))]
        lost_before = self.lost_writes
        rows = {copy: list(kept) for copy, kept in self._rows.items() if kept}
        lost_rows_before = self.lost_rows
        async with self._pool.connection(timeout=2.0) as connection:
            try:
                await _apply(connection, batch, rows)
            except Exception as error:
                if not _is_our_fault(error):
                    raise
                await connection.rollback()
                await self._apply_singly(connection, batch, rows)
        # What was given up meanwhile was at the front as well.
        self._drop(len(batch) - (self.lost_writes - lost_before))
        for copy, written in rows.items():
            kept = self._rows[copy]
            for _ in range(max(0, min(len(kept), len(written) - (self.lost_rows - lost_rows_before)))):
                kept.popleft()

    async def _apply_singly(
        self,
        connection: AsyncConnection,
        batch: Sequence[tuple[Statement, Sequence[Any]]],
        rows: dict[Copy, list[Sequence[Any]]],
    ) -> None:
        """Write a batch of which something is refused for good, leaving out what that is."""
        for item in batch:
            try:
                await _apply(connection, [item], {})
            except Exception as error:
                if not _is_our_fault(error):
                    raise
                await connection.rollback()
                self.refused += 1
                _LOG.error("write refused", statement=item[0].sql[:60], reason=_one_line(error))
            else:
                await connection.commit()
        for copy, each in rows.items():
            try:
                await _apply(connection, [], {copy: each})
            except Exception as error:
                if not _is_our_fault(error):
                    raise
                await connection.rollback()
                _LOG.error("measurements refused", table=copy.table, reason=_one_line(error))

    def _drop(self, count: int) -> None:
        for _ in range(max(0, count)):
            self._writes.popleft()
        self._done += max(0, count)

    def _answer(self, committed: bool) -> None:
        waiting = []
        for number, future in self._waiters:
            if committed and number > self._done:
                waiting.append((number, future))
            elif not future.done():
                future.set_result(committed)
        self._waiters = waiting


async def _apply(
    connection: AsyncConnection,
    batch: Sequence[tuple[Statement, Sequence[Any]]],
    rows: dict[Copy, list[Sequence[Any]]],
) -> None:
    async with connection.cursor() as cursor:
        for statement, group in groupby(batch, key=lambda item: item[0]):
            await cursor.executemany(statement.sql.encode(), [values for _, values in group])
        for copy, each in rows.items():
            sql = f"COPY {copy.table} ({', '.join(copy.columns)}) FROM STDIN"
            async with cursor.copy(sql.encode()) as stream:
                for row in each:
                    await stream.write_row(row)


def _is_our_fault(error: Exception) -> bool:
    """Tell whether Postgres refuses what was written, as opposed to being away."""
    from psycopg import DataError, IntegrityError, ProgrammingError

    return isinstance(error, DataError | IntegrityError | ProgrammingError)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
