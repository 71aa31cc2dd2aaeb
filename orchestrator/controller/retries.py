"""Schedule the repetition of commands that nodes refused, with exponential back-off.

A node may refuse a command for a temporary reason: no memory, a stalled packet thread. No other event may
ever cause a new attempt, so the command is sent again after a second, then after twice as long each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["FIRST_S", "LONGEST_S", "Retries"]

FIRST_S = 1.0
"""Seconds before the first repetition."""

LONGEST_S = 30.0
"""Seconds between repetitions at most."""


class Timer(Protocol):
    """A scheduled call that can be cancelled."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


def _later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)


@dataclass(slots=True)
class _Waiting:
    """The refused commands of one node with their versions, and the time of the next attempt."""

    versions: dict[str, int] = field(default_factory=dict)
    repetitions: int = 0
    timer: Timer | None = None


class Retries:
    """One timer for each node that refused something: all are sent again together.

    So the cost of a node that refuses a thousand links grows with the links, not with their square.

    Args:
        resend: Called with the id of a node when its refused commands are to be sent again.
        later: Calls after so many seconds.
        draw: A number between two bounds, so that a thousand nodes are not retried at one moment.
    """

    def __init__(
        self,
        resend: Callable[[int], None],
        *,
        later: Callable[[float, Callable[[], None]], Timer] = _later,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._resend = resend
        self._later = later
        self._draw = draw
        self._waiting: dict[int, _Waiting] = {}

    def refused(self, node_id: int, about: str, version: int) -> None:
        """Record a refusal; another version than before resets the back-off."""
        waiting = self._waiting.setdefault(node_id, _Waiting())
        if waiting.versions.get(about) != version:
            waiting.versions[about] = version
            if waiting.repetitions and waiting.timer is not None:
                waiting.timer.cancel()
                waiting.timer = None
            waiting.repetitions = 0
        if waiting.timer is None:
            longest = min(FIRST_S * 2.0**waiting.repetitions, LONGEST_S)
            waiting.timer = self._later(self._draw(longest / 2, longest), lambda: self._fire(node_id))

    def done(self, node_id: int, about: str) -> None:
        """Record that a node executed a command."""
        waiting = self._waiting.get(node_id)
        if waiting is not None:
            waiting.versions.pop(about, None)
            if not waiting.versions:
                self.forget(node_id)

    def forget(self, node_id: int) -> None:
        """Cancel all retries of a node: it refuses nothing, or registers again and gets everything then."""
        waiting = self._waiting.pop(node_id, None)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()

    def close(self) -> None:
        """Cancel all timers."""
        for node_id in list(self._waiting):
            self.forget(node_id)

    def _fire(self, node_id: int) -> None:
        waiting = self._waiting[node_id]
        waiting.timer = None
        waiting.repetitions = min(waiting.repetitions + 1, 10)
        self._resend(node_id)
