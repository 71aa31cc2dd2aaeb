"""A results folder holds what is known, at every moment of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from orchestrator.clock import ManualClock
from orchestrator.errors import HostNotFit
from orchestrator.results import ResultsFolder, RunOutcome
from orchestrator.scenario import CheckResult


def outcome(folder: Path, **more: object) -> RunOutcome:
    fixed = {"run": "r", "scenario": "s", "lab": "l", "backend": "native", "seed": 7, "verdict": "pass"}
    return RunOutcome(**{**fixed, "results": str(folder), **more})  # type: ignore[arg-type]  # a test's shorthand


def test_what_is_known_is_on_disk_before_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    folder = ResultsFolder(tmp_path / "deep" / "out", {"run": "r"}, "name: ring\n", clock)
    folder.row({"node": 2, "role": "worker", "state": "complete"})
    folder.log(2, "worker", "info", "hello")
    assert json.loads((folder.path / "run.json").read_text())["verdict"] == "running"
    assert (folder.path / "topology.yaml").read_text() == "name: ring\n"
    event = json.loads((folder.path / "events.jsonl").read_text().splitlines()[0])
    assert event["kind"] == "report" and event["data"]["state"] == "complete"
    assert "hello" in (folder.path / "logs" / "node-2-worker.log").read_text()
    clock.advance(1)
    folder.row({"node": 3, "role": "worker", "state": "failed", "reason": "lost"})
    assert len(json.loads((folder.path / "rows.json").read_text())) == 2
    folder.close()


def test_the_end_brings_every_file_up_to_date(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {"run": "r", "params": {"size": 3}}, "", ManualClock())
    folder.row({"node": 1, "role": "a", "values": [1, 2]})
    folder.row({"node": 2, "role": "b", "text": "x,y"})
    check = CheckResult("all", False, "1 of 2 rows", 1, 2)
    folder.finish(outcome(tmp_path, verdict="fail", checks=(check,), rows=tuple(folder.rows)))
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["verdict"] == "fail" and document["params"] == {"size": 3}
    assert document["checks"] == [{"name": "all", "ok": False, "detail": "1 of 2 rows"}]
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"node": "1", "role": "a", "values": "[1, 2]", "text": ""}
    assert rows[1]["text"] == "x,y"


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostNotFit) as caught:
        ResultsFolder(tmp_path / "file" / "out", {}, "")
    assert caught.value.id == "results.unwritable"


def test_a_full_disk_is_an_error_with_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    monkeypatch.setattr(Path, "write_text", _no_space)
    with pytest.raises(HostNotFit, match="No space left"):
        folder.finish(outcome(tmp_path))


def _no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")
