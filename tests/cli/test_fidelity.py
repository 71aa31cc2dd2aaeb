"""Test what `nm run --strict` and `nm bench fidelity` make of links that did not do what was requested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator import bench
from orchestrator.bench import Result
from orchestrator.cli import runs
from orchestrator.results import RunOutcome
from tests.cli.conftest import Nm

LINK = {"a": 1, "b": 2, "direction": "backward", "broken": ["late", "rate"], "ok": False}


class RunningLab:
    """A lab in which every run ends like this."""

    name = "ring"

    def __init__(self, verdict: str, fidelity: str) -> None:
        host = {"cpu_share": 0.5, "overload_drops": 3}
        found = {"verdict": fidelity, "links": [LINK] if fidelity == "broken" else [], "host": host}
        head: Any = ("r1", "pingall", "ring", "native", 7, verdict, "results/r1")
        self._outcome = RunOutcome(*head, fidelity=found)

    def run_scenario(self, _scenario: str, **_options: Any) -> RunOutcome:
        return self._outcome


@pytest.mark.parametrize(
    ("verdict", "fidelity", "words", "code"),
    [
        ("pass", "broken", ["--strict"], 6),
        ("pass", "broken", [], 0),
        ("pass", "kept", ["--strict"], 0),
        ("pass", "not-measured", ["--strict"], 0),
        ("fail", "broken", ["--strict"], 1),
    ],
)
def test_a_broken_run_exits_with_six_where_that_is_asked_for(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, verdict: str, fidelity: str, words: list[str], code: int
) -> None:
    running = RunningLab(verdict, fidelity)
    monkeypatch.setattr(runs, "_lab_for", lambda *_: (running, False))
    said = nm("run", "scenario", "pingall", *words)
    assert said.code == code
    assert ("late, rate of the link 2 → 1" in said.err) == (fidelity == "broken")
    if fidelity == "broken":
        assert "3 packets were dropped because this machine was overloaded" in said.err


def test_the_table_of_a_machine(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_lab(_backend: str) -> Iterator[None]:
        yield

    found = {
        "rate-1": Result({"Mbit/s": 0.9}, False),
        "delay-1": Result({"mean ms": 1.05}, True),
        "wrr": Result(reason="a link has no scheduler"),
        "loss-1": Result({"loss %": 1.03, "95 % from": 1.01, "to": 1.05}, True),
    }
    monkeypatch.setattr(bench, "lab_ends", no_lab)
    monkeypatch.setattr(bench, "measure", lambda rows, *_: {row.name: found[row.name] for row in rows})
    said = nm("bench", "fidelity", "--only", "rate-1,delay-1,wrr", "--strict", "-o", "json")
    assert said.code == 6 and "rate-1" in said.err and "delay-1" not in said.err
    document = json.loads(said.out)
    assert document["verdict"] == "broken"
    assert [row["ok"] for row in document["rows"]] == [False, True, None]
    shown = nm("bench", "fidelity", "--only", "delay-1,wrr,loss-1", "--strict")
    assert "inside 95 %: no" in " ".join(shown.out.split())
    assert shown.code == 0 and "fidelity: kept" in shown.out and "a link has no scheduler" in shown.out


def test_a_row_that_there_is_not(nm: Nm) -> None:
    said = nm("bench", "fidelity", "--only", "rate-11")
    assert said.code == 2 and "there is no row `rate-11`" in said.err and "did you mean `rate-1`" in said.err
