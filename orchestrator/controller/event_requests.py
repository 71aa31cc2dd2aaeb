"""Handle requests of operators for the lab's events: a page of them, or all from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.transport import Disconnected

__all__ = ["MAX_PAGE", "EventRequests"]

MAX_PAGE = 10_000
"""Events in one answer."""

FOLLOW_PAGE = 200
"""Events in one message to those that follow: an event has at most 16 KiB, a message 4 MiB."""

STORE_WAIT_S = 1.0
"""Seconds between two looks at whether a subscriber is still there while Postgres is away."""


class EventRequests:
    """Handles the requests for events."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._subscribers: dict[Session, asyncio.Event] = {}
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetEvents: self._get,
            m.WatchEvents: self._watch,
        }
        core.events.on_added.append(self._wake)

    def leave(self, session: Session) -> None:
        """Stop sending to a session."""
        added = self._subscribers.pop(session, None)
        if added is not None:
            added.set()

    async def _get(self, session: Session, frame: Frame, message: m.GetEvents) -> None:
        limit = max(1, min(message.limit, MAX_PAGE))
        session.connection.reply(frame, m.Events(frame.id, *await self._page(message.after, limit)))

    async def _watch(self, session: Session, frame: Frame, message: m.WatchEvents) -> None:
        self.leave(session)
        added = self._subscribers[session] = asyncio.Event()
        session.connection.ack(frame)
        after = message.after
        while self._subscribers.get(session) is added:
            added.clear()
            last = self._core.events.last
            if after >= last:
                await added.wait()
            elif await self._core.store.stored(STORE_WAIT_S):
                try:
                    after = await self._send(session, after, last)
                except Disconnected:
                    self.leave(session)
                except StoreUnavailable:
                    await asyncio.sleep(STORE_WAIT_S)

    async def _send(self, session: Session, after: int, last: int) -> int:
        """Send a page of the events after a number, at most to another; return the number to go on from."""
        found, _ = await self._page(after, FOLLOW_PAGE)
        events = tuple(event for event in found if event.seq <= last)
        if not events:
            return last  # writes that were given up while Postgres was away leave a gap in the numbers
        more = events[-1].seq < last
        await session.connection.send(m.Events(0, events, more))
        return events[-1].seq

    async def _page(self, after: int, limit: int) -> tuple[tuple[m.Event, ...], bool]:
        """Return at most `limit` events after a number, and whether there are more."""
        found = self._core.events.recent(after, limit)
        if found is None:
            await self._core.store.flushed()
            rows = await self._core.store.events(after, limit + 1)
            events = [m.Event(row.seq, row.time_ms, row.name, row.node, row.detail) for row in rows]
            found = events[:limit], len(events) > limit
        return tuple(found[0]), found[1]

    def _wake(self) -> None:
        for added in self._subscribers.values():
            added.set()
