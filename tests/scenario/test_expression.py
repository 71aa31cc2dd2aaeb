"""Test the expression language of checks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scenario import Expression, ExpressionInvalid
from orchestrator.scenario.expression import MissingField

ROW: dict[str, Any] = {
    "state": "complete",
    "bytes": 100,
    "seconds": 2.5,
    "reason": None,
    "ok": True,
    "hops": [1, 2],
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("state == 'complete'", True),
        ("state != 'complete'", False),
        ("bytes == 100 and seconds < 3", True),
        ("bytes > 100 or ok", True),
        ("not ok", False),
        ("1 < seconds < 3", True),
        ("1 < seconds < 2", False),
        ("state in ('complete', 'left')", True),
        ("state not in ['complete']", False),
        ("reason is None", True),
        ("bytes / seconds >= 40", True),
        ("bytes % 3 == 1", True),
        ("-bytes + 200 == bytes", True),
        ("abs(-1) == 1 and min(bytes, 5) == 5 and max(1, 2) == 2", True),
        ("round(seconds) == 2", True),
        ("len(hops) == 2 and 2 in hops", True),
        ("startswith(state, 'comp')", True),
        ("bytes == params.size", True),
        ("  ok  ", True),
    ],
)
def test_what_holds(text: str, holds: bool) -> None:
    assert Expression.parse(text).evaluate(ROW, {"size": 100}) is holds


def test_an_expression_knows_what_it_reads() -> None:
    expression = Expression.parse("state == 'x' and seconds < params.limit * params.factor and state != 'y'")
    assert expression.fields == ("state", "seconds")
    assert expression.params == ("limit", "factor")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "state =",
        "state = 'x'",
        "import os",
        "__import__('os')",
        "().__class__",
        "state.upper()",
        "params",
        "params.a.b",
        "state[0]",
        "[x for x in hops]",
        "lambda: 1",
        "9 ** 9",
        "1 << 100",
        "f'{state}'",
        "(x := 1)",
        "len(*hops)",
        "len(x=1)",
        "b'x' == state",
        "1j == 1",
        "state if ok else 1",
        "await state",
        "eval('1')",
        "open('/etc/passwd')",
        "{'a': 1}",
        "(" * 5000,
        "x" * 2000,
        "state == 'a\x00b'",
    ],
)
def test_what_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        Expression.parse(text)
    assert caught.value.exit_code == 2


def test_a_missing_field_is_told_by_name() -> None:
    with pytest.raises(MissingField) as caught:
        Expression.parse("sha256 == 'x'").evaluate(ROW, {})
    assert caught.value.name == "sha256"


@pytest.mark.parametrize(
    "text", ["state * 1000000000 == 1", "state + bytes == 1", "-state == 1", "state < 1"]
)
def test_arithmetic_is_for_numbers(text: str) -> None:
    with pytest.raises(TypeError):
        Expression.parse(text).evaluate(ROW, {})


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Expression.parse(text)
    except ExpressionInvalid as error:
        assert error.message
