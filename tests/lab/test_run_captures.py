"""Test how the captures of a run end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.capture import CaptureUnwritable
from orchestrator.lab import run_captures
from orchestrator.results import ResultsFolder


async def test_a_capture_that_fails_ends_the_others_and_keeps_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []

    def capture(name: str, error: Exception | None) -> Any:
        def stop() -> Any:
            stopped.append(name)
            if error is not None:
                raise error
            return SimpleNamespace(as_json=lambda: {"packets": 3})

        return SimpleNamespace(name=name), SimpleNamespace(stop=stop)

    def start(*_: object) -> Sequence[Any]:
        return [
            capture("a", ValueError("odd")),
            capture("b", CaptureUnwritable("the disk is full")),
            capture("c", None),
        ]

    monkeypatch.setattr(run_captures, "_start", start)
    folder = ResultsFolder(tmp_path / "run", {"run": "r"}, "n_nodes: 1\n")
    plans: Any = [SimpleNamespace(name=name) for name in "abc"]
    nothing: Any = None
    async with run_captures.captured(nothing, nothing, plans, folder, nothing):
        pass
    folder.close()
    assert stopped == ["a", "b", "c"]
    events = [json.loads(line)["data"] for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert events == [
        {"file": "captures/a.pcapng", "ended": "failed", "reason": "ValueError: odd"},
        {"file": "captures/b.pcapng", "ended": "unwritable", "reason": "the disk is full"},
        {"file": "captures/c.pcapng", "packets": 3},
    ]
