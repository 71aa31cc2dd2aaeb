"""Hold the state that pages show, and send each page the differences.

The state has sections, such as `nodes` and `links`, each a map of entries. A page gets all of it first and
then, for each change, the entries that are new or different and the keys of those that are gone. A page that
does not read is not sent differences any more, but all of the state once it reads again.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

__all__ = ["Board", "Subscription"]

KEPT_EVENTS = 300
"""Events that a page gets at first; later ones come as they happen."""

MOST_WAITING = 64
"""Differences that may wait for a page that does not read."""

Section = Mapping[str, Any]


class Subscription:
    """What one page is sent."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._waiting: deque[bytes] = deque()
        self._behind = True
        self._arrived = asyncio.Event()
        self._arrived.set()

    def put(self, data: bytes) -> None:
        """Queue a difference."""
        if self._behind:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            self._behind = True
        else:
            self._waiting.append(data)
        self._arrived.set()

    async def next(self, within: float) -> bytes | None:
        """Return what is to be sent next; None if there is nothing in time."""
        try:
            async with asyncio.timeout(within):
                await self._arrived.wait()
        except TimeoutError:
            return None
        if self._behind:
            self._behind = False
            self._waiting.clear()
            self._arrived.clear()
            return self._board.encoded()
        found = self._waiting.popleft()
        if not self._waiting:
            self._arrived.clear()
        return found

    def wake(self) -> None:
        """End a wait."""
        self._arrived.set()


class Board:
    """The state, and the pages that show it.

    Attributes:
        watched: Set while there is a page.
    """

    def __init__(self) -> None:
        self._sections: dict[str, dict[str, Any]] = {}
        self._events: deque[Any] = deque(maxlen=KEPT_EVENTS)
        self._pages: set[Subscription] = set()
        self.watched = asyncio.Event()

    def section(self, name: str) -> Section:
        """Return a section as it is."""
        return self._sections.get(name, {})

    def put(self, **sections: Section) -> None:
        """Replace sections, and send what differs."""
        changed: dict[str, Any] = {}
        gone: dict[str, list[str]] = {}
        for name, new in sections.items():
            old = self._sections.get(name, {})
            if different := {key: value for key, value in new.items() if key not in old or old[key] != value}:
                changed[name] = different
            if left := [key for key in old if key not in new]:
                gone[name] = left
            self._sections[name] = dict(new)
        if changed or gone:
            self._send({"set": changed, "gone": gone})

    def add_events(self, events: list[Any]) -> None:
        """Append events, and send them."""
        if events:
            self._events.extend(events)
            self._send({"events": events[-KEPT_EVENTS:]})

    def encoded(self) -> bytes:
        """Return all of the state as a page gets it first."""
        return _frame({"all": self._sections, "events": list(self._events)})

    async def subscribe(self, keep_alive_s: float) -> AsyncIterator[bytes]:
        """Yield what a page is sent, for as long as it reads; a comment when nothing happens for long."""
        page = Subscription(self)
        self._pages.add(page)
        self.watched.set()
        try:
            while True:
                data = await page.next(keep_alive_s)
                yield b": nothing changed\n\n" if data is None else data
        finally:
            self._pages.discard(page)
            if not self._pages:
                self.watched.clear()

    def _send(self, message: Any) -> None:
        if self._pages:
            data = _frame(message)
            for page in self._pages:
                page.put(data)


def _frame(message: Any) -> bytes:
    """Return a message as a server-sent event."""
    text = json.dumps(message, separators=(",", ":"), allow_nan=False, default=str)
    return b"data: " + text.encode() + b"\n\n"
