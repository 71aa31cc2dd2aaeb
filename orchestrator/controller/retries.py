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

from orchestrator.backoff import Backoff

__all__ = ["FIRST_DELAY_S", "MAX_DELAY_S", "Retries"]

FIRST_DELAY_S = 1.0
"""Seconds before the first repetition."""

MAX_DELAY_S = 30.0
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
    """The refused commands of one node with their versions, and the time of the next attempt.

    Attributes:
        repeated: They were sent again.
        again: Those that were refused again then.
    """

    backoff: Backoff
    versions: dict[str, int] = field(default_factory=dict)
    repeated: bool = False
    again: set[str] = field(default_factory=set)
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
        backoff = Backoff(FIRST_DELAY_S, MAX_DELAY_S, factor=2.0, draw=self._draw)
        waiting = self._waiting.setdefault(node_id, _Waiting(backoff))
        if waiting.repeated and waiting.versions.get(about) == version:
            waiting.again.add(about)
        if waiting.versions.get(about) != version:
            waiting.versions[about] = version
            waiting.again.discard(about)
            if waiting.repeated:
                waiting.backoff.reset()
                if waiting.timer is not None:
                    waiting.timer.cancel()
                waiting.repeated, waiting.timer = False, None
        if waiting.timer is None:
            waiting.timer = self._later(waiting.backoff.next_delay(), lambda: self._fire(node_id))

    def done(self, node_id: int, about: str) -> None:
        """Record that a node executed a command."""
        waiting = self._waiting.get(node_id)
        if waiting is not None:
            waiting.versions.pop(about, None)
            waiting.again.discard(about)
            if not waiting.versions:
                self.forget(node_id)

    def refused_again(self, node_id: int) -> frozenset[str]:
        """Return what a node has refused, and again when it was repeated: it is unlikely to pass."""
        waiting = self._waiting.get(node_id)
        return frozenset(waiting.again) if waiting is not None else frozenset()

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
        waiting.repeated = True
        self._resend(node_id)
