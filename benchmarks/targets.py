"""The sixteen numbered targets: a metric, its thresholds (gate, target, stretch) and published claims.

The gate is the least that counts as done. A claim is a number that others published, measured on other
hardware; it has a column of its own and takes part in no ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["TARGETS", "Grade", "Target", "TargetResult", "exit_code", "grade", "grade_target", "target"]

Grade = Literal["stretch", "target", "gate", "missed", "not measured"]
Unit = Literal["ratio", "µs", "MB", "s", "% of a core"]


@dataclass(frozen=True, slots=True)
class Target:
    """One numbered target with its three thresholds."""

    number: int
    metric: str
    unit: Unit
    gate: float
    target: float
    stretch: float
    claim: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values are better: true for throughput ratios, else false."""
        return self.gate < self.stretch


@dataclass(frozen=True, slots=True)
class TargetResult:
    """The value that a run measured for one target, and its grade.

    `reached` is None when nothing was measured; `note` then holds the reason. `basis` is how the value was
    computed.
    """

    number: int
    reached: float | None
    grade: Grade
    basis: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the result as records store it: there the number of the target is called `row`."""
        return {
            "row": self.number,
            "reached": self.reached,
            "grade": self.grade,
            "basis": self.basis,
            "note": self.note,
        }


_TUN_CLAIM = "Nextmini: 4.8 Gb/s, hardware unnamed"
_MAX_CLAIM = "Nextmini: 132 Gb/s, hardware unnamed"
_MEMORY_CLAIM = "Nextmini: 2.1–15 MB"
_UP_100_CLAIM = "Nextmini: 5.87 s on 16 cores"
_UP_1000_CLAIM = "Nextmini: 55 s for 800 on 16 cores"

TARGETS: tuple[Target, ...] = (
    Target(1, "TUN to TUN, 1 stream, 1 link, one process / REF", "ratio", 0.60, 0.85, 0.95, _TUN_CLAIM),
    Target(2, "2 overlay hops / REF", "ratio", 0.55, 0.80, 0.95),
    Target(3, "16 overlay hops / 16 kernel veth hops", "ratio", 1.0, 1.5, 1.7),
    Target(4, "process per node, 1 link / REF", "ratio", 0.40, 0.55, 0.65),
    Target(5, "plain 1500-byte packets / REF", "ratio", 0.07, 0.10, 0.13),
    Target(6, "UDP 64 B packets per second / veth two hops", "ratio", 0.7, 0.95, 1.5),
    Target(7, "max mode, 1 relay / direct loopback", "ratio", 0.8, 1.0, 1.3, _MAX_CLAIM),
    Target(8, "max mode, 2 relays / direct loopback", "ratio", 0.5, 0.75, 0.9),
    Target(9, "RTT idle, one link, one process, p50", "µs", 150, 70, 50),
    Target(10, "memory per node, one process (kernel + user)", "MB", 1.0, 0.4, 0.31, _MEMORY_CLAIM),
    Target(11, "`nm up` native, ring of 100: ready, all routes in", "s", 5, 2, 1, _UP_100_CLAIM),
    Target(12, "`nm up` native, 1,000 nodes", "s", 60, 20, 10, _UP_1000_CLAIM),
    Target(13, "`nm down` native, 1,000 nodes", "s", 20, 3, 1),
    Target(14, "`nm up` docker, 20 nodes / 20 idle containers in parallel", "ratio", 2.0, 1.4, 1.2),
    Target(15, "idle CPU, 1,000 nodes", "% of a core", 5, 0.5, 0),
    Target(16, "zero-copy receive in Python, per packet in a batch", "µs", 2, 0.5, 0.2),
)


def target(number: int) -> Target:
    """Return the target with this number."""
    return TARGETS[number - 1]


def grade(entry: Target, reached: float) -> Grade:
    """Return the best grade whose threshold `reached` meets; a value equal to a threshold meets it."""
    thresholds: tuple[tuple[Grade, float], ...] = (
        ("stretch", entry.stretch),
        ("target", entry.target),
        ("gate", entry.gate),
    )
    for name, threshold in thresholds:
        if (reached >= threshold) if entry.higher_is_better else (reached <= threshold):
            return name
    return "missed"


def grade_target(number: int, reached: float | None, *, basis: str = "", note: str = "") -> TargetResult:
    """Grade the value measured for a target; without a value the grade is "not measured".

    Args:
        number: Number of the target.
        reached: The measured value in the target's unit, or None.
        basis: How the value was computed, such as `median of 5 paired ratios`.
        note: The reason when there is no value, or a caution.
    """
    found: Grade = "not measured" if reached is None else grade(target(number), reached)
    return TargetResult(number, reached, found, basis, note)


def exit_code(targets: Iterable[TargetResult], *, checks_ok: bool, strict: bool) -> int:
    """Return the exit code.

    1 for a missed gate or where the path checks did not pass, 3 for a target that was not measured when
    strict, else 0.
    """
    results = list(targets)
    if not checks_ok or any(result.grade == "missed" for result in results):
        return 1
    if strict and any(result.grade == "not measured" for result in results):
        return 3
    return 0
