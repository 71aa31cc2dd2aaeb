"""Test medians, intervals and the test of differences."""

from __future__ import annotations

import random

import pytest

from orchestrator.results.statistics import (
    LEAST_FOR_INTERVAL,
    SIGNIFICANCE,
    difference_p,
    median_interval,
    numeric_columns,
    smallest_p,
)


def test_the_value_of_a_run_is_the_median_of_its_rows_by_role_and_column() -> None:
    rows = [
        {"node": 1, "role": "a", "round": 1, "x": 1, "ok": True, "t": "5", "mixed": 1},
        {"node": 2, "role": "a", "round": 2, "x": 9, "ok": True, "t": "6", "mixed": "y"},
        {"node": 3, "role": "a", "x": 2, "none": None},
        {"node": 4, "role": "b", "x": 7.5, "nan": float("nan")},
    ]
    assert numeric_columns(rows) == {("a", "x"): 2.0, ("b", "x"): 7.5}


def test_entries_of_generated_traffic_are_not_mixed() -> None:
    flow = {"role": "traffic", "src": 1, "dst": 2, "state": "complete"}
    rows = [
        {**flow, "entry": "web", "seconds": 0.1, "late": None},
        {**flow, "entry": "web", "seconds": 0.3, "late": None},
        {**flow, "entry": "bulk", "seconds": 9.0, "late": 0.5},
    ]
    web, bulk = "traffic.web", "traffic.bulk"
    assert numeric_columns(rows) == {(web, "seconds"): 0.2, (bulk, "seconds"): 9.0, (bulk, "late"): 0.5}


def test_an_interval_holds_the_median_of_what_was_drawn_in_about_95_of_100_samples() -> None:
    chance = random.Random(1)
    held = 0
    for seed in range(400):
        interval = median_interval([chance.gauss(10, 2) for _ in range(15)], seed)
        assert interval.low is not None and interval.high is not None
        held += interval.low <= 10 <= interval.high
    assert 0.90 <= held / 400 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_too_few_runs_none() -> None:
    values = [1.0, 2.0, 5.0, 4.0, 3.0]
    assert median_interval(values, 3) == median_interval(values, 3)
    few = median_interval(values[: LEAST_FOR_INTERVAL - 1], 3)
    assert (few.low, few.high, few.median) == (None, None, 3.0)


def test_the_test_of_differences_agrees_with_the_published_table_of_mann_and_whitney() -> None:
    # n1 = n2 = 5: U = 0 has the two-sided p 2/252, U = 2 has 8/252 (Mann and Whitney 1947, table I).
    assert difference_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert difference_p([1, 2, 3, 4, 7], [5, 6, 8, 9, 10]) == pytest.approx(8 / 252)
    assert difference_p([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 1.0


def test_groups_in_which_nothing_could_be_significant_are_not_judged() -> None:
    assert difference_p([1, 1, 1], [9, 9, 9]) is None and smallest_p(3, 3) > SIGNIFICANCE
    assert difference_p([1, 2, 3, 4], [6, 7, 8, 9]) == pytest.approx(2 / 70)
    assert difference_p([1], [2] * 100) is not None
    assert difference_p([], [1, 2]) is None


def test_chance_alone_is_called_a_difference_in_about_one_of_twenty_cases() -> None:
    chance = random.Random(2)
    pairs = [[[chance.gauss(0, 1) for _ in range(5)] for _ in range(2)] for _ in range(1000)]
    found = sum((difference_p(a, b) or 0) < SIGNIFICANCE for a, b in pairs)
    assert 0.015 <= found / 1000 <= 0.06


def test_large_groups_are_sampled_and_say_much_the_same() -> None:
    chance = random.Random(3)
    a = [chance.gauss(0, 1) for _ in range(30)]
    assert (difference_p(a, [x + 3 for x in a]) or 0) < 0.001
    assert (difference_p(a, [chance.gauss(0, 1) for _ in range(30)]) or 0) > 0.05
