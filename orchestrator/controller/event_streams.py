"""Stream the events of a run to its subscribers, from memory or from Postgres.

The last events of a run are kept in memory, encoded and bounded in bytes. A subscriber that is further behind
gets the older ones from Postgres, page by page, as fast as it reads. So a slow subscriber costs a few pages,
however many events the run has, and misses none.

An event is sent once it is stored in Postgres, so that no subscriber has seen an event that a killed
controller has lost. Progress is not stored; it is sent only to subscribers that keep up.
"""

from __future__ import annotations

import asyncio
from collections import deque

from orchestrator.controller.core import Session
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Payload, encode_payload
from orchestrator.protocol import messages as m
from orchestrator.store import Store
from orchestrator.tasks import spawn
from orchestrator.transport import Disconnected

__all__ = ["EventStream"]

KEEP_BYTES = 2 * 1024 * 1024
"""Bytes of events in memory for each run: some ten thousand small ones, or the last large ones."""

PAGE_BYTES = 2 * 1024 * 1024
"""Bytes that a page from Postgres should have; the next page is made to fit by the size of the last."""

FIRST_PAGE, LARGEST_PAGE = 4, 2000
"""Events of a page; an event may have a megabyte, and the first page does not know."""

AWAY_S = 0.5
"""Seconds between two attempts to read from Postgres while it is away."""


class EventStream:
    """The events of one run, and their subscribers.

    Args:
        run: The run's id.
        store: Where older events are.
        last: The number of the last event of the controller before.

    Attributes:
        finished: How the run ended, None while it has not.
    """

    def __init__(self, run: str, store: Store, last: int = 0) -> None:
        self._run = run
        self._store = store
        self._recent: deque[tuple[int, Payload]] = deque()
        self._bytes = 0
        self._last = self._shown = last
        self._watchers: dict[Session, asyncio.Event] = {}
        self._tasks: dict[Session, asyncio.Task[None]] = {}
        self.finished: m.RunFinished | None = None

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._last

    def add(self, event: m.RunEvent) -> None:
        """Add an event; `show` makes it visible."""
        payload = encode_payload(event)
        self._recent.append((event.seq, payload))
        self._bytes += len(payload.data)
        self._last = event.seq
        while self._bytes > KEEP_BYTES and len(self._recent) > 1:
            self._bytes -= len(self._recent.popleft()[1].data)

    def drop(self, seq: int) -> None:
        """Remove an event that is not visible yet, because storing it failed."""
        kept = [each for each in self._recent if each[0] != seq]
        self._recent = deque(kept)
        self._bytes = sum(len(payload.data) for _, payload in kept)

    def show(self, last: int) -> None:
        """Make events up to a number visible to subscribers."""
        self._shown = max(self._shown, last)
        self._wake()

    def progress(self, event: m.RunEvent) -> None:
        """Send progress to subscribers that keep up."""
        for session in self._watchers:
            if not session.connection.congested:
                session.connection.send_nowait(event)

    def end(self, message: m.RunFinished) -> None:
        """End the stream; subscribers get the end after the last event."""
        self.finished = message
        self._wake()

    def watch(self, session: Session, after: int) -> None:
        """Send a session the events after a number, those to come, and the end."""
        self.leave(session)
        self._watchers[session] = asyncio.Event()
        self._tasks[session] = spawn(self._follow(session, after), name=f"watcher of {self._run}")

    def leave(self, session: Session) -> None:
        """Stop sending to a session."""
        self._watchers.pop(session, None)
        task = self._tasks.pop(session, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Stop sending to all subscribers."""
        for session in list(self._tasks):
            self.leave(session)

    async def _follow(self, session: Session, after: int) -> None:
        changed = self._watchers[session]
        connection = session.connection
        page = FIRST_PAGE
        try:
            while True:
                changed.clear()
                found = self._from_memory(after)
                if found is None:
                    found = await self._from_store(after, page)
                    size = sum(len(payload.data) for _, payload in found)
                    if size:
                        page = max(FIRST_PAGE, min(LARGEST_PAGE, PAGE_BYTES * len(found) // size))
                for seq, payload in found:
                    if payload is not _NOTHING:
                        await connection.send_ready(payload.frame())
                    after = max(after, seq)
                if after < self._shown:
                    continue
                if self.finished is not None:
                    connection.send_nowait(self.finished)
                    return
                await changed.wait()
        except Disconnected:
            return
        finally:
            if self._watchers.get(session) is changed:
                self._watchers.pop(session, None)
                self._tasks.pop(session, None)

    def _from_memory(self, after: int) -> list[tuple[int, Payload]] | None:
        """Return what may be shown after a number; None if memory does not go back so far."""
        if after >= self._shown:
            return []
        if not self._recent or self._recent[0][0] > after + 1:
            return None
        return [each for each in self._recent if after < each[0] <= self._shown]

    async def _from_store(self, after: int, limit: int) -> list[tuple[int, Payload]]:
        try:
            rows = await self._store.run_events(self._run, after, limit)
        except StoreUnavailable:
            await asyncio.sleep(AWAY_S)
            return []
        found = [
            (int(row[0]), encode_payload(m.RunEvent(self._run, *row)))
            for row in rows
            if row[0] <= self._shown
        ]
        if found:
            return found
        # None of them is there; what was given up or refused leaves a gap in the numbers.
        oldest = min((seq for seq, _ in self._recent if seq > after), default=self._shown + 1)
        return [(min(oldest - 1, self._shown), _NOTHING)]

    def _wake(self) -> None:
        for changed in self._watchers.values():
            changed.set()


_NOTHING = Payload("", b"")
