"""Distributions of a delay: a word, or a table of measured delays from a file or a list.

A table says how delays are distributed, not how large they are: it is shifted and scaled to mean 0 and
standard deviation 1, so its unit does not matter, and reduced to at most 256 quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.errors import Place
from orchestrator.fields import Choice
from orchestrator.impairment import DISTRIBUTIONS, MOST_QUANTILES, moments
from orchestrator.source import Problems, Value, read_stated

__all__ = ["Distribution", "TableFile", "read_table"]

LEAST_DELAYS = 10
"""The fewest delays that make a distribution."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """The name of a file of delays, and where it is stated."""

    name: str
    place: Place


class Distribution(Choice):
    """A known distribution, a file of delays, or a list of delays."""

    def __init__(self) -> None:
        super().__init__(*DISTRIBUTIONS)
        self.expected = f"{self.expected}, or a file of delays such as `delays.csv`,"

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        """Return the word, the file, or the quantiles of a list."""
        if isinstance(value.data, str) and ("." in value.data or "/" in value.data):
            return TableFile(value.data, value.place)
        if value.sequence is None:
            return super().read(value, name, problems)
        numbers = [item.data for item in value.sequence]
        delays = [_float(n) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool)]
        if len(delays) < len(numbers):
            problems.add(f"{name} is a list with something else than numbers", "jitter-table", value.place)
            return None
        return _quantiles(delays, name, value.place, problems)

    def schema(self) -> dict[str, Any]:
        """Return all forms as JSON Schema."""
        file = {"type": "string", "pattern": "[./]"}
        numbers = {"type": "array", "items": {"type": "number"}, "minItems": LEAST_DELAYS}
        return {"anyOf": [super().schema(), file, numbers]}


def read_table(stated: TableFile, directory: Path, problems: Problems) -> tuple[float, ...] | None:
    """Return the quantiles of a file, or None after noting what is wrong with it.

    Args:
        stated: The file.
        directory: What its name is relative to.
        problems: Takes what is wrong.
    """
    path = directory / stated.name
    expected = "a file with one delay per line"
    text = read_stated(path, stated.name, stated.place, problems, what="jitter table", expected=expected)
    if text is None:
        return None
    delays: list[float] = []
    for number, line in enumerate(text.splitlines(), start=1):
        shown = line.partition("#")[0].strip().rstrip(",;")
        if not shown:
            continue
        try:
            delays.append(float(shown))
        except ValueError:
            problems.add(
                f"`{shown[:40]}` in the jitter table is no number",
                "jitter-table",
                Place(str(path), number, 1),
                found=shown[:40],
                expected="one delay per line",
                hint="put `#` before a header or a comment, and leave one column",
            )
            return None
    return _quantiles(delays, f"the jitter table `{path}`", stated.place, problems)


def _float(number: float) -> float:
    """Return a number as a float; an integer that none can hold is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _quantiles(
    delays: Sequence[float], what: str, place: Place, problems: Problems
) -> tuple[float, ...] | None:
    ordered = sorted(delays)
    reason = ""
    if not all(map(math.isfinite, ordered)):
        reason = "has a number that is not finite"
    elif len(ordered) < LEAST_DELAYS:
        reason = f"has {len(ordered)} numbers, but at least {LEAST_DELAYS} make a distribution"
    elif ordered[0] == ordered[-1]:
        reason = "has the same number everywhere, so there is no jitter"
    if reason:
        problems.add(f"{what} {reason}", "jitter-table", place, expected="one delay per line")
        return None
    return _standardised(_reduced(ordered))


def _reduced(ordered: Sequence[float]) -> list[float]:
    """Return the means of at most `MOST_QUANTILES` ranges of equal probability."""
    count = min(len(ordered), MOST_QUANTILES)
    bounds = [step * len(ordered) // count for step in range(count + 1)]
    return [math.fsum(n / (high - low) for n in ordered[low:high]) for low, high in pairwise(bounds)]


def _standardised(numbers: Sequence[float]) -> tuple[float, ...]:
    """Return the quantiles with mean 0 and deviation 1, to six digits; unchanged if they have that."""
    mean, deviation = moments(numbers) if max(map(abs, numbers)) < 1e100 else (math.inf, math.inf)
    if abs(mean) < 1e-5 and abs(deviation - 1) < 1e-5:
        return tuple(numbers)
    # From 0 to 1 first, so that no square is too large or too small for a float.
    low, half = numbers[0], numbers[-1] / 2 - numbers[0] / 2
    scaled = [(number / 2 - low / 2) / half for number in numbers]
    mean, deviation = moments(scaled)
    return tuple(float(f"{(number - mean) / deviation:.6g}") for number in scaled)
