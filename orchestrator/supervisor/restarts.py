"""Decide when a part that ended is restarted, and when no longer. Pure: the time is an argument."""

from __future__ import annotations

__all__ = ["DEATHS", "FIRST_DELAY_S", "WINDOW_S", "Restarts"]

DEATHS = 5
"""After so many deaths within the window a part is not restarted any more."""

WINDOW_S = 60.0

FIRST_DELAY_S = 0.25
"""The pause after the second death within the window; it doubles with each further one. The first death is
followed by a start at once, because what is killed from outside works when it is started again."""


class Restarts:
    """Records when parts ended, and decides about restarts."""

    def __init__(self) -> None:
        self._deaths: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}
        self._left: set[str] = set()

    def ended(self, part: str, now: float) -> float | None:
        """Note that a part ended, or that starting it failed.

        Args:
            part: Its role.
            now: Seconds on the monotonic clock.

        Returns:
            Seconds until it is to be started again; None when it is not restarted any more.
        """
        recent = [moment for moment in self._deaths.get(part, []) if now - moment < WINDOW_S]
        recent.append(now)
        self._deaths[part] = recent
        if len(recent) >= DEATHS:
            self._left.add(part)
            self._due.pop(part, None)
            return None
        pause = 0.0 if len(recent) == 1 else FIRST_DELAY_S * 2.0 ** (len(recent) - 2)
        self._due[part] = now + pause
        return pause

    def due(self, now: float) -> list[str]:
        """The parts whose pause is over, sorted; they are not named again until they ended again."""
        found = sorted(part for part, moment in self._due.items() if moment <= now)
        for part in found:
            del self._due[part]
        return found

    def next_due(self) -> float | None:
        """When the next pause is over, on the same clock; None when no part waits."""
        return min(self._due.values(), default=None)

    @property
    def left_dead(self) -> list[str]:
        """The parts that are not started again, sorted."""
        return sorted(self._left)
