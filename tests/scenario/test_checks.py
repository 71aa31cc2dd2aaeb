"""Test the checks of scenarios."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.scenario import Check, Expression, evaluate
from orchestrator.scenario.checks import Count

ROWS: list[dict[str, Any]] = [
    {"node": 1, "role": "trainer", "state": "complete"},
    {"node": 2, "role": "worker", "state": "complete", "seconds": 1.0},
    {"node": 3, "role": "worker", "state": "complete", "seconds": 2.0},
    {"node": 4, "role": "worker", "state": "timed_out", "reason": "silent"},
]


@pytest.mark.parametrize(
    ("count", "where", "ok", "detail"),
    [
        ("all", "state == 'complete'", False, "2 of 3 rows; node 4: state is 'timed_out'"),
        ("2", "state == 'complete'", True, "2 of 3 rows, == 2 demanded"),
        (">= 2", "state == 'complete'", True, "2 of 3 rows, >= 2 demanded"),
        ("> 2", "state == 'complete'", False, "2 of 3 rows, > 2 demanded; node 4: state is 'timed_out'"),
        ("<= 1", "state == 'complete'", False, "2 of 3 rows, <= 1 demanded; node 4: state is 'timed_out'"),
        ("0", "state == 'failed'", True, "0 of 3 rows, == 0 demanded"),
        ("all", "seconds < 3", False, "2 of 3 rows; node 4: the row has no field `seconds`"),
        ("all", "state < 3", False, "0 of 3 rows; node 2: `state < 3` cannot be computed"),
        ("all", "state != 'failed'", True, "3 of 3 rows"),
    ],
)
def test_counts_and_what_they_tell(count: str, where: str, ok: bool, detail: str) -> None:
    (result,) = evaluate([_check(where, count)], ROWS)
    assert result.ok is ok
    assert result.detail.startswith(detail)


def test_all_of_nothing_is_not_enough() -> None:
    (result,) = evaluate([_check("state == 'complete'", "all")], [])
    assert not result.ok
    assert result.detail == "no rows from the role worker"


def test_a_node_that_reported_nothing_fails_a_check_for_all() -> None:
    check = _check("state in ('complete', 'timed_out')", "all")
    (result,) = evaluate([check], ROWS, roles={"worker": (2, 3, 4, 5), "trainer": (1,)})
    assert not result.ok
    assert result.detail == "3 of 3 rows; node 5: reported nothing"


def test_only_the_first_failures_are_spelled_out() -> None:
    rows = [{"node": node, "role": "worker", "state": "left"} for node in range(1, 9)]
    (result,) = evaluate([_check("state == 'complete'", "all")], rows)
    assert result.detail.endswith("node 3: state is 'left' and 5 more")


def test_without_a_role_all_rows_are_meant() -> None:
    check = Check("any", None, Expression.parse("state == 'complete'"), Count(">=", 3))
    (result,) = evaluate([check], ROWS)
    assert result.ok
    assert result.total == 4


def test_without_a_condition_rows_are_counted() -> None:
    (result,) = evaluate([Check("three", "worker", None, Count("==", 3))], ROWS)
    assert result.ok


def test_conditions_may_name_parameters() -> None:
    (result,) = evaluate([_check("seconds < params.limit", ">= 2")], ROWS, params={"limit": 3})
    assert result.ok


@pytest.mark.parametrize("text", ["most", "=> 3", "-1", "3.5", "", "> all", "9" * 20])
def test_counts_that_mean_nothing(text: str) -> None:
    assert Count.parse(text) is None


def _check(where: str, count: str) -> Check:
    parsed = Count.parse(count)
    assert parsed is not None
    return Check("check", "worker", Expression.parse(where), parsed)
