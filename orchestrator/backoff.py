"""The waits between attempts: each is longer than the last up to a limit.

They are drawn from the upper half of that, so that the nodes of a lab do not try at one moment.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]


def _uniform(low: float, high: float) -> float:
    import random  # only a failure needs it, and the supervisor stays small

    return random.uniform(low, high)


class Backoff:
    """How long to wait before the next attempt.

    Args:
        first: Seconds before the second attempt.
        limit: Seconds that the wait never exceeds.
        factor: By how much it grows.
        draw: A number between two bounds: half of the wait and the whole.
    """

    def __init__(
        self,
        first: float = 0.05,
        limit: float = 2.0,
        *,
        factor: float = 1.6,
        draw: Callable[[float, float], float] = _uniform,
    ) -> None:
        self._first = self._next = first
        self._limit = limit
        self._factor = factor
        self._draw = draw

    def next_wait(self) -> float:
        """Return the seconds to wait now."""
        wait = self._next
        self._next = min(self._limit, wait * self._factor)
        return self._draw(wait / 2, wait)

    def reset(self) -> None:
        """Begin again with the shortest wait; call it after a success."""
        self._next = self._first
