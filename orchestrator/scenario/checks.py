"""Evaluate the checks of a scenario against the rows that roles reported."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.scenario.expression import Expression, MissingField

__all__ = ["Check", "CheckResult", "Count", "evaluate"]

Row = Mapping[str, Any]

_COUNT = re.compile(r"(>=|<=|==|>|<)?\s*([0-9]{1,12})")
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows have to match: all of them, or a number compared with an operator."""

    compare: str = "all"
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> Count | None:
        """Read `all`, `3` or `>= 3`; None if it is none of these."""
        if text.strip() == "all":
            return cls()
        match = _COUNT.fullmatch(text.strip())
        return cls(match[1] or "==", int(match[2])) if match else None

    def __str__(self) -> str:
        return "all" if self.compare == "all" else f"{self.compare} {self.number}"

    def holds(self, matching: int, total: int) -> bool:
        """Tell whether so many matching rows are enough; `all` of none is not."""
        if self.compare == "all":
            return matching == total > 0
        return _COMPARE[self.compare](matching, self.number)


@dataclass(frozen=True, slots=True)
class Check:
    """One demand of a scenario.

    Attributes:
        name: What it is called in the result.
        rows: The role whose rows are looked at; None for all rows.
        where: What has to hold for a row.
        count: For how many rows it has to hold.
    """

    name: str
    rows: str | None
    where: Expression | None
    count: Count


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of a check.

    Attributes:
        name: The check's name.
        ok: Whether it held.
        detail: How many rows matched, and the first that did not.
        matching: Rows that matched.
        total: Rows that were looked at.
    """

    name: str
    ok: bool
    detail: str
    matching: int
    total: int


def evaluate(
    checks: Sequence[Check],
    rows: Sequence[Row],
    *,
    roles: Mapping[str, Sequence[int]] | None = None,
    params: Mapping[str, Any] | None = None,
) -> tuple[CheckResult, ...]:
    """Return what came of each check.

    Args:
        checks: The scenario's demands.
        rows: What the roles reported; each row has at least `node` and `role`.
        roles: Who played which role. With it, `all` also demands a row from each of these nodes.
        params: The run's parameters, for expressions that name them.
    """
    return tuple(_one(check, rows, roles or {}, params or {}) for check in checks)


def _one(
    check: Check, rows: Sequence[Row], roles: Mapping[str, Sequence[int]], params: Mapping[str, Any]
) -> CheckResult:
    chosen = [row for row in rows if check.rows is None or row.get("role") == check.rows]
    matching = 0
    misses: list[str] = []
    for row in chosen:
        reason = _miss(check, row, params)
        if reason is None:
            matching += 1
        else:
            misses.append(f"node {row.get('node')}: {reason}")
    silent = _silent(check, chosen, roles)
    misses += [f"node {node}: reported nothing" for node in silent]
    ok = check.count.holds(matching, len(chosen)) and not silent
    detail = f"{matching} of {len(chosen)} rows"
    if check.count.compare != "all":
        detail += f", {check.count} demanded"
    if not chosen:
        detail = f"no rows from the role {check.rows}" if check.rows else "no rows"
    if not ok and misses:
        more = f" and {len(misses) - _SHOWN} more" if len(misses) > _SHOWN else ""
        detail += "; " + "; ".join(misses[:_SHOWN]) + more
    return CheckResult(check.name, ok, detail, matching, len(chosen))


def _miss(check: Check, row: Row, params: Mapping[str, Any]) -> str | None:
    """Return why a row does not match, or None if it does."""
    where = check.where
    if where is None:
        return None
    try:
        if where.evaluate(row, params):
            return None
    except MissingField as error:
        return f"the row has no field `{error.name}`"
    except (TypeError, ValueError, ZeroDivisionError, KeyError) as error:
        return f"`{where.text}` cannot be computed: {error}"
    return ", ".join(f"{name} is {row[name]!r}" for name in where.fields if name in row) or "does not match"


def _silent(check: Check, rows: Sequence[Row], roles: Mapping[str, Sequence[int]]) -> list[int]:
    if check.count.compare != "all":
        return []
    demanded = roles.get(check.rows, ()) if check.rows else ()
    heard = {row.get("node") for row in rows}
    return [node for node in demanded if node not in heard]
