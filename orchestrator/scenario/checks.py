"""Evaluate the checks of a scenario against the rows that roles reported."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.scenario.aggregates import Aggregate
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
        where: What has to hold for a row; with an aggregate, which rows it is made from.
        count: For how many rows it has to hold; without a meaning for an aggregate.
        aggregate: A number made from the rows, and what it has to be.
        by: A field; the check has to hold for the rows of each of its values.
    """

    name: str
    rows: str | None
    where: Expression | None
    count: Count
    aggregate: Aggregate | None = None
    by: str | None = None


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
    silent = _silent(check, chosen, roles)
    if check.by is None:
        result = _judged(check, chosen, params, silent)
    else:
        result = _by_group(check, chosen, params, silent)
    if not chosen:
        detail = f"no rows from the role {check.rows}" if check.rows else "no rows"
        if silent and not result.ok:
            detail += f"; {_listed([f'node {node}: reported nothing' for node in silent])}"
        result = replace(result, detail=detail)
    return result


def _judged(
    check: Check, chosen: Sequence[Row], params: Mapping[str, Any], silent: Sequence[int] = ()
) -> CheckResult:
    judge = _counted if check.aggregate is None else _aggregated
    return judge(check, chosen, params, silent)


def _by_group(
    check: Check, chosen: Sequence[Row], params: Mapping[str, Any], silent: Sequence[int]
) -> CheckResult:
    """Judge the rows of each value of a field; the check holds when it does for all of them."""
    assert check.by is not None
    groups: dict[str, list[Row]] = {}
    for row in chosen:
        if check.by not in row:
            missing = f"node {row.get('node')}: the row has no field `{check.by}`"
            return CheckResult(check.name, False, missing, 0, len(chosen))
        groups.setdefault(str(row[check.by]), []).append(row)
    results = {key: _judged(check, below, params) for key, below in groups.items()}
    wrong = [f"{check.by} {key}: {result.detail}" for key, result in results.items() if not result.ok]
    wrong += [f"node {node}: reported nothing" for node in silent]
    first = next(iter(results.values()), None)
    held = f"{len(groups)} groups by {check.by}" + (f", the first: {first.detail}" if first else "")
    matching = sum(result.matching for result in results.values())
    return CheckResult(check.name, bool(groups) and not wrong, _listed(wrong) or held, matching, len(chosen))


def _counted(
    check: Check, chosen: Sequence[Row], params: Mapping[str, Any], silent: Sequence[int]
) -> CheckResult:
    """Count the rows that match."""
    matching = 0
    misses: list[str] = []
    for row in chosen:
        reason = _miss(check, row, params)
        if reason is None:
            matching += 1
        else:
            misses.append(f"node {row.get('node')}: {reason}")
    misses += [f"node {node}: reported nothing" for node in silent]
    ok = check.count.holds(matching, len(chosen)) and not silent
    detail = f"{matching} of {len(chosen)} rows"
    if check.count.compare != "all":
        detail += f", {check.count} demanded"
    if not ok and misses:
        detail += f"; {_listed(misses)}"
    return CheckResult(check.name, ok, detail, matching, len(chosen))


def _aggregated(
    check: Check, chosen: Sequence[Row], params: Mapping[str, Any], _silent: Sequence[int]
) -> CheckResult:
    """Make one number from the rows that match, and compare it."""
    aggregate = check.aggregate
    assert aggregate is not None
    used: list[Row] = []
    number = 0.0
    try:
        for row in chosen:
            if check.where is None or check.where.evaluate(row, params):
                used.append(row)
                aggregate.value.number(row, params)  # a row that has no number is named
        row = {}
        if not used:
            detail = f"none of {len(chosen)} rows matches `{check.where.text}`" if check.where else "no rows"
            return CheckResult(check.name, False, detail, 0, len(chosen))
        number = aggregate.compute(used, params)
        ok = aggregate.demand.holds(number, params)
    except MissingField as error:
        detail = f"node {row.get('node')}: the row has no field `{error.name}`"
    except (TypeError, ValueError, ZeroDivisionError, KeyError, OverflowError) as error:
        who = f"node {row['node']}: " if "node" in row else ""
        detail = f"{who}{aggregate} cannot be computed: {error}"
    else:
        detail = f"{aggregate} is {number:.6g}, {aggregate.demand} demanded"
        return CheckResult(check.name, ok, detail, len(used), len(chosen))
    return CheckResult(check.name, False, detail, len(used), len(chosen))


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


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
    if check.count.compare != "all" or check.aggregate is not None:
        return []
    demanded = roles.get(check.rows, ()) if check.rows else ()
    heard = {row.get("node") for row in rows}
    return [node for node in demanded if node not in heard]
