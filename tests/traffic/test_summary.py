"""Test the summary of traffic: completion times, loads, and generators that did not keep up."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.traffic import COLUMNS, TrafficEntry, cells, expected, fixed, summarise

ENTRY = TrafficEntry(
    name="r", kind="request-response", pairs=((1, 2),), sizes=fixed(1000), requests=100, start_s=1.0
)


def test_completion_times_are_those_of_complete_flows() -> None:
    rows = [_row(number, seconds=number / 100) for number in range(1, 100)]
    rows.append({**_row(100), "seconds": None, "received": 0, "state": "unfinished"})
    (summary,) = summarise([expected(ENTRY, 1)], [*rows, {"role": "other", "entry": "r"}])
    fct = summary["fct_s"]
    assert (fct["p50"], fct["p95"], fct["p99"]) == (0.50, 0.95, 0.99)
    assert fct["mean"] == pytest.approx(0.5)
    assert (summary["completed"], summary["incomplete"]) == (99, 1)
    assert summary["by_size"]["up to 100 KB"]["flows"] == 99
    assert summary["by_size"]["larger"] == {"flows": 0, "mean": None, "p50": None, "p95": None, "p99": None}
    # 99 000 bytes from the start of the entry until the last of them: the flow that began at 100 s.
    assert summary["achieved_bps"] == pytest.approx(99_000 * 8 / (99 + 0.99 - 1), rel=0.001)


def test_bytes_of_flows_that_were_given_up_count_until_then() -> None:
    given_up = {**_row(1), "seconds": None, "received": 500, "state": "unfinished", "given_up_s": 5.0}
    (summary,) = summarise([expected(ENTRY, 1)], [_row(1), given_up])
    assert summary["received_bytes"] == 1500
    assert summary["achieved_bps"] == pytest.approx(1500 * 8 / 4)  # the entry begins at 1 s


@pytest.mark.parametrize(("late", "kept_up"), [(0.001, True), (0.05, False)])
def test_a_generator_whose_flows_begin_late_is_marked(late: float, kept_up: bool) -> None:
    (summary,) = summarise([expected(ENTRY, 1)], [{**_row(number), "late": late} for number in range(1, 101)])
    assert summary["kept_up"] is kept_up
    shown = dict(zip(COLUMNS, cells(summary), strict=True))
    assert shown["generator"] == ("kept up" if kept_up else "late: p90 0.050 s")


def test_an_entry_without_rows_has_a_summary_as_well() -> None:
    (summary,) = summarise([expected(ENTRY, 1)], [])
    assert (summary["incomplete"], summary["achieved_bps"], summary["fct_s"]["p50"]) == (100, None, None)
    assert len(cells(summary)) == len(COLUMNS)


def _row(start: int, seconds: float = 0.01) -> dict[str, Any]:
    return {
        "role": "traffic",
        "entry": "r",
        "bytes": 1000,
        "received": 1000,
        "start": float(start),
        "seconds": seconds,
        "state": "complete",
        "late": None,
    }
