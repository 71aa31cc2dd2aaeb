"""Test the commands on results, and what a sweep is refused for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.clock import ManualClock
from orchestrator.results import ResultsFolder, RunOutcome
from orchestrator.results.bundle import FORMAT
from tests.cli.conftest import Nm


def write_run(folder: Path, seconds: float = 0.5, **document: object) -> Path:
    head = {
        "format": FORMAT,
        "run": folder.name,
        "scenario": "s",
        "started": "2026-01-31T12:00:00Z",
        **document,
    }
    kept = ResultsFolder(folder, head, "name: ring\n", ManualClock())
    kept.row(1, "a", {"seconds": seconds})
    kept.write_last_tables()
    kept.finish(RunOutcome(folder.name, "s", "l", "native", 7, "pass", str(folder), details=head))
    kept.close()
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "results" / "r1", versions={"kernel": "6.1"})
    write_run(tmp_path / "results" / "r2", 0.9, versions={"kernel": "6.8"})
    return Path("results")


def test_runs_are_listed_and_shown(nm: Nm, runs: Path) -> None:
    assert [each["name"] for each in nm("results", "list", "-o", "json").json] == ["r1", "r2"]
    assert "r2" in nm("results", "list").out
    shown = nm("results", "show", runs / "r1")
    assert "0.500" in shown.out and "pass  r1" in shown.out
    assert nm("results", "show", runs / "r1", "-o", "json").json["rows"][0]["seconds"] == 0.5
    empty = nm("results", "list", "elsewhere")
    assert (empty.code, empty.out) == (0, "") and "no results in elsewhere" in empty.err


def test_two_runs_are_compared_and_one_repetition_is_not_enough(nm: Nm, runs: Path) -> None:
    said = nm("results", "compare", runs / "r1", runs / "r2")
    assert said.code == 0
    assert "not enough repetitions" in said.out and "versions.kernel" in said.out
    assert "--repeat" in said.err
    found = nm("results", "compare", runs / "r1", runs / "r2", "-o", "json").json
    assert found["differences"][0]["larger_than_noise"] is None


def test_a_run_is_exported_and_the_archive_read(nm: Nm, runs: Path) -> None:
    assert nm("results", "export", runs / "r1").out == "r1.tar.gz\n"
    assert "pass  r1" in nm("results", "show", "r1.tar.gz").out
    assert "[export.exists]" in nm("results", "export", runs / "r1").err
    assert nm("results", "export", runs / "r1", "x.csv").code == 0
    assert Path("x.csv").read_text().startswith("node,role,seconds\n")


def test_nothing_is_removed_if_one_folder_is_none(nm: Nm, runs: Path) -> None:
    refused = nm("results", "rm", runs / "r1", runs, "-o", "json")
    assert refused.code == 2  # `rm` prints no data
    assert nm("results", "rm", runs / "r1", runs).code == 2
    assert (runs / "r1").is_dir()
    removed = nm("results", "rm", runs / "r1", runs / "r2", runs / "r2" / ".." / "r1")
    assert (removed.code, list(runs.iterdir())) == (0, [])


def test_a_bundle_of_another_version_is_named(nm: Nm, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"format": FORMAT + 1, "versions": {"nm": "9.9"}}))
    for words in (["results", "show"], ["results", "export"], ["replay"], ["results", "rm"]):
        said = nm(*words, folder)
        assert said.code == 2 and "[results.version]" in said.err and "nm 9.9" in said.err
    assert nm("results", "compare", folder, folder, "-o", "json").error["id"] == "results.version"
    assert "is the folder" in nm("run", "scenario", "--resume", write_run(tmp_path / "r1")).err


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (["--sweep", "defaults.link.los=1%"], "topology.invalid"),
        (["--sweep", "defaults.link.loss=1%,often"], "topology.invalid"),
        (["--sweep", "cuont=1,2"], "sweep.unknown-key"),
        (["--sweep", "count=1,many"], "sweep.value"),
        (["--sweep", "count=1,1"], "sweep.twice"),
        (["--sweep", "count"], "sweep.form"),
        (["--repeat", "2", "-p", "cuont=1"], "scenario.invalid"),
        (["--repeat", "2", "--keep"], "sweep.option"),
        (["--repeat", "0"], "usage.invalid"),
        (["--repeat", "2", "-n", "none"], "lab.not-found"),
        (["--resume", "none"], "results.none"),
    ],
)
def test_a_sweep_that_is_wrong_is_an_error_before_anything_starts(
    nm: Nm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], id: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = nm("run", "scenario", "pingall", *words, "-o", "json")
    assert (said.code, said.error["id"]) == (2, id)
    assert not (tmp_path / "results").exists()


def test_a_run_without_a_scenario_says_what_is_missing(nm: Nm) -> None:
    said = nm("run", "scenario")
    assert said.code == 2 and "NAME|DIR is missing" in said.err
