"""What a role prints goes to the role's log.

Roles share one process, and so one `sys.stdout`. It is replaced once by a stream that looks which thread is
writing: a line from a role's thread goes to that role, everything else where it went before.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Sink = Callable[[str], None]

_sinks: dict[int, tuple[Sink, list[str]]] = {}


class ThreadedStream(io.TextIOBase):
    """A text stream that sends whole lines to the sink of the writing thread, if it has one."""

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    def write(self, text: str) -> int:
        """Take some text; a line is passed on when it is complete."""
        entry = _sinks.get(threading.get_ident())
        if entry is None:
            return self._fallback.write(text)
        sink, pending = entry
        *lines, rest = ("".join(pending) + text).split("\n")
        pending[:] = [rest] if rest else []
        for line in lines:
            sink(line)
        return len(text)

    def flush(self) -> None:
        """Flush what does not belong to a role; a role's unfinished line waits for its end."""
        if threading.get_ident() not in _sinks:
            self._fallback.flush()

    def fileno(self) -> int:
        """The descriptor of the stream underneath, for child processes that inherit it."""
        return self._fallback.fileno()

    def writable(self) -> bool:
        """Always."""
        return True


def install() -> None:
    """Replace `sys.stdout` and `sys.stderr`; a second call changes nothing."""
    if not isinstance(sys.stdout, ThreadedStream):
        sys.stdout = ThreadedStream(sys.stdout)
    if not isinstance(sys.stderr, ThreadedStream):
        sys.stderr = ThreadedStream(sys.stderr)


@contextmanager
def captured(sink: Sink) -> Iterator[None]:
    """Send what the calling thread prints to `sink`, line by line, while the body runs."""
    pending: list[str] = []
    _sinks[threading.get_ident()] = (sink, pending)
    try:
        yield
    finally:
        del _sinks[threading.get_ident()]
        if pending:
            sink("".join(pending))
