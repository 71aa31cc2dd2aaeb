"""The figures of a scale run, and their rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.targets import RowResult, judge

__all__ = ["Figure", "row_results"]

_ROWS = range(10, 17)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit and how it came about; `row` when it decides a row."""

    title: str
    value: float
    unit: str
    detail: str = ""
    row: int | None = None
    values: tuple[float, ...] = ()


def row_results(figures: Sequence[Figure], reasons: Mapping[int, str]) -> list[RowResult]:
    """Return rows 10 to 16: each from its figure, or with the reason why it has none.

    Args:
        figures: Everything that was measured.
        reasons: Why a row could not be measured, by row.
    """
    by_row = {figure.row: figure for figure in figures if figure.row is not None}
    results = []
    for row in _ROWS:
        figure = by_row.get(row)
        if figure is None:
            results.append(judge(row, None, note=reasons.get(row, "left out of this run")))
        else:
            results.append(judge(row, figure.value, basis=figure.detail))
    return results
