"""Test the table and the plot of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.results.sweep_plot import choose_metric, draw
from orchestrator.results.sweep_table import shown_table, sweep_table


def sweep(modes: tuple[str, ...] = ("x", "y"), repeat: int = 5) -> dict[str, Any]:
    entries = [
        {
            "combination": number,
            "params": {"mode": mode},
            "repetition": repetition,
            "verdict": "pass",
            "rows": [{"node": 1, "role": "a", "bytes": 8, "seconds": number + repetition / 10}],
        }
        for number, mode in enumerate(modes, 1)
        for repetition in range(1, repeat + 1)
    ]
    axes = [{"key": "mode", "kind": "param", "values": list(modes)}]
    return {"scenario": "s", "axes": axes, "runs": entries, "table": sweep_table(entries, 7)}


def test_the_table_has_the_median_and_interval_of_each_combination_and_column() -> None:
    document = sweep()
    line = next(
        each for each in document["table"] if each["combination"] == 2 and each["column"] == "seconds"
    )
    assert (line["params"], line["n"], line["median"]) == ({"mode": "y"}, 5, 2.3)
    assert 2.1 <= line["low"] < 2.3 < line["high"] <= 2.5
    shown = shown_table(document)
    assert shown.columns == ("mode", "runs", "pass", "seconds")  # a column that never differs is left out
    assert shown.rows[0][:3] == ("x", "5", "5") and shown.rows[0][3].startswith("1.3 [")


def test_the_table_of_few_repetitions_has_no_intervals_and_says_why() -> None:
    document = sweep(repeat=4)
    assert {each["low"] for each in document["table"]} == {None}
    assert "fewer than 5 runs have no interval" in shown_table(document).note


def test_a_plot_is_drawn_whatever_the_names_are(tmp_path: Path) -> None:
    document = sweep(("$x_{", "<b>"))
    assert choose_metric(document, None) == ("a", "seconds")
    files = draw(document, ("a", "seconds"), tmp_path / "plots")
    assert [file.name for file in files] == ["a-seconds.png", "a-seconds.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "<b>" not in files[1].read_text()


def test_a_column_that_nobody_reported_is_an_error_with_the_nearest_name() -> None:
    assert choose_metric(sweep(), "a.bytes") == ("a", "bytes")
    with pytest.raises(UsageError) as caught:
        choose_metric(sweep(), "second")
    assert caught.value.id == "sweep.no-column" and "`seconds`" in str(caught.value.hint)
