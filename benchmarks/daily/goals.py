"""The limits of the daily benchmark, and their evaluation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

__all__ = ["GOALS", "Goal", "GoalResult", "binomial_interval", "judge_all"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One limit; `at_least` says on which side of it a value has to be."""

    key: str
    title: str
    unit: str
    bound: float
    at_least: bool = False

    def kept(self, value: float) -> bool:
        """Say whether a value keeps the limit; exactly on it does."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class GoalResult:
    """A goal with what was measured; no value means that the reason says why."""

    goal: Goal
    value: float | None
    ok: bool | None
    detail: str


GOALS: tuple[Goal, ...] = (
    Goal("help", "`nm --help`", "s", 0.3),
    Goal("validate", "`nm validate topologies/ring.yaml`", "s", 0.3),
    Goal("up-ring-native", "`nm up`, ring of 4, native", "s", 3),
    Goal("up-ring-docker", "`nm up`, ring of 4, docker", "s", 15),
    Goal("up-tree-native", "`nm up`, fat tree of 36, native", "s", 4),
    Goal("up-tree-docker", "`nm up`, fat tree of 36, docker", "s", 60),
    Goal("sync-native", "weights-sync, 90 MB to 3 receivers, native, slowest", "MB/s", 250, at_least=True),
    Goal("sync-docker", "weights-sync, 90 MB to 3 receivers, docker, slowest", "MB/s", 100, at_least=True),
    Goal("sync-tree-native", "weights-sync, 90 MB to 35 receivers, native, whole run", "s", 20),
    Goal("wire", "sender's bytes / (payload × out-degree), no loss", "ratio", 1.03),
    Goal("pingall-native", "pingall, all pairs of 36, native", "s", 15),
    Goal("rate", "100 Mbit link: TCP goodput off by", "%", 3),
    Goal("delay", "20 ms link: mean delay off by", "ms", 0.5),
    Goal("loss", "1 % loss at 100,000 packets: distance to the 95 % interval", "packets", 0),
)


def judge_all(values: Mapping[str, tuple[float, str]], reasons: Mapping[str, str]) -> list[GoalResult]:
    """Return every goal with its value and detail, or with the reason why there is none."""
    results = []
    for goal in GOALS:
        if goal.key in values:
            value, detail = values[goal.key]
            results.append(GoalResult(goal, value, goal.kept(value), detail))
        else:
            results.append(GoalResult(goal, None, None, reasons.get(goal.key, "left out of this run")))
    return results


def binomial_interval(trials: int, probability: float) -> tuple[int, int]:
    """Return the 95 % interval of losses among `trials` packets, by the normal approximation.

    With 100,000 packets at 1 % the approximation is off by less than one packet.
    """
    mean, deviation = trials * probability, sqrt(trials * probability * (1 - probability))
    return round(mean - 1.96 * deviation), round(mean + 1.96 * deviation)
