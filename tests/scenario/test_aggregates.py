"""Test checks that make one number from rows, and what is refused before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import scenario
from orchestrator.errors import ScenarioInvalid
from orchestrator.scenario import CheckResult, Expression, ExpressionInvalid, evaluate
from orchestrator.scenario.aggregates import AGGREGATES

ROWS: list[dict[str, Any]] = [
    {"node": 1, "role": "trainer", "round": 1, "bytes": 100, "sent": 100},
    {"node": 2, "role": "worker", "round": 1, "seconds": 1.0, "bytes": 90, "state": "complete"},
    {"node": 3, "role": "worker", "round": 1, "seconds": 2.0, "bytes": 100, "state": "complete"},
    {"node": 2, "role": "worker", "round": 2, "seconds": 3.0, "bytes": 110, "state": "complete"},
    {"node": 3, "role": "worker", "round": 2, "seconds": 6.0, "bytes": 100, "state": "timed_out"},
]


@pytest.mark.parametrize(
    ("check", "ok", "detail"),
    [
        ("mean: seconds, is: < 4", True, "mean of seconds is 3, < 4 demanded"),
        ("mean: seconds, is: '>= 4'", False, "mean of seconds is 3, >= 4 demanded"),
        ("max: seconds, is: 6", True, "max of seconds is 6, == 6 demanded"),
        ("min: seconds, is: '!= 1'", False, "min of seconds is 1, != 1 demanded"),
        ("sum: bytes, is: 400", True, "sum of bytes is 400, == 400 demanded"),
        ("p50: seconds, is: 2.5", True, "p50 of seconds is 2.5, == 2.5 demanded"),
        ("p99: seconds, is: < 5.92", True, "p99 of seconds is 5.91, < 5.92 demanded"),
        ("std: seconds, is: 1.87 ± 0.01", True, "std of seconds is 1.87083, 1.87 ± 0.01 demanded"),
        ("mean: bytes, is: 105 ± 5 %", True, "mean of bytes is 100, 105 ± 5 % demanded"),
        ("mean: bytes, is: 106 +- 5 %", False, "mean of bytes is 100, 106 ± 5 % demanded"),
        ("mean: bytes, is: 103, tolerance: 3", True, "mean of bytes is 100, 103 ± 3 demanded"),
        ("max: bytes / seconds, is: 90", True, "max of bytes / seconds is 90, == 90 demanded"),
        ("mean: seconds, is: < params.limit", True, "mean of seconds is 3, < params.limit demanded"),
        ("mean: seconds, where: state == 'complete', is: 2", True, "mean of seconds is 2, == 2 demanded"),
        (
            "mean: state == 'complete', is: 0.75",
            True,
            "mean of state == 'complete' is 0.75, == 0.75 demanded",
        ),
        ("mean: seconds, by: round, is: < 5", True, "2 groups by round, the first: mean of seconds is 1.5"),
        ("mean: seconds, by: round, is: < 2", False, "round 2: mean of seconds is 4.5, < 2 demanded"),
        ("by: round, count: 2", True, "2 groups by round, the first: 2 of 2 rows, == 2 demanded"),
        ("by: round, where: seconds < 5, count: all", False, "round 2: 1 of 2 rows; node 3: seconds is 6.0"),
        ("by: lap, count: 2", False, "node 2: the row has no field `lap`"),
        ("mean: speed, is: 1", False, "node 2: the row has no field `speed`"),
        ("mean: state, is: 1", False, "node 2: mean of state cannot be computed: 'complete' is no number"),
        ("mean: seconds, where: seconds > 9, is: 1", False, "none of 4 rows matches `seconds > 9`"),
        ("where: bytes >= seconds * 16, count: all", True, "4 of 4 rows"),
        ("where: 'near(bytes, 100, 0.1)', count: all", True, "4 of 4 rows"),
        ("where: 'near(bytes, 100, 0.05)', count: 2", True, "2 of 4 rows, == 2 demanded"),
    ],
)
def test_what_holds_and_what_is_told(tmp_path: Path, check: str, ok: bool, detail: str) -> None:
    result = _judged(tmp_path, check, ROWS)
    assert (result.ok, result.detail[: len(detail)]) == (ok, detail)


def test_an_aggregate_of_no_rows_does_not_hold(tmp_path: Path) -> None:
    result = _judged(tmp_path, "sum: bytes, is: 0", [])
    assert (result.ok, result.detail) == (False, "no rows from the role worker")


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.sampled_from([50, 90, 95, 99]))
def test_percentiles_are_those_of_numpy(values: list[float], share: int) -> None:
    computed = AGGREGATES[f"p{share}"][0](values)
    assert computed == pytest.approx(float(numpy.percentile(values, share)), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("check", "id", "column", "words"),
    [
        ("p98: seconds, is: < 1", "unknown-key", 11, "did you mean `p9"),
        ("median: seconds, is: < 1", "unknown-key", 11, "write `p50: FIELD`"),
        ("mean: seconds", "check-aggregate", 11, "compared with nothing"),
        ("mean: seconds, max: seconds, is: 1", "check-aggregate", 26, "makes one number"),
        ("mean: seconds, count: 1, is: 1", "check-aggregate", 26, "`count` counts rows"),
        ("is: < 1", "check-aggregate", 11, "the check has none"),
        ("mean: 1 +, is: 1", "expression", 17, "does not parse"),
        ("mean: '1', is: 1", "expression", 17, "reads no field"),
        ("mean: speed(seconds), is: 1", "expression", 17, "no function `speed`"),
        ("mean: abs('x') + seconds, is: 1", "expression", 17, "arithmetic is for numbers"),
        ("mean: seconds, is: <", "expression", 30, "does not say what is expected"),
        ("mean: seconds, is: < bytes", "expression", 30, "reads the field `bytes`"),
        ("mean: seconds, is: < params.limt", "unknown-param", 30, "did you mean `limit`?"),
        ("mean: seconds, is: < params.word", "expression", 30, "is text, but a number is expected"),
        ("mean: seconds, is: 1 ± some", "expression", 30, "`some` is no tolerance"),
        ("mean: seconds, is: < 1 ± 5 %", "expression", 30, "`<` takes no tolerance"),
        ("mean: seconds, is: 1 ± 5 %, tolerance: 1", "expression", 30, "stated twice"),
        ("mean: seconds, is: 1, tolerance: -1", "expression", 30, "no tolerance"),
        ("where: params.word < 3, count: all", "expression", 18, "which have no order"),
        ("where: params.limit in 'abc', count: all", "expression", 18, "cannot be in text"),
    ],
)
def test_what_can_never_be_evaluated_is_refused_before_the_run(
    tmp_path: Path, check: str, id: str, column: int, words: str
) -> None:
    with pytest.raises(ScenarioInvalid) as caught:
        _judged(tmp_path, check, ROWS)
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert (problem.id, problem.place.line, problem.place.column) == (f"scenario.{id}", 3, column)
    assert words in problem.render()


@pytest.mark.parametrize(
    "text",
    [
        "'a' + 1 == 2",
        "-'a' == 1",
        "seconds < 'a' + 1",
        "'a' < 3",
        "None < seconds",
        "[1] < 2",
        "seconds / 0 == 1",
        "seconds in 5",
        "1 in 'abc'",
        "len(5) == 1",
        "len() == 1",
        "abs(1, 2) == 1",
        "round() == 1",
        "round('x') == 1",
        "near(seconds, 1)",
        "near(seconds, 'a', 1)",
        "startswith(state, 5)",
        "max(5) == 5",
    ],
)
def test_literals_and_functions_have_to_fit(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        Expression.parse(text)


@pytest.mark.parametrize(
    "text",
    ["seconds < 'a'", "state in 'abc'", "max(hops) < 3", "min(1, seconds) == 1", "True + 1 == 2", "1 < 2"],
)
def test_what_depends_on_the_row_is_read(text: str) -> None:
    assert Expression.parse(text).text == text


def _judged(tmp_path: Path, check: str, rows: list[dict[str, Any]]) -> CheckResult:
    (tmp_path / "roles.py").write_text("def trainer(ctx): ...\ndef worker(ctx): ...\n")
    (tmp_path / "scenario.yaml").write_text(
        "params: {limit: {type: float, default: 4}, word: {type: str, default: a}}\n"
        "roles: {trainer: {nodes: 1}, worker: {nodes: rest}}\n"
        f"checks: [{{{check}, rows: worker}}]\n"
    )
    read = scenario.load(tmp_path)
    (result,) = evaluate(read.checks, rows, params={"limit": 4.0, "word": "a"})
    return result
