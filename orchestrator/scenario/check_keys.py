"""Read the checks of a scenario, and refuse what can never be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import Place, nearest_hint, quoted
from orchestrator.scenario.aggregates import AGGREGATES, Aggregate, Demand
from orchestrator.scenario.checks import Check, Count
from orchestrator.scenario.expression import Expression, ExpressionInvalid
from orchestrator.scenario.expression_types import NUMBER, TEXT, TRUTH
from orchestrator.scenario.params import Param
from orchestrator.source import Problems, Value

__all__ = ["read_check"]

Read = Mapping[str, Any]
Params = Mapping[str, Param | None]

_TYPES = {"str": TEXT, "file": TEXT, "bool": TRUTH}
_KNOWN = {"name", "rows", "where", "count", "by", "is", "tolerance"}
_COUNTED = "`all`, a number, or a comparison such as `>= 3`"


def read_check(check: Read, roles: Mapping[str, object], params: Params, problems: Problems) -> Check | None:
    """Return a check, or None after noting what is wrong with it."""
    value: Value = check["@"]
    noted = len(problems)
    rows = check.get("rows")
    if rows is not None and rows not in roles:
        problems.add(
            f"the check looks at rows of `{rows}`, but no role is called that",
            "unknown-role",
            value.place_of("rows"),
            found=rows,
            expected=quoted(roles) or None,
            hint=nearest_hint(rows, roles, otherwise=f"roles are {quoted(roles)}"),
        )
    where = _expression(check, "where", params, problems)
    count = Count.parse(str(check.get("count", "all")))
    if count is None:
        problems.add(
            f"count is `{check['count']}`, but {_COUNTED} is expected",
            "count",
            value.place_of("count"),
            found=str(check["count"]),
            expected=_COUNTED,
        )
    aggregate = _aggregate(check, params, problems)
    if len(problems) > noted or count is None:
        return None
    name = check.get("name") or (
        f"{aggregate} {aggregate.demand}" if aggregate else check.get("where", "rows")
    )
    return Check(name, rows, where, count, aggregate, check.get("by"))


def _aggregate(check: Read, params: Params, problems: Problems) -> Aggregate | None:
    """Return the number that the check makes from rows, if it does."""
    value: Value = check["@"]
    found = [name for name in AGGREGATES if name in check]
    alone = next((key for key in ("is", "tolerance") if key in check), None)
    if not found:
        if alone is not None and (value.mapping or {}).keys() <= _KNOWN:  # else a key is misspelt
            problems.add(
                f"`{alone}` is about an aggregate, and the check has none",
                "check-aggregate",
                value.key_place(alone),
                expected=f"one of {quoted(AGGREGATES)}",
                hint="`where` compares the fields of each row",
            )
        return None
    wrong = ""
    if len(found) > 1:
        wrong, key = f"the check has {quoted(found)}, but makes one number", found[1]
    elif "is" not in check:
        wrong, key = f"`{found[0]}` is compared with nothing", found[0]
    elif "count" in check:
        wrong, key = f"`count` counts rows, and the check compares their {found[0]}", "count"
    if wrong:
        hint = 'such as `is: "< 2"`' if "is" not in check else "write a check for each"
        problems.add(wrong, "check-aggregate", value.key_place(key), found=key, hint=hint)
        return None
    taken = _expression(check, found[0], params, problems, number=True)
    if taken is not None and not taken.fields:
        problems.add(
            f"{found[0]} is `{taken.text}`, which reads no field of a row",
            "expression",
            value.place_of(found[0]),
            found=taken.text,
            expected="a field, or a computation with fields such as `bytes / seconds`",
        )
        return None
    demand = _demand(check, params, problems)
    return Aggregate(found[0], taken, demand) if taken is not None and demand is not None else None


def _demand(check: Read, params: Params, problems: Problems) -> Demand | None:
    place = check["@"].place_of("is")
    try:
        demand = Demand.parse(check["is"], check.get("tolerance"))
        kind = demand.expected.type_of(_types(params))
    except ExpressionInvalid as error:
        _note(error, place, problems)
        return None
    if not _known(demand.expected, place, params, problems):
        return None
    return demand if _is_number(demand.expected, "is", kind, place, problems) else None


def _expression(
    check: Read, key: str, params: Params, problems: Problems, *, number: bool = False
) -> Expression | None:
    """Return an expression whose parameters exist, and which can be computed as far as is known."""
    if key not in check:
        return None
    place = check["@"].place_of(key)
    try:
        expression = Expression.parse(check[key])
        kind = expression.type_of(_types(params))
    except ExpressionInvalid as error:
        _note(error, place, problems)
        return None
    known = _known(expression, place, params, problems)
    fits = not number or _is_number(expression, key, kind, place, problems)
    return expression if known and fits else None


def _note(error: ExpressionInvalid, place: Place, problems: Problems) -> None:
    problems.add(
        error.message, "expression", place, found=error.found, expected=error.expected, hint=error.hint
    )


def _known(expression: Expression, place: Place, params: Params, problems: Problems) -> bool:
    unknown = [name for name in expression.params if name not in params]
    for name in unknown:
        problems.add(
            f"the check reads `params.{name}`, which the scenario does not have",
            "unknown-param",
            place,
            found=name,
            hint=nearest_hint(name, params, otherwise=f"parameters are {quoted(params)}"),
        )
    return not unknown


def _is_number(expression: Expression, key: str, kind: str, place: Place, problems: Problems) -> bool:
    if kind not in (TEXT, "nothing", "a list"):
        return True
    problems.add(
        f"`{key}` is `{expression.text}`, which is {kind}, but a number is expected",
        "expression",
        place,
        found=expression.text,
        expected="a number",
    )
    return False


def _types(params: Params) -> dict[str, str]:
    return {name: _TYPES.get(param.type, NUMBER) for name, param in params.items() if param is not None}
