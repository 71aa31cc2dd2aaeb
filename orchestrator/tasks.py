"""Start background tasks whose failure is logged and reported.

The failure of a task that nobody awaits is lost, and code that depends on it waits for ever. So no task is
started by `asyncio.create_task` alone: a task that works for a caller is awaited by that caller; every other
one is started here.

    spawn           runs once; its failure is logged and passed on
    keep_running    runs for as long as its owner; after a failure it is restarted, with growing pauses
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from orchestrator import log
from orchestrator.backoff import Backoff

__all__ = ["keep_running", "spawn"]

FIRST_DELAY_S = 0.05
"""Seconds before a task that failed is started again for the first time."""

MAX_DELAY_S = 5.0
"""Seconds that the wait never exceeds; a line in the log every five seconds is still read."""

_LOG = log.get(__name__)
_running: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly


def spawn(
    work: Coroutine[Any, Any, Any],
    *,
    name: str,
    failed: Callable[[Exception], None] | None = None,
) -> asyncio.Task[Any]:
    """Run a coroutine in the background.

    Args:
        work: What to run. Cancelling the task is no failure.
        name: For the log.
        failed: Called in the loop with the exception that ended it, after that was logged; it ends whatever
            depends on the task.

    Returns:
        The task, to be cancelled by its owner. It is kept alive until it has ended.
    """
    task = asyncio.create_task(work, name=name)
    _running.add(task)

    def ended(task: asyncio.Task[Any]) -> None:
        _running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            _LOG.error("background task failed", task=name, **_facts(error))
            if failed is not None:
                failed(error)

    task.add_done_callback(ended)
    return task


def keep_running(
    work: Callable[[], Coroutine[Any, Any, Any]],
    *,
    name: str,
    failed: Callable[[Exception], None] | None = None,
) -> asyncio.Task[None]:
    """Run a coroutine in the background, and again after every failure, until it returns or is cancelled.

    Args:
        work: Makes the coroutine for every start; its state has to be kept elsewhere.
        name: For the log.
        failed: Called in the loop with each exception, after that was logged.

    Returns:
        The task, to be cancelled by its owner.
    """

    async def run() -> None:
        backoff = Backoff(FIRST_DELAY_S, MAX_DELAY_S)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await work()
                return
            except Exception as error:
                _LOG.error("background task failed and is started again", task=name, **_facts(error))
                if failed is not None:
                    failed(error)
            if loop.time() - began > MAX_DELAY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_delay())

    return spawn(run(), name=name)


def _facts(error: Exception) -> dict[str, object]:
    """What went wrong and where, short enough for a line."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last is not None else "unknown"
    return {"error": type(error).__name__, "reason": " ".join(str(error).split())[:300], "where": where}
