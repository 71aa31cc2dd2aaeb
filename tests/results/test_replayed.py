"""Test how the rows of a run are compared with those of its replay."""

from __future__ import annotations

import pytest

from orchestrator.results.replayed import is_time, row_differences


@pytest.mark.parametrize(
    "name",
    ["seconds", "rtt_ms_median", "mb_per_s", "t_s", "mbit_per_s", "send_time", "rate", "start", "late"],
)
def test_times_and_rates_are_told_by_their_names(name: str) -> None:
    assert is_time(name)


@pytest.mark.parametrize(
    "name", ["sha256", "bytes", "state", "round", "repair_rounds", "items", "iterations", "start_node"]
)
def test_other_names_are_no_times(name: str) -> None:
    assert not is_time(name)


def test_rows_are_matched_by_node_and_role_in_their_order_and_not_by_arrival() -> None:
    before = [
        {"node": 1, "role": "a", "n": 1, "seconds": 0.5},
        {"node": 2, "role": "a", "n": 5},
        {"node": 1, "role": "a", "n": 2},
    ]
    after = [
        {"node": 2, "role": "a", "n": 5},
        {"node": 1, "role": "a", "n": 1, "seconds": 0.6},
        {"node": 1, "role": "a", "n": 2},
    ]
    assert row_differences(before, before) == []
    (only,) = row_differences(before, after)
    assert (only["column"], only["time"], only["rows"]) == ("seconds", True, 1)


def test_a_value_that_differs_and_a_row_that_is_missing_are_named() -> None:
    before = [{"node": 1, "role": "a", "n": 1}, {"node": 1, "role": "a", "n": 2}, {"node": 2, "role": "b"}]
    after = [{"node": 1, "role": "a", "n": 3}, {"node": 1, "role": "a", "n": 4}]
    found = {(each["role"], each["column"]): each for each in row_differences(before, after)}
    assert found["a", "n"]["rows"] == 2
    assert (found["a", "n"]["before"], found["a", "n"]["after"]) == (1, 3)
    assert (found["b", "(rows)"]["before"], found["b", "(rows)"]["after"]) == (1, 0)
    assert not any(each["time"] for each in found.values())
