"""Test sweeps with runs that are made here: what is on disk after which end, and what a resume makes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import topology
from orchestrator.cli import sweeps
from orchestrator.clock import ManualClock
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit, LabBusy, StartFailed, TopologyInvalid, UsageError
from orchestrator.lab import sweep as engine
from orchestrator.lab.sweep import Sweep
from orchestrator.lab.sweep_folder import SweepFolder
from orchestrator.lab.sweep_plan import SweepOptions, make_sweep
from orchestrator.results import ResultsFolder, RunOutcome, load
from orchestrator.results.export import remove

TOPOLOGY = "name: two\nn_nodes: 2\nlinks: [{endpoints: [1, 2]}]\n"


class Labs:
    """Stands for labs and runs: notes what is brought up and run, and may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up: list[str] = []
        self.runs: list[tuple[str, dict[str, Any], int]] = []
        self.before: Callable[[int], None] = lambda _number: None
        self.verdict: Callable[[int], str] = lambda _number: "pass"
        self.unwritten = self.scenario = ""
        monkeypatch.setattr(engine, "bring_up", self.bring_up)
        monkeypatch.setattr(engine, "take_down", self.take_down)
        monkeypatch.setattr(engine, "run_scenario", self.run_scenario)

    async def bring_up(self, _home: Home, meant: topology.Topology, *_: Any) -> Any:
        self.up.append(str(meant.links[0].forward.delay_us))
        return SimpleNamespace(directory=None, state=None)

    async def take_down(self, *_: Any) -> None:
        self.up.append("down")

    async def run_scenario(self, _directory: Any, _state: Any, scenario: Any, options: Any, _: Any) -> Any:
        number = len(self.runs)
        self.scenario = scenario.name
        self.runs.append((options.folder.name, dict(options.params), options.seed))
        folder = ResultsFolder(options.folder, {"run": f"r{number}"}, "", ManualClock())
        self.before(number)
        folder.row(1, "a", {"seconds": number + 1.0})
        folder.write_last_tables()
        head: Any = (f"r{number}", scenario.name, "l", "native", options.seed, self.verdict(number), "out")
        outcome = RunOutcome(*head, rows=tuple(folder.rows), unwritten=self.unwritten)
        folder.finish(outcome)
        folder.close()
        return outcome


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Labs:
    return Labs(monkeypatch)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SweepFolder]:
    scenario = tmp_path / "mine"
    scenario.mkdir()
    (scenario / "top.yaml").write_text(TOPOLOGY)
    (scenario / "scenario.yaml").write_text(
        "topology: top.yaml\nparams: {mode: {type: str, default: x}, n: {type: int, default: 1}}\n"
        "roles: {a: {nodes: all}}\n"
    )
    (scenario / "roles.py").write_text("def a(ctx): ...\n")

    def make(*axes: str, repeat: int = 1, **options: Any) -> SweepFolder:
        wanted = SweepOptions(axes, repeat, results=tmp_path / "results", **options)
        return make_sweep(scenario, wanted)

    return make


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def test_every_combination_is_run_so_often_in_one_lab_for_each_topology(
    labs: Labs, make: Callable[..., SweepFolder], home: Home
) -> None:
    folder = make("defaults.link.delay=1ms,2ms", "mode=x,y", repeat=5, params={"n": "3"}, seed=7)
    document = await Sweep(folder, home).run()
    assert sorted(labs.up) == ["1000", "2000", "down", "down"] and labs.up[1] == labs.up[3] == "down"
    assert [name for name, _, _ in labs.runs] == [run.name for run in folder.runs]
    assert sorted(params["mode"] for _, params, _ in labs.runs) == ["x"] * 10 + ["y"] * 10
    assert {params["n"] for _, params, _ in labs.runs} == {3}
    assert document["verdict"] == "pass" and len(document["runs"]) == 20
    assert document["scenario"] == labs.scenario == "mine"
    assert json.loads((folder.path / "sweep.json").read_text()) == document
    first = document["runs"][0]
    assert first["params"] == {"defaults.link.delay": "1ms", "mode": "x"} and first["repetition"] == 1
    line = next(line for line in document["table"] if line["combination"] == 1)
    assert (line["role"], line["column"], line["n"]) == ("a", "seconds", 5)
    assert line["low"] <= line["median"] <= line["high"]
    frame = load(folder.path).rows
    assert (
        len(frame) == 20 and set(frame["mode"]) == {"x", "y"} and set(frame["repetition"]) == set(range(1, 6))
    )


async def test_a_run_that_fails_ends_nothing_and_the_verdict_says_so(
    labs: Labs, make: Callable[..., SweepFolder], home: Home
) -> None:
    labs.verdict = lambda number: "error" if number == 1 else "fail" if number == 2 else "pass"
    document = await Sweep(make(repeat=4), home).run()
    assert (document["verdict"], len(labs.runs), document["missing"]) == ("error", 4, [])
    labs.runs.clear()
    labs.verdict = lambda number: "fail" if number == 2 else "pass"
    assert (await Sweep(make(repeat=4), home).run())["verdict"] == "fail"


async def test_an_interrupted_sweep_is_resumed_and_makes_no_run_twice(
    labs: Labs, make: Callable[..., SweepFolder], home: Home
) -> None:
    folder = make("mode=x,y", repeat=3)

    def interrupt(number: int) -> None:
        if number == 2:
            raise asyncio.CancelledError

    labs.before = interrupt
    with pytest.raises(asyncio.CancelledError):
        await Sweep(folder, home).run()
    assert labs.up[-1] == "down"
    kept = json.loads((folder.path / "sweep.json").read_text())
    assert kept["verdict"] == "error" and "interrupted" in kept["reason"]
    assert (len(kept["runs"]), len(kept["missing"])) == (2, 4)
    again = SweepFolder.open(folder.path)
    assert [run.name for run in again.missing()] == [run.name for run in folder.runs[2:]]
    document = await Sweep(again, home).run()
    names = [name for name, _, _ in labs.runs]
    assert (document["verdict"], document["reason"], document["missing"]) == ("pass", "", [])
    assert names == [run.name for run in folder.runs[:3]] + [run.name for run in folder.runs[2:]]
    assert (folder.path / "interrupted" / f"{folder.runs[2].name}-1" / "run.json").is_file()
    labs.runs.clear()
    assert (await Sweep(SweepFolder.open(folder.path), home).run())["verdict"] == "pass" and labs.runs == []


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "renamed"])
async def test_a_copy_of_a_sweep_leaves_the_lab_of_the_original_alone(
    labs: Labs, make: Callable[..., SweepFolder], home: Home, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    folder = make("mode=x,y")
    name = folder.document["lab"]
    home.lab(name).path.mkdir(parents=True)  # the original is under way, or was killed
    home.lab(name).mark.touch()
    assert home.lab(name).exists()
    other = folder.path.with_name("other")
    if copied:
        shutil.copytree(folder.path, other)
    else:
        folder.path.rename(other)
    down: list[str] = []

    async def take_down(_home: Home, lab: str, *_: Any) -> None:
        down.append(lab)

    monkeypatch.setattr(engine, "take_down", take_down)
    document = await Sweep(SweepFolder.open(other), home).run()
    assert document["verdict"] == "pass" and len(document["runs"]) == 2
    assert (name in down) is not copied and (document["lab"] == name) is not copied
    assert SweepFolder.open(other).document["lab"] == document["lab"]


async def test_a_resume_runs_the_copy_and_not_what_the_scenario_has_become(
    labs: Labs, make: Callable[..., SweepFolder], home: Home, tmp_path: Path
) -> None:
    folder = make("mode=x,y")
    (tmp_path / "mine" / "scenario.yaml").write_text("no scenario")
    (tmp_path / "mine" / "top.yaml").unlink()
    assert (await Sweep(SweepFolder.open(folder.path), home).run())["verdict"] == "pass"


async def test_a_disk_that_is_full_ends_the_sweep_by_name_and_what_is_complete_stays(
    labs: Labs, make: Callable[..., SweepFolder], home: Home
) -> None:
    folder = make(repeat=3)

    def fill(number: int) -> None:
        labs.unwritten = "cannot write results: No space left on device" if number == 1 else ""

    labs.before = fill
    with pytest.raises(HostNotFit, match="No space left") as caught:
        await Sweep(folder, home).run()
    assert caught.value.id == "results.unwritable" and "--resume" in str(caught.value.hint)
    assert len(folder.missing()) == 2 and len(load(folder.path).rows) == 1


async def test_a_lab_that_does_not_come_up_is_tried_again_and_then_given_up(
    labs: Labs, make: Callable[..., SweepFolder], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    async def fail(*_: Any) -> Any:
        starts.append(1)
        raise StartFailed("node 2 did not become ready")

    folder = make(repeat=5)
    monkeypatch.setattr(engine, "bring_up", fail)
    with pytest.raises(StartFailed):
        await Sweep(folder, home).run()
    assert len(starts) == 3
    kept = json.loads((folder.path / "sweep.json").read_text())
    reasons = [each["reason"] for each in kept["missing"]]
    assert sorted(reasons) == ["", "", *["node 2 did not become ready"] * 3]


@pytest.mark.parametrize("full", [False, True], ids=["complete", "the disk is full"])
async def test_a_lab_that_cannot_be_taken_down_leaves_the_sweep_ended_on_disk(
    labs: Labs, make: Callable[..., SweepFolder], home: Home, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    async def fail(*_: Any) -> Any:
        raise StartFailed("the container does not end")

    folder = make(repeat=2)
    labs.unwritten = "cannot write results: No space left on device" if full else ""
    monkeypatch.setattr(engine, "take_down", fail)
    with pytest.raises(HostNotFit if full else StartFailed):  # the first error is the one that is raised
        await Sweep(folder, home).run()
    kept = json.loads((folder.path / "sweep.json").read_text())
    assert kept["verdict"] == ("error" if full else "pass")
    assert len(kept["missing"]) == (2 if full else 0)


@pytest.mark.parametrize(
    ("scenario", "options", "said"),
    [
        (None, {}, ""),
        ("mine", {"axes": ["mode=x,y"], "repeat": 2, "seed": 7, "params": {"n": "3"}}, ""),
        ("pingall", {}, "scenario mine"),
        (None, {"axes": ["mode=x,z"]}, "--sweep mode=x,y"),
        (None, {"repeat": 3, "seed": 8}, "--repeat 2; --seed 7"),
        (None, {"timeout_s": 5.0, "params": {"n": "4"}}, "no --timeout; --param n=3"),
        (None, {"params": {"m": "4"}}, "no --param m"),
    ],
)
def test_a_resume_with_other_options_is_refused(
    make: Callable[..., SweepFolder], tmp_path: Path, scenario: str | None, options: dict[str, Any], said: str
) -> None:
    folder = make("mode=x,y", repeat=2, seed=7, params={"n": "3"})
    given = str(tmp_path / scenario) if scenario == "mine" else scenario
    if not said:
        assert sweeps.resume(folder.path, given, SweepOptions(**options)).missing() == list(folder.runs)
        return
    with pytest.raises(UsageError) as caught:
        sweeps.resume(folder.path, given, SweepOptions(**options))
    assert caught.value.id == "sweep.differs" and caught.value.message.endswith(f"is another: {said}")


async def test_two_processes_do_not_run_one_sweep(
    labs: Labs, make: Callable[..., SweepFolder], home: Home
) -> None:
    folder = make()
    with folder.claimed(), pytest.raises(LabBusy) as caught:
        await Sweep(SweepFolder.open(folder.path), home).run()
    assert caught.value.id == "sweep.busy" and labs.runs == []
    with folder.claimed(), pytest.raises(LabBusy):
        remove(folder.path)
    assert remove(folder.path) == folder.document["sweep"]


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        (["defaults.link.delai=1ms"], TopologyInvalid),
        (["defaults.link.delay=1ms,soon"], TopologyInvalid),
        (["links.7.delay=1ms"], TopologyInvalid),
        (["n=1,x"], UsageError),
        (["nn=1"], UsageError),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    make: Callable[..., SweepFolder], tmp_path: Path, axes: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        make(*axes)
    assert getattr(caught.value, "exit_code", None) == 2
    assert "--sweep" in str(getattr(caught.value, "place", ""))
    assert not (tmp_path / "results").exists()
