"""Wait in an event loop for changes on native threads.

Native threads never call into Python: they signal a file descriptor, and the loop reads it like any other.
One waiter serves all waits of a loop. Nothing is taken from a queue before it is handed to the awaiting
caller, so a wait may be cancelled at any point without losing data.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from nextmini_py._native import Waker

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    _T = TypeVar("_T")

    class Watchable(Protocol):
        """Something native that can tell a waker that it changed."""

        def watch(self, waker: Waker, key: int) -> None: ...


class Waiter:
    """What one event loop waits for.

    Args:
        loop: The loop; the waiter is used from its thread only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waker = Waker()
        self._keys: WeakKeyDictionary[Watchable, int] = WeakKeyDictionary()
        self._last_key = 0
        self._sleepers: dict[int, set[asyncio.Future[None]]] = {}

    async def until(
        self, thing: Watchable, look: Callable[[], _T | None], timeout_ms: int | None = None
    ) -> _T | None:
        """Look until something is found, each time that `thing` changes.

        Args:
            thing: What says that it changed.
            look: Takes what is waited for, or returns None; never waits.
            timeout_ms: When to give up; None never does.

        Returns:
            What was found, or None when the time is over.
        """
        deadline = None if timeout_ms is None else self._loop.time() + timeout_ms / 1000
        key = self._key(thing)
        while (found := look()) is None:
            if deadline is not None and self._loop.time() >= deadline:
                return None
            await self._sleep(key, deadline)
        return found

    def _key(self, thing: Watchable) -> int:
        key = self._keys.get(thing)
        if key is None:
            self._last_key += 1
            key = self._last_key
            thing.watch(self._waker, key)
            self._keys[thing] = key  # a thing that could not be watched is not waited for
        return key

    async def _sleep(self, key: int, deadline: float | None) -> None:
        if not self._sleepers:
            self._loop.add_reader(self._waker.fileno(), self._wake)
        sleeper: asyncio.Future[None] = self._loop.create_future()
        self._sleepers.setdefault(key, set()).add(sleeper)
        alarm = None if deadline is None else self._loop.call_at(deadline, _wake_sleeping, sleeper)
        try:
            await sleeper
        finally:
            if alarm is not None:
                alarm.cancel()
            sleepers = self._sleepers[key]
            sleepers.discard(sleeper)
            if not sleepers:
                del self._sleepers[key]
            if not self._sleepers and not self._loop.is_closed():
                self._loop.remove_reader(self._waker.fileno())

    def _wake(self) -> None:
        for key in self._waker.take():
            for sleeper in self._sleepers.get(key, ()):
                _wake_sleeping(sleeper)


def _wake_sleeping(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


_waiters: WeakKeyDictionary[asyncio.AbstractEventLoop, Waiter] = WeakKeyDictionary()


def waiter() -> Waiter:
    """Return the waiter of the running loop."""
    import asyncio  # here, where there is a loop: a program without one need not load it

    loop = asyncio.get_running_loop()
    found = _waiters.get(loop)
    if found is None:
        found = _waiters[loop] = Waiter(loop)
    return found
