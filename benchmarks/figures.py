"""Compute the published figures from samples. Pure.

A run is made of rounds; in a round every case is measured once, one after the other, so that a case and its
reference are measured under the same load. The published figure is therefore the *paired* ratio: the median
over rounds of (case / reference in that round). A shared host slows down for minutes at a time; the loopback
shows it, so a round whose loopback is below 70 % of the run's best is discarded, and listed as discarded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = [
    "DISCARD_BELOW",
    "Discarded",
    "Round",
    "Sample",
    "Summary",
    "discard_slow_rounds",
    "paired_ratios",
    "percentile",
    "summarise",
]

DISCARD_BELOW = 0.70
"""Least share of the run's best loopback that a round must show to count."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one case in one round.

    Attributes:
        value: Gb/s, packets per second or microseconds, in the unit of the case.
        cpu_seconds_per_gigabit: Busy time of all cores per gigabit transferred; None for round trips.
        cores_busy: Mean number of busy cores while measuring.
        retransmits: Retransmitted TCP segments; None where there is no TCP.
        detail: Further numbers, such as percentiles.
    """

    value: float
    cpu_seconds_per_gigabit: float | None = None
    cores_busy: float | None = None
    retransmits: int | None = None
    detail: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over all cases; a case that failed has its reason instead of a sample."""

    number: int
    pinned: bool
    samples: Mapping[str, Sample]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Discarded:
    """A round that does not count, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The published figures of one case over the rounds that count."""

    case: str
    reference: str | None
    values: tuple[float, ...]
    median: float
    best: float
    ratios: tuple[float, ...] = ()
    paired: float | None = None
    best_to_best: float | None = None
    cpu_seconds_per_gigabit: float | None = None
    cores_busy: float | None = None
    retransmits: int | None = None


def discard_slow_rounds(
    rounds: Sequence[Round], *, loopback: str, below: float = DISCARD_BELOW
) -> tuple[list[Round], list[Discarded]]:
    """Split rounds into those that count and those whose loopback shows a slow machine.

    Pinned and unpinned rounds are compared separately, because CPU placement alone changes the loopback. A
    round without a loopback sample does not count.

    Args:
        rounds: All rounds of the run, in order.
        loopback: Name of the case that measures the direct loopback.
        below: Least share of the best loopback of the same kind of round.

    Returns:
        The rounds that count and the discarded ones, both in order.
    """
    best: dict[bool, float] = {}
    for entry in rounds:
        sample = entry.samples.get(loopback)
        if sample is not None:
            best[entry.pinned] = max(best.get(entry.pinned, 0.0), sample.value)
    kept: list[Round] = []
    dropped: list[Discarded] = []
    for entry in rounds:
        sample = entry.samples.get(loopback)
        if sample is None:
            why = entry.failures.get(loopback, "not measured")
            dropped.append(Discarded(entry.number, f"no loopback reference: {why}"))
        elif sample.value < below * best[entry.pinned]:
            share = sample.value / best[entry.pinned]
            why = f"loopback at {share:.0%} of the run's best ({sample.value:.1f} Gb/s)"
            dropped.append(Discarded(entry.number, why))
        else:
            kept.append(entry)
    return kept, dropped


def paired_ratios(rounds: Iterable[Round], case: str, reference: str) -> list[float]:
    """Return case / reference for every round that has both."""
    ratios = []
    for entry in rounds:
        sample, base = entry.samples.get(case), entry.samples.get(reference)
        if sample is not None and base is not None and base.value > 0:
            ratios.append(sample.value / base.value)
    return ratios


def summarise(
    rounds: Sequence[Round], case: str, *, reference: str | None = None, higher_is_better: bool = True
) -> Summary | None:
    """Return the figures of one case, or None when no round that counts has a sample of it."""
    samples = [entry.samples[case] for entry in rounds if case in entry.samples]
    if not samples:
        return None
    pick = max if higher_is_better else min
    values = tuple(sample.value for sample in samples)
    ratios: list[float] = []
    best_to_best = None
    if reference is not None:
        ratios = paired_ratios(rounds, case, reference)
        references = [entry.samples[reference].value for entry in rounds if reference in entry.samples]
        if references and pick(references) > 0:
            best_to_best = pick(values) / pick(references)
    return Summary(
        case=case,
        reference=reference,
        values=values,
        median=median(values),
        best=pick(values),
        ratios=tuple(ratios),
        paired=median(ratios) if ratios else None,
        best_to_best=best_to_best,
        cpu_seconds_per_gigabit=_median_of([s.cpu_seconds_per_gigabit for s in samples]),
        cores_busy=_median_of([s.cores_busy for s in samples]),
        retransmits=_sum_of([s.retransmits for s in samples]),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie, by nearest rank.

    Raises:
        ValueError: There are no values, or the share is outside 0 to 1.
    """
    if not values or not 0.0 <= share <= 1.0:
        raise ValueError("a percentile needs values and a share from 0 to 1")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _median_of(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def _sum_of(values: Iterable[int | None]) -> int | None:
    present = [value for value in values if value is not None]
    return sum(present) if present else None
