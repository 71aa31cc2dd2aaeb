"""Redirect what a role prints to the role's log, limited in rate and size.

Roles share one process, and so one `sys.stdout`. It is replaced once by a stream that looks whose thread is
writing: what a role's threads print goes to that role, line by line, everything else where it went before.

A log is read by people. A line is cut at `MAX_LOG_BYTES`, and a role may log so much at once and so much a
second; what is beyond is left out and counted, and a line says so. Nothing here waits, so that a role that
prints without end does not wait for the receiver of the lines.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from orchestrator.node.role_resources import owner
from orchestrator.values import MAX_LOG_BYTES, safe_text

Put = Callable[[str, str], None]
"""Takes a line of a role's log: its level and its text."""

BURST_BYTES = 1024 * 1024
"""What a role may log at once: ten thousand lines of usual length."""

BYTES_PER_S = 128 * 1024
"""What it may log a second after that: a thousand lines, too fast to read, and little for a
database that takes ten thousand rows a second from all roles together."""

LINE_COST = 64
"""What a line costs besides its text: it becomes a message and a row."""

MARK_EVERY_S = 1.0
"""How often a line says how much was left out, while lines are left out."""


class LimitedLog:
    """A role's log, bounded in the length of a line, in rate and in size.

    Args:
        put: Takes a line that is within the limits; returns at once.
        has_room: Whether the receiver of the lines can accept one more now.
        now: Seconds on a clock that never goes back.
    """

    def __init__(
        self, put: Put, has_room: Callable[[], bool] = lambda: True, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._put = put
        self._has_room = has_room
        self._now = now
        self._lock = threading.Lock()
        self._tokens = float(BURST_BYTES)
        self._filled_at = self._marked_at = now()
        self._lines = self._bytes = 0

    def put(self, level: str, text: str) -> None:
        """Log a line, or count it as left out."""
        size = min(len(text), MAX_LOG_BYTES)
        with self._lock:
            # Looked at first, by characters: a role that prints without end must not wait for its texts to
            # be checked.
            if self._refilled() < size + LINE_COST:
                self._lines += 1
                self._bytes += len(text)
                return
        text = safe_text(text, limit=MAX_LOG_BYTES)
        size = len(text.encode())
        with self._lock:
            now = self._now()
            fits = self._refilled() >= size + LINE_COST and self._has_room()
            if fits:
                self._tokens -= size + LINE_COST
            else:
                self._lines += 1
                self._bytes += size
            # While lines go in and out of the limit, a mark for each gap would double them.
            mark = self._mark() if fits and now - self._marked_at >= MARK_EVERY_S else None
        if mark is not None:
            self._put("warning", mark)
        if fits:
            self._put(level, text)

    def finish(self) -> None:
        """Say what was left out and not said yet; the role has ended."""
        with self._lock:
            mark = self._mark()
        if mark is not None:
            self._put("warning", mark)

    def _refilled(self) -> float:
        now = self._now()
        self._tokens = min(BURST_BYTES, self._tokens + (now - self._filled_at) * BYTES_PER_S)
        self._filled_at = now
        return self._tokens

    def _mark(self) -> str | None:
        self._marked_at = self._now()
        if not self._lines:
            return None
        lines, size = self._lines, self._bytes
        self._lines = self._bytes = 0
        return (
            f"… {lines} lines ({size} bytes) were left out: a role may log {BURST_BYTES // 1024} KiB at once "
            f"and {BYTES_PER_S // 1024} KiB a second"
        )


class Lines:
    """Cuts what several threads print into lines.

    Args:
        put: Takes each line.
    """

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put
        self._open: dict[tuple[int, str], _Line] = {}
        self._lock = threading.Lock()

    def write(self, stream: str, text: str) -> None:
        """Take some text that the calling thread printed."""
        key = (threading.get_ident(), stream)
        with self._lock:
            line = self._open.setdefault(key, _Line())
        start = 0
        while (end := text.find("\n", start)) >= 0:
            line.add(text, start, end)
            self._put(line.take())
            start = end + 1
        line.add(text, start, len(text))

    def finish(self) -> None:
        """Pass on the lines that were not ended."""
        with self._lock:
            left, self._open = self._open, {}
        for line in left.values():
            if line.length:
                self._put(line.take())


class _Line:
    """A line that is not complete: the beginning of its text, and how long it is."""

    __slots__ = ("_kept", "_parts", "length")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._kept = 0
        self.length = 0

    def add(self, text: str, start: int, end: int) -> None:
        self.length += end - start
        room = min(end - start, MAX_LOG_BYTES - self._kept)
        if room > 0:
            self._parts.append(text[start : start + room])
            self._kept += room

    def take(self) -> str:
        text, cut = "".join(self._parts), self.length - self._kept
        self._parts, self._kept, self.length = [], 0, 0
        if not cut:
            return text
        shown = text[: MAX_LOG_BYTES // 2]
        return f"{shown} … [{cut + len(text) - len(shown)} characters were cut here]"


class ThreadedStream(io.TextIOBase):
    """A text stream that sends what a role's thread writes to that role."""

    def __init__(self, fallback: TextIO, name: str) -> None:
        self._fallback = fallback
        self._name = name

    def write(self, text: str) -> int:
        """Take some text."""
        found = owner()
        if found is None or found.write is None:
            return self._fallback.write(text)
        found.write(self._name, text)
        return len(text)

    def flush(self) -> None:
        """Flush what does not belong to a role; a role's unfinished line waits for its end."""
        found = owner()
        if found is None or found.write is None:
            self._fallback.flush()

    def fileno(self) -> int:
        """The descriptor of the stream underneath, for child processes that inherit it."""
        return self._fallback.fileno()

    def writable(self) -> bool:
        """Always."""
        return True


_installed: list[tuple[str, ThreadedStream]] = []


def install() -> None:
    """Replace `sys.stdout` and `sys.stderr`; a second call changes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, ThreadedStream):
            _installed.append((name, ThreadedStream(stream, name)))
            setattr(sys, name, _installed[-1][1])


def restore() -> None:
    """Put our streams back, should a role have put others in their place."""
    for name, stream in _installed:
        setattr(sys, name, stream)
