"""Test what `nm run scenario` shows of a run under way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import runs
from orchestrator.errors import LabNotFound
from orchestrator.protocol.messages import RunEvent
from orchestrator.results import FORMAT, RunOutcome
from orchestrator.scenario.plots import Plot
from tests.cli.conftest import Nm
from tests.results.runs import make_run


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


def passing_lab(monkeypatch: pytest.MonkeyPatch, results: Path) -> None:
    """Every run passes and leaves this folder."""

    class Passing(RunningLab):
        def run_scenario(self, _scenario: str, **_options: Any) -> RunOutcome:
            head: Any = ("r1", "pingall", "ring", "native", 7, "pass", str(results))
            return RunOutcome(*head, fidelity={"verdict": "kept", "links": [], "host": {}})

    monkeypatch.setattr(runs, "_lab_for", lambda *_: (Passing(), False))


def test_the_page_about_a_run_is_written_and_its_place_is_shown(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    passing_lab(monkeypatch, make_run(tmp_path))
    said = nm("run", "scenario", "pingall")
    assert said.code == 0 and f"report in {tmp_path}/report.html" in said.err
    (tmp_path / "report.html").unlink()
    shown = json.loads(nm("run", "scenario", "pingall", "-o", "json").out)
    assert shown["report"] == f"{tmp_path}/report.html" and (tmp_path / "report.html").is_file()
    (tmp_path / "report.html").unlink()
    shown = json.loads(nm("run", "scenario", "pingall", "--no-report", "-o", "json").out)
    assert shown["report"] is None and not (tmp_path / "report.html").exists()


def test_what_cannot_be_drawn_is_said_and_changes_no_verdict(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plot = Plot(name="speed", kind="box", y="mb_per_s")
    passing_lab(monkeypatch, make_run(tmp_path / "a", plots=[plot.as_json()]))
    said = nm("run", "scenario", "pingall")
    assert said.code == 0 and "report: plot `speed`: no row has a number in `mb_per_s`" in said.err
    passing_lab(monkeypatch, tmp_path / "nothing")
    said = nm("run", "scenario", "pingall")
    assert said.code == 0 and "the run has no report: " in said.err and "pass  r1" in said.out


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LabNotFound("lab ring was taken down")])
def test_a_run_that_is_cut_short_gets_its_page_at_once_or_on_request(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    """An interrupted command has no time to draw."""
    folder = make_run(tmp_path / "2026-r1", run="r1", verdict="error", reason="interrupted")
    page = folder / "report.html"

    class CutShort(RunningLab):
        def run_scenario(self, _scenario: str, *, on_event: Callable[[RunEvent], None], **_: Any) -> Any:
            on_event(RunEvent("r1", 1, 0, "started", 0, "", {}))
            raise error

    monkeypatch.setattr(runs, "_lab_for", lambda *_: (CutShort(), False))
    said = nm("run", "scenario", "pingall", "--results", str(tmp_path), "--no-report")
    assert said.code != 0 and not page.exists() and "report" not in said.err
    said = nm("run", "scenario", "pingall", "--results", str(tmp_path))
    if isinstance(error, KeyboardInterrupt):
        assert said.code != 0 and not page.exists()
        assert f"`nm results report {folder}` writes the report" in said.err
        drawn = nm("results", "report", str(folder))
        assert drawn.code == 0 and drawn.out == f"{page}\n"
    else:
        assert said.code != 0 and f"report in {page}" in said.err
    assert "interrupted" in page.read_text()


def test_a_report_that_cannot_be_written_is_no_success(
    nm: Nm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, sweep = make_run(tmp_path / "run"), make_killed_sweep(tmp_path / "sweep")

    def fail(*_: Any) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr("orchestrator.results.report.render", fail)
    said = nm("results", "report", str(run))
    assert (said.code, said.out) == (1, "") and "the run has no report: no space left" in said.err
    monkeypatch.setattr("orchestrator.results.sweep_report.write", fail)
    said = nm("results", "report", str(sweep))
    assert (said.code, said.out) == (1, "") and "the sweep has no report: no space left" in said.err
    said = nm("results", "report", str(tmp_path))
    assert said.code == 2 and "neither run.json nor sweep.json" in said.err


def test_a_sweep_that_was_killed_gets_its_page(nm: Nm, tmp_path: Path) -> None:
    folder = make_killed_sweep(tmp_path / "sweep")
    said = nm("results", "report", str(folder))
    assert (said.code, said.out) == (0, f"{folder}/report.html\n")
    assert "1 of 1 runs are missing" in (folder / "report.html").read_text()


def make_killed_sweep(folder: Path) -> Path:
    """Write the folder of a sweep that was killed in its first run."""
    folder.mkdir()
    order = [{"combination": 1, "repetition": 1, "seed": 7}]
    document = {"format": FORMAT, "sweep": "s", "scenario": "pingall", "seed": 7, "axes": [], "order": order}
    (folder / "sweep.json").write_text(json.dumps({**document, "verdict": "running", "topologies": {}}))
    return folder
