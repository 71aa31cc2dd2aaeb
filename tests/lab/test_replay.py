"""Test what a replay runs, and which bundles it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import scenario, topology
from orchestrator.deploy.home import Home
from orchestrator.errors import UsageError
from orchestrator.lab import replay as engine
from orchestrator.lab.manifest import open_results
from orchestrator.lab.replay import replay
from orchestrator.results import open_bundle
from orchestrator.results.outcome import RunOutcome

from .conftest import MakeLab

TOPOLOGY = "name: two\nn_nodes: 3\nlinks: [{endpoints: [1, 2], delay: 3 ms}]\n"


@pytest.fixture
async def bundle(make_lab: MakeLab, tmp_path: Path) -> Path:
    """The folder of a run whose scenario, topology and payload are gone since."""
    _, note = make_lab()
    source = tmp_path / "mine"
    source.mkdir()
    (source / "scenario.yaml").write_text(
        "topology: ../top.yaml\n"
        "params: {payload: {type: file, default: ../p.bin}, n: {type: int, default: 1}}\n"
        "roles: {a: {nodes: 1}}\n"
    )
    (source / "roles.py").write_text("def a(ctx): ...\n")
    (tmp_path / "top.yaml").write_text(TOPOLOGY)
    (tmp_path / "p.bin").write_bytes(b"abc")
    meant = topology.load(tmp_path / "top.yaml")
    wanted = scenario.load(source)
    plan = wanted.resolve(meant, {"n": 4})
    base, folder = await open_results(note, meant, wanted, plan, seed=5, parent=tmp_path / "results")
    folder.row(1, "a", {"n": 4, "seconds": 0.5})
    folder.write_last_tables()
    folder.finish(RunOutcome(base.run, "mine", "l", "native", 5, "pass", base.results, details=base.details))
    folder.close()
    for file in (*source.iterdir(), tmp_path / "top.yaml", tmp_path / "p.bin"):
        file.unlink()
    return folder.path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs that a replay makes, instead of making them; each reports 4 and another time."""
    made: list[Any] = []

    async def bring_up(_home: Any, meant: topology.Topology, options: Any, _progress: Any) -> Any:
        made.append((meant, options))
        return SimpleNamespace(directory=None, state=None)

    async def run_scenario(_directory: Any, _state: Any, wanted: Any, options: Any, _: Any) -> RunOutcome:
        made.append((wanted, options))
        rows = ({"node": 1, "role": "a", "n": 4, "seconds": 0.7},)
        return RunOutcome(
            "again", wanted.name, "l", "native", 5, "pass", "out", rows=rows, details={"seed": 5}
        )

    async def take_down(_home: Any, name: str, _progress: Any) -> None:
        made.append(name)

    monkeypatch.setattr(engine, "bring_up", bring_up)
    monkeypatch.setattr(engine, "run_scenario", run_scenario)
    monkeypatch.setattr(engine, "take_down", take_down)
    return made


async def test_a_run_is_repeated_from_its_folder_alone(bundle: Path, ran: list[Any], home: Home) -> None:
    done = await replay(open_bundle(bundle), home)
    (meant, up), (wanted, options), down = ran
    assert meant.links[0].forward.delay_us == 3000
    assert (up.backend, up.external, down) == ("native", ("3",), up.name)
    assert (wanted.name, options.seed, options.params["n"]) == ("mine", 5, 4)
    assert options.params["payload"] == str(next((bundle / "files").iterdir()))
    assert wanted.files()["roles.py"] == b"def a(ctx): ...\n"
    assert done.same and [each["column"] for each in done.differences] == ["seconds"]
    assert options.origin["replay_of"] == done.of


async def test_another_value_or_verdict_is_not_the_same(bundle: Path, ran: list[Any], home: Home) -> None:
    rows = json.loads((bundle / "rows.json").read_text())
    (bundle / "rows.json").write_text(json.dumps([{**rows[0], "n": 5}]))
    done = await replay(open_bundle(bundle), home)
    assert not done.same and {each["column"] for each in done.differences} == {"n", "seconds"}


@pytest.mark.parametrize(
    ("change", "id"),
    [
        (lambda folder: (folder / "topology.yaml").write_text(TOPOLOGY), "replay.changed"),
        (lambda folder: next((folder / "files").iterdir()).write_bytes(b"xyz"), "replay.changed"),
        (lambda folder: next((folder / "files").iterdir()).unlink(), "replay.file"),
        (lambda folder: (folder / "scenario" / "scenario.yaml").unlink(), "replay.incomplete"),
        (lambda folder: without(folder, "format"), "results.version"),
        (lambda folder: without(folder, "seed"), "replay.incomplete"),
    ],
)
async def test_a_bundle_that_is_not_what_the_run_left_is_refused_before_anything_starts(
    bundle: Path, ran: list[Any], home: Home, change: Any, id: str
) -> None:
    change(bundle)
    with pytest.raises(UsageError) as caught:
        await replay(open_bundle(bundle), home)
    assert caught.value.id == id and ran == []


def without(folder: Path, key: str) -> None:
    document = json.loads((folder / "run.json").read_text())
    del document[key]
    (folder / "run.json").write_text(json.dumps(document))
