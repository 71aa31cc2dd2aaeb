"""The delays between attempts: each is longer than the one before, up to a maximum.

A delay is drawn at random between half of its nominal length and all of it, so that the nodes of a lab do not
try at one moment.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers understand it, without importing `typing`
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff"]


def _uniform(low: float, high: float) -> float:
    import random  # only a failure needs it, and the supervisor stays small

    return random.uniform(low, high)


class Backoff:
    """How long to wait before the next attempt.

    Args:
        first_delay: Seconds before the second attempt.
        max_delay: Seconds that a delay never exceeds.
        factor: By how much the delay grows each time.
        draw: Draws a number between two bounds: half of the delay and the whole.
    """

    def __init__(
        self,
        first_delay: float = 0.05,
        max_delay: float = 2.0,
        *,
        factor: float = 1.6,
        draw: Callable[[float, float], float] = _uniform,
    ) -> None:
        self._first = self._next = first_delay
        self._max = max_delay
        self._factor = factor
        self._draw = draw

    def next_delay(self) -> float:
        """Return the seconds to wait now."""
        delay = self._next
        self._next = min(self._max, delay * self._factor)
        return self._draw(delay / 2, delay)

    def reset(self) -> None:
        """Begin again with the shortest delay; call it after a success."""
        self._next = self._first
