"""Find and terminate the processes that roles started, with all their descendants.

This process is made the reaper of its descendants: a process whose parent ended, as a daemon's does,
becomes a child of ours rather than of process 1, whatever session or environment it gave itself. So the
kernel's own lists under `/proc` name all of them. A child is listed with the thread that started it, an
adopted one with the first thread; the network namespace says then in which node it runs.

No control group is used: a child starts in the group of this whole process, which hosts the nodes too, and
would have to be moved afterwards.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress

from orchestrator import procfs, syscalls
from orchestrator.procfs import ProcessId

__all__ = ["adopt_orphans", "adopted", "end", "of_threads"]

GRACE_S = 1.0
"""How long processes may take to end by themselves."""

KILL_ROUNDS = 20
KILL_WAIT_S = 0.5
"""How often what is left is looked for and killed: a process may start another while it is being ended."""


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


def of_threads(threads: Iterable[int]) -> list[ProcessId]:
    """The children that these threads of ours started, by the threads' kernel ids; ended ones too."""
    return [child for thread in threads for child in _children(os.getpid(), thread)]


def adopted(belongs: Callable[[int | None], bool]) -> list[ProcessId]:
    """The children that this process took over, or whose thread has ended.

    Args:
        belongs: Told the inode of a child's network namespace, None if it is not known; says whether the
            child is meant.
    """
    return [child for child in of_threads([os.getpid()]) if belongs(procfs.network_namespace(child.pid))]


def end(
    find: Callable[[], list[ProcessId]], *, grace_s: float = GRACE_S, collect: bool = False
) -> list[ProcessId]:
    """End processes and all their descendants: ask, wait, and kill until none is found.

    Args:
        find: Finds the first ones; called repeatedly.
        grace_s: How long they may take by themselves.
        collect: Also collect the exit codes of our own children; only when no `Popen` can want them any more.

    Returns:
        Those that are stuck in the kernel.

    Raises:
        OSError: A process cannot be signalled or watched, for example because we have too many open files.
    """
    seen = find()
    left = _with_descendants(seen)
    for child in left:
        procfs.send_signal(child, signal.SIGTERM)
    procfs.wait_gone(left, grace_s)
    for _round in range(KILL_ROUNDS):
        found = find()
        seen += found
        left = _with_descendants(found)
        if not left:
            break
        for child in left:
            procfs.send_signal(child, signal.SIGKILL)
        procfs.wait_gone(left, KILL_WAIT_S)
    if collect:
        for child in seen:
            with suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
    return left


def _with_descendants(roots: Iterable[ProcessId]) -> list[ProcessId]:
    """Those that run, of these processes and of all that descend from them."""
    found: dict[ProcessId, None] = {}
    waiting = list(roots)
    while waiting:
        child = waiting.pop()
        if child in found:
            continue
        found[child] = None
        waiting += _children(child.pid)
    return [child for child in found if child.alive()]


def _children(pid: int, thread: int | None = None) -> list[ProcessId]:
    found = (procfs.identify(child) for child in procfs.children(pid, thread))
    return [child for child in found if child is not None]
