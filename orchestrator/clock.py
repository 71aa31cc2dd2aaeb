"""Clocks and deadlines; no other module reads the time.

All other code takes a `Clock` or a moment as an argument. Durations are measured on the monotonic clock, in
seconds; wall-clock time is used for display only, in UTC.

`ManualClock` moves only when told, so that tests of back-off need no waiting.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "Deadline", "ManualClock", "SystemClock", "utc_text"]


class Clock(Protocol):
    """What the rest of the program may know about time."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970 in UTC; may jump, so never subtract two of them."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wall(self) -> float:
        """Return `time.time()`."""
        return time.time()


class ManualClock:
    """A clock that only `advance` moves."""

    def __init__(self, monotonic: float = 0.0, wall: float = 1_000_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Return the seconds advanced so far, plus the start."""
        return self._monotonic

    def wall(self) -> float:
        """Return the start of the wall clock plus the seconds advanced."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._monotonic += seconds
        self._wall += seconds


class Deadline:
    """A moment by which something has to be done; None means never.

    Example:
        >>> clock = ManualClock()
        >>> deadline = Deadline(clock, 5.0)
        >>> clock.advance(3.0)
        >>> deadline.remaining(), deadline.expired
        (2.0, False)
    """

    __slots__ = ("_clock", "_due", "limit")

    def __init__(self, clock: Clock, limit: float | None) -> None:
        self._clock = clock
        self.limit = limit
        self._due = None if limit is None else clock.monotonic() + limit

    @property
    def expired(self) -> bool:
        """Tell whether the moment has passed."""
        return self._due is not None and self._clock.monotonic() >= self._due

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0; None if there is no limit."""
        return None if self._due is None else max(0.0, self._due - self._clock.monotonic())


def utc_text(wall: float) -> str:
    """Return a wall-clock moment as ISO 8601 in UTC with milliseconds, such as `2026-01-31T12:00:00.250Z`."""
    whole = int(wall // 1)
    millis = int((wall - whole) * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03d}Z"
