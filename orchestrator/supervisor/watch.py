"""Watch the processes of a lab's state file, and report those that ended.

The wait is on pidfds, which work for processes that are not children: the supervisor started none
of the parts.
"""

from __future__ import annotations

import json
import os
import select
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from orchestrator.procfs import ProcessId, boot_id, open_pidfd

__all__ = ["Note", "Watch", "read_note"]

RETRY_S = 1.0
"""How soon watching a part is tried again that could not be watched."""


class Note(NamedTuple):
    """The parts of the lab's state file that the supervisor needs: the run, and processes by role."""

    run: str
    parts: dict[str, ProcessId]


def read_note(folder: Path) -> Note | None:
    """Read the state file of a lab that is up since this boot; None otherwise."""
    try:
        raw = json.loads((folder / "state.json").read_text())
        if raw["phase"] != "up" or raw["boot"] != boot_id():
            return None
        parts = {role: ProcessId(each["pid"], each["started"]) for role, each in raw["parts"].items()}
        return Note(raw["run"], parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class Watch:
    """Waits for the end of processes."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._handles: dict[int, tuple[str, ProcessId]] = {}
        self._seen: dict[str, ProcessId] = {}
        self._unwatched: set[str] = set()
        self._ended: list[str] = []

    def follow(self, parts: dict[str, ProcessId]) -> None:
        """Watch these processes and no others; an end is reported only once.

        One that cannot be watched for lack of descriptors or memory is tried again by the next call.
        """
        self._unwatched.clear()
        for handle, (role, process) in list(self._handles.items()):
            if parts.get(role) != process:
                self._forget(handle)
        for role, process in parts.items():
            if self._seen.get(role) != process:
                self._open(role, process)

    def wait(self, limit_s: float) -> list[str]:
        """Wait until a part has ended, at most `limit_s`, and return the roles of those that have.

        The wait is short while a part is not watched.
        """
        if self._unwatched:
            limit_s = min(limit_s, RETRY_S)
        with suppress(InterruptedError):
            for handle, _events in self._poller.poll(0 if self._ended else max(0.0, limit_s) * 1000):
                self._ended.append(self._handles[handle][0])
                self._forget(handle)
        ended, self._ended = self._ended, []
        return ended

    def _open(self, role: str, process: ProcessId) -> None:
        try:
            handle = open_pidfd(process)
        except OSError:  # it may run, so it must not be restarted
            self._unwatched.add(role)
            return
        self._seen[role] = process
        if handle is None:
            self._ended.append(role)
            return
        self._handles[handle] = (role, process)
        self._poller.register(handle, select.POLLIN)

    def _forget(self, handle: int) -> None:
        del self._handles[handle]
        self._poller.unregister(handle)
        os.close(handle)
