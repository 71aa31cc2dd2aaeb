"""Find and terminate the processes that roles started, with all their descendants.

This process is made the reaper of its descendants: a process whose parent ended, as a daemon's does,
becomes a child of ours rather than of process 1, whatever session or environment it gave itself. So the
kernel's own lists under `/proc` name all of them. A child is listed with the thread that started it, an
adopted one with the first thread; the network namespace says then in which node it runs.

No control group is used: a child starts in the group of this whole process, which hosts the nodes too, and
would have to be moved afterwards.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Child", "adopt_orphans", "adopted", "end", "of_threads"]

GRACE_S = 1.0
"""How long processes may take to end by themselves."""

KILL_ROUNDS = 20
KILL_WAIT_S = 0.5
"""How often what is left is looked for and killed: a process may start another while it is being ended."""

POLL_S = 0.01

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Child(NamedTuple):
    """One process and no other: its number, and when it started in clock ticks since boot."""

    pid: int
    started: int


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def of_threads(threads: Iterable[int]) -> list[Child]:
    """The children that these threads of ours started, by the threads' kernel ids; ended ones too."""
    return [child for thread in threads for child in _listed(f"/proc/self/task/{thread}/children")]


def adopted(belongs: Callable[[int | None], bool]) -> list[Child]:
    """The children that this process took over, or whose thread has ended.

    Args:
        belongs: Told the inode of a child's network namespace, None if it is not known; says whether the
            child
            is meant.
    """
    return [child for child in of_threads([os.getpid()]) if belongs(_namespace(child.pid))]


def end(find: Callable[[], list[Child]], *, grace_s: float = GRACE_S, collect: bool = False) -> list[Child]:
    """End processes and all their descendants: ask, wait, and kill until none is found.

    Args:
        find: Finds the first ones; called repeatedly.
        grace_s: How long they may take by themselves.
        collect: Also collect the exit codes of our own children; only when no `Popen` can want them any more.

    Returns:
        Those that are stuck in the kernel.
    """
    seen = find()
    left = _with_descendants(seen)
    for child in left:
        _send(child, signal.SIGTERM)
    _wait(left, grace_s)
    for _round in range(KILL_ROUNDS):
        found = find()
        seen += found
        left = _with_descendants(found)
        if not left:
            break
        for child in left:
            _send(child, signal.SIGKILL)
        _wait(left, KILL_WAIT_S)
    if collect:
        for child in seen:
            with suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
    return left


def _with_descendants(roots: Iterable[Child]) -> list[Child]:
    """Those that run, of these processes and of all that descend from them."""
    found: dict[Child, None] = {}
    waiting = list(roots)
    while waiting:
        child = waiting.pop()
        if child in found:
            continue
        found[child] = None
        with suppress(OSError):
            for thread in Path(f"/proc/{child.pid}/task").iterdir():
                waiting += _listed(str(thread / "children"))
    return [child for child in found if _running(child)]


def _listed(path: str) -> list[Child]:
    try:
        words = Path(path).read_text().split()
    except OSError:
        return []
    return [Child(int(pid), stat[1]) for pid in words if (stat := _stat(int(pid))) is not None]


def _running(child: Child) -> bool:
    stat = _stat(child.pid)
    return stat is not None and stat[1] == child.started and stat[0] not in "ZX"


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process."""
    try:
        # The name in parentheses may hold anything, in any encoding.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19])


def _namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def _send(child: Child, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(child.pid)
    except OSError:
        return
    try:
        # Looked at after it was opened: the handle means this very process.
        if _running(child):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return
    finally:
        os.close(handle)


def _wait(children: Iterable[Child], limit_s: float) -> None:
    """Wait until none runs; waiting on them would take their exit codes from a role's own `Popen`."""
    deadline = time.monotonic() + limit_s
    while any(_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(POLL_S)
