"""Run coroutines for blocking callers in one shared event loop thread.

Scripts and notebooks call `Lab` without `await`; a notebook even runs a loop of its own that must not be
used. All blocking calls share one loop in one daemon thread. Ctrl-C during a call cancels the coroutine and
waits for its clean-up before it is raised.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from orchestrator.clock import Deadline, SystemClock

T = TypeVar("T")

CLEANUP_S = 60.0
"""How long an interrupted call may clean up: ending a large lab takes seconds, a stuck engine more."""

_THREAD = "nm loop"
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def call(work: Coroutine[Any, Any, T], *, undo: Callable[[T], Coroutine[Any, Any, None]] | None = None) -> T:
    """Run a coroutine in the shared loop and return its result.

    Args:
        work: What to run.
        undo: Undoes the result, for an interrupt that comes when the work is done and before the
            caller has it.

    Raises:
        RuntimeError: Called from the shared loop itself, which would wait for itself.
    """
    if threading.current_thread().name == _THREAD:
        work.close()
        raise RuntimeError("the blocking API was called inside its own event loop; use the asynchronous API")
    job = _Job(work, _started())
    # An interrupt may come at any instruction from here on, so all of it is inside.
    try:
        job.begin()
        job.ended.wait()
    except BaseException:
        job.abandon()
        if undo is not None and job.succeeded():
            call(undo(job.result()))
        raise
    return job.result()


class _Job(Generic[T]):
    """A coroutine in another thread's loop."""

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self.ended = threading.Event()
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start it."""
        self._loop.call_soon_threadsafe(self._start)

    def abandon(self) -> None:
        """Cancel it and wait for its clean-up, even through repeated interrupts."""
        self._loop.call_soon_threadsafe(self._cancel)
        deadline = Deadline(SystemClock(), CLEANUP_S)
        while not self.ended.is_set() and not deadline.expired:
            with suppress(KeyboardInterrupt):
                self.ended.wait(deadline.remaining())

    def succeeded(self) -> bool:
        """Whether it completed before it could be cancelled."""
        task = self._task
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    def result(self) -> T:
        """What it returned, or raise what it raised."""
        assert self._task is not None, "it has ended"
        return self._task.result()

    def _start(self) -> None:
        if self.ended.is_set():
            return
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(lambda _task: self.ended.set())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            return
        self._work.close()  # interrupted before it began
        self.ended.set()


def _started() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name=_THREAD, daemon=True).start()
        return _loop
