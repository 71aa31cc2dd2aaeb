"""Limits of daily use, and the arithmetic of links that differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.daily.__main__ import main
from benchmarks.daily.benchmark import PARTS, Settings, _parts
from benchmarks.daily.fidelity import delay_error_ms, rate_error_percent
from benchmarks.daily.limits import LIMITS, binomial_interval, compare_all


def test_every_limit_is_measured_by_exactly_one_part(tmp_path: Path) -> None:
    parts = _parts(Settings(), tmp_path / "payload.bin")
    keys = [key for measured, _ in parts.values() for key in measured]
    assert sorted(keys) == sorted(limit.key for limit in LIMITS)
    assert tuple(parts) == PARTS


def test_a_value_on_the_limit_keeps_it() -> None:
    results = {r.limit.key: r for r in compare_all({"help": (0.3, ""), "sync-native": (249.9, "")}, {})}
    assert results["help"].ok is True
    assert results["sync-native"].ok is False
    assert results["wire"].ok is None and results["wire"].detail == "left out of this run"


def test_the_interval_of_one_percent_of_a_hundred_thousand_is_the_known_one() -> None:
    assert binomial_interval(100_000, 0.01) == (938, 1062)


def test_a_full_link_less_its_headers_is_no_error() -> None:
    assert rate_error_percent(0.1 * 1448 / 1500) == pytest.approx(0.0)
    assert rate_error_percent(0.1) == pytest.approx(3.59, abs=0.01)


def test_the_delay_of_both_directions_is_halved() -> None:
    assert delay_error_ms(40.3, 0.1) == pytest.approx(0.1)


def test_an_unknown_part_is_wrong_usage() -> None:
    assert main(["--only", "nothing"]) == 2


def test_limits_are_shown_with_their_direction() -> None:
    results = compare_all({"sync-native": (300.0, "3 reports")}, {"help": "not installed"})
    shown = report._limits_table({"goals": [result.as_json() for result in results]})
    line = next(line for line in shown.splitlines() if "to 3 receivers, native" in line)
    assert "≥ 250 MB/s" in line and "300 MB/s" in line and "kept" in line
    assert "not installed" in shown
