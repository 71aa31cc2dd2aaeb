"""Test the results folder during a run."""

from __future__ import annotations

import csv
import json
import threading
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
    folder.row(2, "worker", {"state": "complete"})
    folder.log(2, "worker", "info", "hello")
    assert json.loads((folder.path / "run.json").read_text())["verdict"] == "running"
    assert (folder.path / "topology.yaml").read_text() == "name: ring\n"
    event = json.loads((folder.path / "events.jsonl").read_text().splitlines()[0])
    assert event["kind"] == "report" and event["data"]["state"] == "complete"
    assert "hello" in (folder.path / "logs" / "node-2-worker.log").read_text()
    assert json.loads((folder.path / "rows.json").read_text()) == []
    folder.write_tables()
    assert len(json.loads((folder.path / "rows.json").read_text())) == 1
    folder.close()


def test_the_end_brings_every_file_up_to_date(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {"run": "r", "params": {"size": 3}}, "", ManualClock())
    folder.row(1, "a", {"values": [1, 2]})
    folder.row(2, "b", {"text": "x,y"})
    folder.write_tables()
    check = CheckResult("all", False, "1 of 2 rows", 1, 2)
    folder.finish(outcome(tmp_path, verdict="fail", checks=(check,), rows=tuple(folder.rows)))
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["verdict"] == "fail" and document["params"] == {"size": 3}
    assert document["checks"] == [{"name": "all", "ok": False, "detail": "1 of 2 rows"}]
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"node": "1", "role": "a", "values": "[1, 2]", "text": ""}
    assert rows[1]["text"] == "x,y"


def test_two_threads_that_write_the_tables_do_not_mix_them(tmp_path: Path) -> None:
    """The end of a run may write them while a thread that was told to stop is still amid a large row."""
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    for n in range(20):
        folder.row(1, "a", {"n": n, "text": "x" * 10_000})
    amid, go_on = threading.Event(), threading.Event()

    def pause() -> bool:
        amid.set()
        return not go_on.wait(30)

    first = threading.Thread(target=folder.write_tables, args=(pause,))
    first.start()
    assert amid.wait(30)
    second = threading.Thread(target=folder.write_tables)
    second.start()
    second.join(0.2)  # without a lock it ends here, and the first then writes into what it left
    go_on.set()
    first.join(30)
    second.join(30)
    assert not first.is_alive() and not second.is_alive()
    assert [row["n"] for row in json.loads((tmp_path / "rows.json").read_text())] == list(range(20))
    assert folder.trouble == ""


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostNotFit) as caught:
        ResultsFolder(tmp_path / "file" / "out", {}, "")
    assert caught.value.id == "results.unwritable"


def test_what_cannot_be_written_is_remembered_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    monkeypatch.setattr(Path, "open", _no_space)
    folder.row(1, "a", {"x": 1})
    folder.log(1, "a", "info", "hello")
    folder.write_tables()
    folder.finish(outcome(tmp_path))
    assert "No space left" in folder.trouble
    assert folder.rows == [{"node": 1, "role": "a", "x": 1}]


def test_a_row_cannot_say_who_reported_it(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    folder.row(1, "a", {"node": "trainer", "role": "ghost", "x": 1})
    assert folder.rows == [{"node": 1, "role": "a", "x": 1}]
    assert '"node": 1, "role": "a", "data"' in (tmp_path / "events.jsonl").read_text()


def test_results_always_parse(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    folder.row(1, "a", {"nan": float("nan"), "deep": [{"inf": float("-inf")}], "text": "a\ud800b", "b": b"x"})
    folder.log(1, "a", "info", "a\ud800b")
    folder.write_tables()
    folder.finish(outcome(tmp_path))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (row,) = json.loads((tmp_path / "rows.json").read_text(), parse_constant=refuse)
    assert (row["nan"], row["deep"]) == (None, [{"inf": None}])
    for line in (tmp_path / "events.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert "\\ud800" in (tmp_path / "logs" / "node-1-a.log").read_text()
    assert "a" in (tmp_path / "rows.csv").read_text()
    assert folder.trouble == ""


def test_tables_are_due_when_rows_have_doubled(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    written = 0
    for number in range(3000):
        if folder.row(1, "a", {f"column_{number}": number}):
            folder.write_tables()
            written += 1
    assert written <= 10
    folder.write_tables()
    with (tmp_path / "rows.csv").open() as file:
        assert len(next(csv.reader(file))) == 3002


def test_tables_that_nobody_wants_any_more_are_left_as_they_were(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, {}, "", ManualClock())
    folder.row(1, "a", {"x": 1})
    folder.write_tables(lambda: True)
    assert json.loads((tmp_path / "rows.json").read_text()) == []
    assert not list(tmp_path.glob(".*"))


def _no_space(*_: object, **__: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_folder_that_has_a_run_is_never_written_over(tmp_path: Path) -> None:
    first = ResultsFolder(tmp_path, {"run": "first"}, "name: ring\n", ManualClock())
    with pytest.raises(HostNotFit) as caught:
        ResultsFolder(tmp_path, {"run": "second"}, "name: star\n", ManualClock())
    assert caught.value.id == "results.unwritable"
    assert "a run is kept there already" in caught.value.message
    assert (tmp_path / "topology.yaml").read_text() == "name: ring\n"
    assert json.loads((tmp_path / "run.json").read_text())["run"] == "first"
    first.close()
