"""Shield clean-up from cancellation, and run work in daemon threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run work in a daemon thread, which does not delay the end of the program as an executor would.

    A caller that is cancelled while waiting abandons the thread; the work should check whether it is still
    wanted.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]  # what `work` returned

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name="work", daemon=True).start()
    return result


async def run_shielded(work: Coroutine[Any, Any, object]) -> None:
    """Run clean-up to its end, shielded from cancellation and repeated interrupts."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                return
        except Exception:
            return  # the first error is the one to report; `nm down` reports the rest
