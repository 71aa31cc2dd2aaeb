"""Detect slow callbacks on event loops.

Loops of the tests run in asyncio's debug mode, and every callback is timed. What counts is the time in which
it kept its thread busy or asleep, not the time in which other programs had the core: the kernel says how long
a thread waited to be run (`/proc/thread-self/schedstat`, second number, nanoseconds), and that is taken off.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["LIMIT_S", "watched"]

LIMIT_S = 1.0
"""Seconds that a callback may take. A peer is given up after 20 s of silence, and people notice 0.1 s,
but the tests share two cores with builds, and a first import of a large package is a callback too."""

_thread = threading.local()


@contextmanager
def watched() -> Iterator[list[str]]:
    """Watch every loop that is made or runs meanwhile; yield the list of callbacks that were too slow."""
    slow: list[str] = []
    handle: Any = asyncio.Handle
    loop: Any = asyncio.BaseEventLoop
    run, init = handle._run, loop.__init__

    def timed(self: Any) -> None:
        before, waited = time.monotonic(), _waited_s()
        run(self)
        took = time.monotonic() - before
        if took > LIMIT_S and (own := took - (_waited_s() - waited)) > LIMIT_S:
            slow.append(f"{asyncio.base_events._format_handle(self)} took {own:.1f} s")

    def begin(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self.set_debug(True)
        self.slow_callback_duration = LIMIT_S

    handle._run, loop.__init__ = timed, begin
    try:
        yield slow
    finally:
        handle._run, loop.__init__ = run, init


def _waited_s() -> float:
    """Return the seconds that this thread has waited for a core so far; 0 where the kernel does not tell."""
    try:
        if not hasattr(_thread, "file"):
            _thread.file = Path("/proc/thread-self/schedstat").open("rb", buffering=0)  # noqa: SIM115  # kept
        return int(os.pread(_thread.file.fileno(), 64, 0).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
