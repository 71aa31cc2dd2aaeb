"""Decide whether a service that ended is started again, and when. Pure: the time is an argument.

The policies and pauses are those of container engines: 0.1 s, doubled with each end up to a minute, and
again the shortest after ten seconds of running.
"""

from __future__ import annotations

__all__ = ["FIRST_DELAY_S", "MAX_DELAY_S", "STABLE_S", "Restarts"]

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 60.0
STABLE_S = 10.0


class Restarts:
    """The restarts of one service in one node.

    Args:
        policy: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`.
    """

    def __init__(self, policy: str) -> None:
        name, _, most = policy.partition(":")
        self._policy = name
        self._most = int(most) if most else None
        self._failures = 0
        self.count = 0
        self.deaths = 0

    def ended(self, exit_code: int, ran_s: float) -> float | None:
        """Note that it ended by itself.

        Args:
            exit_code: How.
            ran_s: How long it had run.

        Returns:
            Seconds until it is started again; None if it is not.
        """
        if ran_s >= STABLE_S:
            self.deaths = 0
        self.deaths += 1
        if not self._again(exit_code):
            return None
        self._failures += exit_code != 0
        self.count += 1
        return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self.deaths - 1, 20)))

    def ready(self) -> None:
        """Note that it became ready."""
        self.deaths = 0

    def forget(self) -> None:
        """Begin anew, because somebody asked for a start."""
        self._failures = self.deaths = 0

    def _again(self, exit_code: int) -> bool:
        if self._policy in ("always", "unless-stopped"):
            return True
        if self._policy != "on-failure" or exit_code == 0:
            return False
        return self._most is None or self._failures < self._most
