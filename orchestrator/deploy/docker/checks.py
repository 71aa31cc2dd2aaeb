"""Check by a program in a container whether a service is ready, never twice at a time.

Ending `docker exec` leaves its program in the container. So a program that takes long is left to run, its
answer is used when it comes, and `timeout` ends it in the container, where the image has that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["CHECK_S", "Checks", "command_passes", "run", "running_checks"]

CHECK_S = 10.0
"""How long the answer of one check is waited for at once."""

CHECKS_AT_ONCE = 8
"""Each is a process, and one more in the engine."""

NOT_STARTED = (126, 127)
"""The exit codes of `docker exec` for a program that cannot be started or is not there."""

LIMITED = """
timeout -k 1 1 true 2>/dev/null && exec timeout -k 1 "$0" "$@"
command -v timeout >/dev/null 2>&1 && exec timeout "$0" "$@"
exec "$@"
"""
"""Runs a command in a shell, for `$0` seconds if the image has `timeout`, which may know no `-k`."""

GRACE_S = 3.0
"""How much longer `docker exec` may take than its command, which is killed a second after its limit."""

Check = Callable[[], Coroutine[Any, Any, bool]]


class Checks:
    """The checks that run now."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._waits = asyncio.Semaphore(CHECKS_AT_ONCE)

    def runs(self, key: str) -> bool:
        """Whether a check was begun whose answer was not asked for since it came."""
        return (task := self._running.get(key)) is not None and not task.cancelled()

    async def passes(self, key: str, check: Check) -> bool:
        """Begin a check and wait a while for its answer, or look whether the one before has it by now.

        Args:
            key: What is checked: one start of one container.
            check: Does it; has a limit of its own.

        Returns:
            Whether it passed; False while it runs.
        """
        task = self._running.get(key)
        if task is None or task.cancelled():
            async with self._waits:
                if not self.runs(key):
                    self._running[key] = asyncio.create_task(check())
                task = self._running[key]
                await asyncio.wait({task}, timeout=CHECK_S)
        if not task.done():
            return False
        if self._running.get(key) is task:
            del self._running[key]
        return not task.cancelled() and task.result()


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Checks] = WeakKeyDictionary()


def running_checks() -> Checks:
    """The checks of all labs that the running event loop does."""
    return _OF_LOOP.setdefault(asyncio.get_running_loop(), Checks())


async def command_passes(container: str, words: Sequence[str], limit_s: float) -> bool:
    """Run a command in a container; return whether it ended with exit code 0.

    Args:
        container: Its id.
        words: The command.
        limit_s: How long it may take.
    """
    limit = math.ceil(limit_s)
    call = ["docker", "exec", container]
    code, _ = await run([*call, "sh", "-c", LIMITED, str(limit), *words], limit + GRACE_S)
    if code in NOT_STARTED:  # there may be no shell
        code, _ = await run([*call, *words], limit_s)
    return code == 0


async def run(words: Sequence[str], limit_s: float, given: bytes | None = None) -> tuple[int, list[str]]:
    """Run a program to its end; return its exit code and the lines that it printed."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await process.communicate(given)
    except TimeoutError:
        return 124, [f"no end within {limit_s:g} s"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    code = process.returncode if process.returncode is not None else 1
    return code, [line for line in said.decode(errors="replace").splitlines() if line.strip()]
