"""Limit how much the roles of a run may log, in lines and bytes, with a token bucket."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.clock import Clock

__all__ = ["LogLimit"]

BYTES_PER_S = 1024 * 1024
"""Bytes of logs that a run may write without a time limit."""

BURST_BYTES = 8 * 1024 * 1024
"""Bytes that it may write at once."""

LINE_BYTES = 200
"""What a line costs besides its text: the event around it, and its place in an index."""


class LogLimit:
    """A bucket that fills with time and is emptied by lines."""

    RULE: ClassVar[str] = f"a run may log {BYTES_PER_S >> 20} MiB/s, after {BURST_BYTES >> 20} MiB at once"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = float(BURST_BYTES)
        self._at = clock.monotonic()
        self._left_out = 0

    def take(self, size: int) -> int | None:
        """Return how many lines were left out before this one, None if this one is left out as well."""
        now = self._clock.monotonic()
        self._left = min(float(BURST_BYTES), self._left + (now - self._at) * BYTES_PER_S)
        self._at = now
        cost = size + LINE_BYTES
        if cost > self._left:
            self._left_out += 1
            return None
        self._left -= cost
        left_out, self._left_out = self._left_out, 0
        return left_out
