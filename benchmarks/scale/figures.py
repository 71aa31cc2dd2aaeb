"""The figures of a scale run, and the grades of targets 10 to 16. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.targets import TargetResult, grade_target

__all__ = ["Figure", "target_results"]

_NUMBERS = range(10, 17)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, its unit and how it was measured; `target` is the target it decides, if any."""

    title: str
    value: float
    unit: str
    detail: str = ""
    target: int | None = None
    values: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figure as records store it: there the target is called `row`."""
        return {
            "title": self.title,
            "value": self.value,
            "unit": self.unit,
            "detail": self.detail,
            "row": self.target,
            "values": self.values,
        }


def target_results(figures: Sequence[Figure], reasons: Mapping[int, str]) -> list[TargetResult]:
    """Grade targets 10 to 16: each from its figure, or with the reason why it has none.

    Args:
        figures: Everything that was measured.
        reasons: Why a target could not be measured, by number of the target.
    """
    by_target = {figure.target: figure for figure in figures if figure.target is not None}
    results = []
    for number in _NUMBERS:
        figure = by_target.get(number)
        if figure is None:
            results.append(grade_target(number, None, note=reasons.get(number, "left out of this run")))
        else:
            results.append(grade_target(number, figure.value, basis=figure.detail))
    return results
