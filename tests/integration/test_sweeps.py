"""Test sweeps and replays in native labs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from orchestrator.deploy.home import Home
from orchestrator.results import load
from orchestrator.testing.leftovers import leftovers
from tests.integration.conftest import RING, Nm
from tests.integration.waiting import until


def test_a_sweep_that_is_killed_is_resumed_and_a_run_of_it_is_replayed_from_an_archive(
    nm: Nm, nm_home: Home, tmp_path: Path
) -> None:
    scenario = tmp_path / "mine"
    scenario.mkdir()
    (scenario / "scenario.yaml").write_text(
        "params: {n: {type: int, default: 1}}\nroles: {a: {nodes: all}}\n"
        "checks: [{name: all, rows: a, where: 'n == params.n'}]\n"
    )
    (scenario / "roles.py").write_text(
        "def a(ctx):\n    ctx.report(n=ctx.params.n, seed=ctx.seed, t_s=0.1)\n"
    )
    words = ("--topology", RING, "--backend", "native", "--results", tmp_path / "out")
    sweep = ("--sweep", "defaults.link.delay=0ms,1ms", "--sweep", "n=1,2", "--repeat", "2")
    killed = nm.start("run", "scenario", scenario, *words, *sweep, "-o", "json")
    until(lambda: len(list((tmp_path / "out").glob("*/*/done.json"))) >= 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (folder,) = (tmp_path / "out").iterdir()
    before = runs_of(folder)
    assert 2 <= len(before) < 8
    for file in scenario.iterdir():
        file.unlink()

    resumed = nm("run", "scenario", "--resume", folder, "--report", "-o", "json")
    assert resumed.code == 0, resumed.err
    after = runs_of(folder)
    assert len(after) == 8 and before.items() <= after.items()
    document = resumed.json
    assert document["verdict"] == "pass" and len({run["run"] for run in document["runs"]}) == 8
    assert len({row["seed"] for run in document["runs"] for row in run["rows"]}) == 2
    assert [file.endswith((".png", ".svg")) for file in document["plots"]] == [True, True]
    assert len(load(folder).rows) == 32
    page = (folder / "report.html").read_text()
    for name in after:
        assert (folder / name / "report.html").is_file() and f'href="{name}/report.html"' in page
    assert leftovers(nm_home) == []

    assert nm("results", "export", folder / "c02-r1", "one.zip").code == 0
    again = nm("replay", "one.zip", "-o", "json")
    assert again.code == 0, again.err
    assert again.json["same"] and again.json["differences"] == []
    assert leftovers(nm_home) == []


def runs_of(folder: Path) -> dict[str, str]:
    """The complete runs of a sweep by the names of their folders."""
    return {file.parent.name: json.loads(file.read_text())["run"] for file in folder.glob("*/done.json")}
