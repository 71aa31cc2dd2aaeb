"""Run work in a thread to completion, even when the awaiting task is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["run_to_completion"]

T = TypeVar("T")


async def run_to_completion(work: Callable[[], T], cancel: Callable[[], None] = lambda: None) -> T:
    """Run work in a thread and wait for its end, even when cancelled.

    A thread cannot be cancelled, and must not start anything after the check for leftovers.

    Args:
        work: What to do.
        cancel: Called when we are cancelled, so that the work may end early.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        cancel()
        while not thread.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({thread})
        thread.exception()
        raise
