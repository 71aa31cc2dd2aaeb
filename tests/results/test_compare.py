"""Test what is said about two runs or sweeps."""

from __future__ import annotations

from pathlib import Path

from orchestrator.results import open_bundle
from orchestrator.results.compare import compare, comparison_tables, environment_differences

from .written import write_sweep


def test_a_difference_is_judged_by_combination_and_column(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", {"x": [1, 2, 3, 4, 5], "y": [1, 2, 3, 4, 5], "only": [1]})
    b = write_sweep(tmp_path / "b", {"y": [2, 1, 3, 5, 4], "x": [11, 12, 13, 14, 15]})
    found = compare(open_bundle(a), open_bundle(b))
    judged = {(each["params"]["mode"], each["column"]): each for each in found["differences"]}
    assert judged["x", "seconds"]["larger_than_noise"] is True
    assert (judged["x", "seconds"]["difference"], judged["x", "seconds"]["n_a"]) == (10, 5)
    assert judged["y", "seconds"]["larger_than_noise"] is False
    assert judged["x", "bytes"]["equal"] and not judged["x", "seconds"]["equal"]
    assert (found["only_a"], found["only_b"]) == ([{"mode": "only"}], [])
    [table] = comparison_tables(found)
    assert [row[:2] for row in table.rows] == [("mode=x", "a.seconds"), ("mode=y", "a.seconds")]
    assert table.rows[0][-1] == "yes, p = 0.008" and "2 columns the same in all runs" in table.note


def test_too_few_repetitions_are_said_and_not_judged(tmp_path: Path) -> None:
    a, b = write_sweep(tmp_path / "a", {"x": [1, 1, 1]}), write_sweep(tmp_path / "b", {"x": [9, 9, 9]})
    found = compare(open_bundle(a), open_bundle(b))
    (seconds,) = (each for each in found["differences"] if each["column"] == "seconds")
    assert (seconds["larger_than_noise"], seconds["p"]) == (None, None)
    assert seconds["reason"] == "not enough repetitions"
    assert comparison_tables(found)[0].rows[0][-1] == "not enough repetitions"


def test_what_else_differs_is_named_key_by_key() -> None:
    a = {"seed": 7, "versions": {"nm": "1", "kernel": "6.1"}, "params": {"n": 1}, "lab_run": "x"}
    b = {"seed": 7, "versions": {"nm": "1", "kernel": "6.8"}, "params": {"n": 1, "m": 2}, "lab_run": "y"}
    assert environment_differences(a, b) == [
        {"key": "versions.kernel", "a": "6.1", "b": "6.8"},
        {"key": "params.m", "a": None, "b": 2},
    ]


def test_links_that_were_changed_by_hand_are_named() -> None:
    def document(delay: float, changes: int) -> dict[str, object]:
        link = {"a": 1, "b": 2, "direction": "forward", "changes": changes, "requested": {"delay": delay}}
        return {"fidelity": {"links": [link]}}

    assert environment_differences(document(0.0, 0), document(0.004, 0)) == [
        {"key": "link 1-2 forward.delay", "a": 0.0, "b": 0.004}
    ]
    assert environment_differences(document(0.1, 2), document(0.2, 2)) == []
