"""Terminate all processes that one command started in a node, by an environment tag and by descent.

A command that may have to be terminated is started with a tag: an environment variable, inherited by all its
children. A process that dropped the environment is found as a descendant of a tagged one. In a container
orphans are adopted by a subreaper that carries the tag (`tini -s`), so that they are descendants, too.

In a container this file is run as a program with the standard library alone: `python3 - TAG`, with the file
on standard input. So it reads `/proc` itself instead of importing `orchestrator.procfs`. It exits with 1 and
prints the numbers of the processes that are left, if there are any.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["TAG", "end_tagged"]

TAG = "NM_EXEC"
"""The variable that carries the tag."""

GRACE_S = 2.0
"""How long processes may take to end after SIGTERM, before they are killed."""

KILL_S = 5.0
"""How long the kernel may take to end what was killed; one that is stuck in it is reported as left."""

POLL_S = 0.02


def end_tagged(tag: str) -> list[int]:
    """End all processes of a command, and return the numbers of those that could not be ended.

    A process that starts another at the last moment is asked again: the look is repeated until it finds none.
    """
    for number, limit in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
        deadline = time.monotonic() + limit
        asked: set[tuple[int, int]] = set()
        while True:
            found = _find(tag)
            if not found:
                return []
            for process in found - asked if number is signal.SIGTERM else found:
                _signal(process, number)
            asked |= found
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
    return sorted(pid for pid, _started in _find(tag))


def _find(tag: str) -> set[tuple[int, int]]:
    """The processes with the tag and all their descendants, as number and start; not ourselves."""
    mark = f"{TAG}={tag}".encode()
    children: dict[int, list[int]] = {}
    started: dict[int, int] = {}
    marked: list[int] = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        stat = _stat(pid)
        if stat is None:
            continue
        parent, started[pid] = stat
        children.setdefault(parent, []).append(pid)
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                marked.append(pid)
    found: set[tuple[int, int]] = set()
    seen = {os.getpid()}
    while marked:
        pid = marked.pop()
        if pid not in seen:
            seen.add(pid)
            found.add((pid, started[pid]))
            marked += children.get(pid, [])
    return found


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and start of a process; None if it has ended, collected or not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def _signal(process: tuple[int, int], number: signal.Signals) -> None:
    """Send a signal to this very process: a number that was given to another since is left alone."""
    pid, started = process
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            stat = _stat(pid)
            if stat is not None and stat[1] == started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


if __name__ == "__main__":
    left = end_tagged(sys.argv[1])
    print(*left)
    sys.exit(1 if left else 0)
