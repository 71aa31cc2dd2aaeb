"""Test targets, grades and exit codes."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import most_serious
from benchmarks.targets import TARGETS, exit_code, grade, grade_target, target


def test_the_sixteen_targets_are_numbered_in_order() -> None:
    assert [entry.number for entry in TARGETS] == list(range(1, 17))


def test_thresholds_grow_monotonically_from_gate_to_stretch() -> None:
    for entry in TARGETS:
        thresholds = [entry.gate, entry.target, entry.stretch]
        assert thresholds == sorted(thresholds, reverse=not entry.higher_is_better), entry.metric


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        (0.96, "stretch"),
        (0.95, "stretch"),
        (0.94, "target"),
        (0.60, "gate"),
        (0.59, "missed"),
        (0.0, "missed"),
    ],
)
def test_a_ratio_gets_the_highest_grade_that_it_reaches(reached: float, expected: str) -> None:
    assert grade(target(1), reached) == expected


@pytest.mark.parametrize(
    ("reached", "expected"), [(49.0, "stretch"), (70.0, "target"), (150.0, "gate"), (151.0, "missed")]
)
def test_a_time_gets_the_grade_that_it_stays_within(reached: float, expected: str) -> None:
    assert grade(target(9), reached) == expected


def test_no_number_is_not_measured_and_never_zero() -> None:
    result = grade_target(7, None, note="not implemented")
    assert (result.reached, result.grade, result.note) == (None, "not measured", "not implemented")


def test_a_missed_gate_or_a_failed_check_fails_the_run() -> None:
    good, missed, gap = grade_target(1, 0.9), grade_target(1, 0.1), grade_target(7, None)
    assert exit_code([good, gap], checks_ok=True, strict=False) == 0
    assert exit_code([good, gap], checks_ok=True, strict=True) == 3
    assert exit_code([good, missed], checks_ok=True, strict=True) == 1
    assert exit_code([good], checks_ok=False, strict=False) == 1


@pytest.mark.parametrize(("codes", "expected"), [([0, 0], 0), ([0, 3, 1], 1), ([4, 3], 4), ([1, 130], 130)])
def test_several_benchmarks_end_with_the_most_serious_code(codes: list[int], expected: int) -> None:
    assert most_serious(codes) == expected
