"""Medians, bootstrap intervals and the Mann–Whitney test, for few repetitions of a run.

One run is one observation: rows of one run share its luck, so they are not independent of each other. The
value of a column in a run is the median of its rows, and what is computed here is computed from such values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from orchestrator.traffic import ROLE

__all__ = [
    "LEAST_FOR_INTERVAL",
    "NO_MEASUREMENT",
    "OF_TRAFFIC",
    "SIGNIFICANCE",
    "Interval",
    "difference_p",
    "group_of",
    "median_interval",
    "numeric_columns",
    "smallest_p",
]

SIGNIFICANCE = 0.05
"""A difference that chance alone would bring less often than so is called larger than the noise."""

LEAST_FOR_INTERVAL = 5
"""Repetitions below which no interval is given: the whole range of four runs has the median in 87 % of cases
and cannot be a 95 % interval; that of five has it in 94 %."""

RESAMPLES = 5_000
MOST_ARRANGEMENTS = 20_000
"""Up to so many arrangements of two groups the test goes through all of them, above it draws so many."""

NO_MEASUREMENT = frozenset({"node", "role", "round"})
OF_TRAFFIC = frozenset({"entry", "src", "dst"})
"""Columns that say what a row is about; the latter those of the rows of generated traffic."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """A median of some runs and its 95 % interval; no interval of too few."""

    median: float
    low: float | None
    high: float | None
    n: int


def group_of(row: Row) -> str:
    """Return what a row is summarised with: its role, and of generated traffic `traffic.ENTRY`.

    Entries of one run differ in sizes and rates, so that a median of all their flows says nothing.
    """
    role = str(row.get("role", ""))
    return f"{role}.{row['entry']}" if role == ROLE and "entry" in row else role


def numeric_columns(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """The value of each numeric column in one run, by group and name: the median of its rows.

    Groups are those of `group_of`.
    """
    values: dict[tuple[str, str], list[float]] = {}
    others: set[tuple[str, str]] = set()
    for row in rows:
        group = group_of(row)
        left_out = NO_MEASUREMENT | OF_TRAFFIC if row.get("role") == ROLE else NO_MEASUREMENT
        for name, value in row.items():
            if name in left_out or value is None:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                values.setdefault((group, name), []).append(float(value))
            else:
                others.add((group, name))
    return {column: median(found) for column, found in values.items() if column not in others}


def median_interval(values: Sequence[float], seed: int) -> Interval:
    """The median of runs, with the 95 % interval of a percentile bootstrap.

    Args:
        values: One for each run.
        seed: Drives the resampling, so that a table made again says the same.
    """
    import numpy

    if len(values) < LEAST_FOR_INTERVAL:
        return Interval(median(values), None, None, len(values))
    data = numpy.asarray(values, dtype=float)
    drawn = numpy.random.default_rng(seed).integers(0, len(data), (RESAMPLES, len(data)))
    low, high = numpy.percentile(numpy.median(data[drawn], axis=1), [2.5, 97.5])
    return Interval(median(values), float(low), float(high), len(values))


def smallest_p(first: int, second: int) -> float:
    """The smallest two-sided p that groups of these sizes can have."""
    return min(1.0, 2 / math.comb(first + second, first)) if first and second else 1.0


def difference_p(first: Sequence[float], second: Sequence[float], seed: int = 0) -> float | None:
    """The two-sided p of the Mann–Whitney test: how often chance alone separates two groups as much.

    It is exact for small groups. None means that the groups are too small for any difference to be
    significant: less than four and four, or three and five.
    """
    import numpy

    if smallest_p(len(first), len(second)) >= SIGNIFICANCE:
        return None
    ranks = _ranks([*first, *second])
    expected = sum(ranks) * len(first) / len(ranks)
    observed = abs(sum(ranks[: len(first)]) - expected)
    if math.comb(len(ranks), len(first)) <= MOST_ARRANGEMENTS:
        sums = numpy.array([sum(each) for each in combinations(ranks, len(first))])
        return float(numpy.mean(numpy.abs(sums - expected) >= observed - 1e-9))
    chance = numpy.random.default_rng(seed)
    arranged = chance.permuted(numpy.tile(ranks, (MOST_ARRANGEMENTS, 1)), axis=1)[:, : len(first)]
    as_far = numpy.count_nonzero(numpy.abs(arranged.sum(axis=1) - expected) >= observed - 1e-9)
    return float(as_far + 1) / (MOST_ARRANGEMENTS + 1)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2 + 1
        start = end + 1
    return ranks
