"""Test what `nm run scenario` shows of a run under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.cli import runs
from orchestrator.protocol.messages import RunEvent
from orchestrator.results import RunOutcome
from tests.cli.conftest import Nm


class RunningLab:
    """A lab in which every run has these events and passes."""

    name = "ring"

    def __init__(self, *events: RunEvent) -> None:
        self._events = events

    def run_scenario(self, _scenario: str, *, on_event: Any, **_options: Any) -> RunOutcome:
        for event in self._events:
            on_event(event)
        head: Any = ("r1", "pingall", "ring", "native", 7, "pass", "results/r1")
        return RunOutcome(*head, fidelity={"verdict": "kept", "links": [], "host": {}})


def test_changes_of_the_timeline_and_of_roles_are_shown_with_their_times(
    nm: Nm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that a role makes was due at no time, so it has the one at which it was made."""
    due = {"index": 0, "do": "set", "where": "1–2", "sent_s": 2.0004, "at_s": 2.0, "late_ms": 0.4}
    asked = {"index": None, "do": "down", "where": "2–3", "sent_s": 2.5}
    events = (RunEvent("r1", 1, 0, "timeline", 0, "", due), RunEvent("r1", 2, 0, "timeline", 3, "a", asked))
    shown: list[str] = []

    @contextmanager
    def progress(**_options: Any) -> Iterator[Any]:
        yield shown.append

    monkeypatch.setattr(runs, "_lab_for", lambda *_: (RunningLab(*events), False))
    monkeypatch.setattr(runs, "progress", progress)
    assert nm("run", "scenario", "pingall").code == 0
    assert shown == ["2 s: set 1–2", "2.5 s: down 2–3"]
