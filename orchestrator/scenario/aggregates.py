"""One number made from the rows of a check, such as their mean, and what it has to be."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.scenario.expression import Expression, ExpressionInvalid

__all__ = ["AGGREGATES", "Aggregate", "Demand", "Tolerance"]

_DEMAND = re.compile(r"\s*(<=|>=|==|!=|<|>)?\s*(.*?)\s*(?:(?:±|\+-|\+/-)\s*(.*?)\s*)?", re.DOTALL)
_TOLERANCE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*(%)?\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(_mean([(value - mean) ** 2 for value in values]))


def _percentile(share: float) -> Callable[[Sequence[float]], float]:
    """Return the percentile as NumPy computes it: linear between the two nearest values."""

    def compute(values: Sequence[float]) -> float:
        ordered = sorted(values)
        place = (len(ordered) - 1) * share
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

    return compute


AGGREGATES: Mapping[str, tuple[Callable[[Sequence[float]], float], str]] = {
    "mean": (_mean, "the arithmetic mean"),
    "min": (min, "the smallest value"),
    "max": (max, "the largest value"),
    "sum": (math.fsum, "the sum"),
    "std": (_deviation, "the standard deviation of the rows themselves"),
    "p50": (_percentile(0.50), "the median"),
    "p90": (_percentile(0.90), "the 90th percentile, linear between two rows"),
    "p95": (_percentile(0.95), "the 95th percentile"),
    "p99": (_percentile(0.99), "the 99th percentile"),
}
"""What can be made from the values of rows, with what it is."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from another: so much, or that share of the other."""

    amount: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Tolerance | None:
        """Read `3` or `5 %`; None if it is neither."""
        match = _TOLERANCE.fullmatch(text)
        if match is None or not math.isfinite(float(match[1])):
            return None
        return cls(float(match[1]), match[2] is not None)

    def covers(self, value: float, expected: float) -> bool:
        """Whether a value is near enough to what is expected."""
        allowed = abs(expected) * self.amount / 100 if self.relative else self.amount
        # A bound that is met exactly on paper is met, though it is computed in binary.
        return abs(value - expected) <= allowed or math.isclose(abs(value - expected), allowed, rel_tol=1e-9)

    def __str__(self) -> str:
        return f"± {self.amount:g}" + (" %" if self.relative else "")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a number has to be: `< 2`, `100 ± 5 %`, `>= params.least`."""

    compare: str
    expected: Expression
    tolerance: Tolerance | None

    @classmethod
    def parse(cls, text: str, tolerance: str | None = None) -> Demand:
        """Read a demand; `tolerance` is that of a key of its own.

        Raises:
            ExpressionInvalid: It is none, reads a field of rows, or its tolerance is no number.
        """
        match = _DEMAND.fullmatch(text)
        if match is None or not match[2]:
            raise _invalid(f"`{text}` does not say what is expected", text)
        expected = Expression.parse(match[2])
        if expected.fields:
            hint = "a value of the scenario is `params.NAME`"
            raise _invalid(
                f"`{text}` reads the field `{expected.fields[0]}`, which no single row has", text, hint
            )
        if match[3] is not None and tolerance is not None:
            raise _invalid("the tolerance is stated twice", text, "leave `tolerance` or the `±` out")
        stated = match[3] if match[3] is not None else tolerance
        found = Tolerance.parse(stated) if stated is not None else None
        if stated is not None and found is None:
            raise _invalid(f"`{stated}` is no tolerance", stated, "write a number, or a share such as `5 %`")
        if found is not None and match[1] not in (None, "=="):
            raise _invalid(f"`{match[1]}` takes no tolerance", text, "move the bound instead")
        return cls(match[1] or "==", expected, found)

    def holds(self, value: float, params: Mapping[str, Any]) -> bool:
        """Whether a number is as demanded.

        Raises:
            TypeError: What is expected is no number.
        """
        expected = self.expected.number({}, params)
        if self.tolerance is not None:
            return self.tolerance.covers(value, expected)
        return _COMPARE[self.compare](value, expected)

    def __str__(self) -> str:
        tail = f" {self.tolerance}" if self.tolerance else ""
        return (
            f"{self.compare} {self.expected.text.strip()}{tail}"
            if not tail
            else (f"{self.expected.text.strip()}{tail}")
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A number made from rows, and what it has to be.

    Attributes:
        function: One of `AGGREGATES`.
        value: What is taken from each row.
        demand: What the number has to be.
    """

    function: str
    value: Expression
    demand: Demand

    def compute(self, rows: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> float:
        """Return the number.

        Raises:
            MissingField: A row lacks a field.
            TypeError: A value is no number.
        """
        return float(AGGREGATES[self.function][0]([self.value.number(row, params) for row in rows]))

    def __str__(self) -> str:
        return f"{self.function} of {self.value.text.strip()}"


def _invalid(message: str, found: str, hint: str | None = None) -> ExpressionInvalid:
    return ExpressionInvalid(
        message, found=found, expected="a comparison such as `< 2` or `100 ± 5 %`", hint=hint
    )
