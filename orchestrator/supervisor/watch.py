"""Watch the processes of a lab's state file, and report those that ended.

The kernel reuses process numbers, so a process is identified by its number and its start time. The wait is on
pidfds, which work for processes that are not children: the supervisor started none of the parts.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Note", "Process", "Watch", "alive", "end", "read_note"]


class Process(NamedTuple):
    """One process and no other: its number, and when it started in clock ticks since boot."""

    pid: int
    started: int


class Note(NamedTuple):
    """The parts of the lab's state file that the supervisor needs: the run, and processes by role."""

    run: str
    parts: dict[str, Process]


def read_note(folder: Path) -> Note | None:
    """Read the state file of a lab that is up since this boot; None otherwise."""
    try:
        raw = json.loads((folder / "state.json").read_text())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if raw["phase"] != "up" or raw["boot"] != boot:
            return None
        parts = {role: Process(each["pid"], each["started"]) for role, each in raw["parts"].items()}
        return Note(raw["run"], parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def alive(process: Process) -> bool:
    """Whether this very process still runs; one that only waits to be collected does not."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_bytes()
    except OSError:
        return False
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[19]) == process.started and fields[0] not in b"ZX"


def end(processes: Iterable[Process], limit_s: float) -> None:
    """End processes: SIGTERM, and SIGKILL for those that still run after `limit_s` seconds."""
    poller = select.poll()
    left = set()
    for process in processes:
        with suppress(OSError):
            handle = os.pidfd_open(process.pid)
            left.add(handle)
            poller.register(handle, select.POLLIN)
            if alive(process):  # looked at after it was opened: the handle means this very process
                signal.pidfd_send_signal(handle, signal.SIGTERM)
            else:
                _close(poller, handle)
                left.discard(handle)
    deadline = time.monotonic() + limit_s
    while left and time.monotonic() < deadline:
        for handle, _events in poller.poll((deadline - time.monotonic()) * 1000):
            _close(poller, handle)
            left.discard(handle)
    for handle in left:
        with suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        _close(poller, handle)


class Watch:
    """Waits for the end of processes."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._handles: dict[int, tuple[str, Process]] = {}
        self._seen: dict[str, Process] = {}
        self._ended: list[str] = []

    def follow(self, parts: dict[str, Process]) -> None:
        """Watch these processes and no others; an end is reported only once."""
        for handle, (role, process) in list(self._handles.items()):
            if parts.get(role) != process:
                self._forget(handle)
        for role, process in parts.items():
            if self._seen.get(role) != process:
                self._seen[role] = process
                self._open(role, process)

    def wait(self, limit_s: float) -> list[str]:
        """Wait until a part has ended, at most `limit_s`, and return the roles of those that have."""
        with suppress(InterruptedError):
            for handle, _events in self._poller.poll(0 if self._ended else max(0.0, limit_s) * 1000):
                self._ended.append(self._handles[handle][0])
                self._forget(handle)
        ended, self._ended = self._ended, []
        return ended

    def _open(self, role: str, process: Process) -> None:
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:
            self._ended.append(role)
            return
        if not alive(process):  # looked at after it was opened: the handle means this very process
            os.close(handle)
            self._ended.append(role)
            return
        self._handles[handle] = (role, process)
        self._poller.register(handle, select.POLLIN)

    def _forget(self, handle: int) -> None:
        del self._handles[handle]
        _close(self._poller, handle)


def _close(poller: select.poll, handle: int) -> None:
    poller.unregister(handle)
    os.close(handle)
