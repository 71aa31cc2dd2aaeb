"""Test runs whose lab, database or disk fails."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.procfs import ProcessId
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.damage import kill, tmpfs
from tests.integration.waiting import all_wait, as_a_shell_says, run_in, until, write_waiting

Part = Callable[[str, str], ProcessId]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a megabyte."""
    with tmpfs(tmp_path / "small", "size=1m") as folder:
        yield folder


def test_a_run_whose_lab_is_taken_down_ends_at_once(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), "--results", out, "-o", "json")
    until(lambda: all_wait(out))
    assert nm("down").code == 0
    said, err = run.communicate(timeout=20)
    assert run.returncode == 1, err
    assert json.loads(said)["verdict"] == "error"
    assert "taken down" in json.loads((run_in(out) / "run.json").read_text())["reason"]


def test_a_run_whose_controller_and_lab_are_made_anew_ends_too(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path
) -> None:
    labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), "--results", out, "-o", "json")
    until(lambda: all_wait(out))
    run.send_signal(signal.SIGSTOP)  # so that it sees neither the end nor the beginning
    assert nm("down").code == 0
    assert nm("up", RING, "--backend", "native").code == 0
    run.send_signal(signal.SIGCONT)
    said, err = run.communicate(timeout=30)
    assert run.returncode == 1, err
    assert json.loads(said)["verdict"] == "error"
    assert nm("status", "-o", "json").json["state"] == "ready"


def test_a_run_without_postgres_is_refused_and_its_folder_says_so(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path
) -> None:
    labs.up(RING, restart=False)
    kill(part("ring", "postgres"))
    out = tmp_path / "out"
    said = nm("run", "scenario", "pingall", "--results", out, "-o", "json")
    assert said.code == 5
    assert said.error["id"] == "store.unreachable"
    assert "`nm up` with the lab's topology file" in said.error["hint"]
    document = json.loads((run_in(out) / "run.json").read_text())
    assert document["verdict"] == "error" and "not started" in document["reason"]


def test_postgres_that_dies_in_a_run_and_stays_away_does_not_hold_it_for_ever(
    labs: Labs, nm: Nm, part: Part, tmp_path: Path
) -> None:
    labs.up(RING, restart=False)
    out = tmp_path / "out"
    scenario = write_waiting(tmp_path / "waiting", timeout="4 s")
    run = nm.start("run", "scenario", scenario, "--results", out, "-o", "json")
    until(lambda: all_wait(out))
    kill(part("ring", "postgres"))
    said, err = run.communicate(timeout=45)
    assert run.returncode == 1, err
    assert "within" in json.loads(said)["reason"]


def test_a_disk_that_is_full_is_said_and_ends_no_run(
    labs: Labs, nm: Nm, small_disk: Path, tmp_path: Path
) -> None:
    lab = labs.up(RING)
    source = "def waiter(ctx):\n    for _ in range(300):\n        ctx.report(text='x' * 2000)\n"
    scenario = write_waiting(tmp_path / "waiting", source)
    said = nm("run", "scenario", scenario, "--results", small_disk / "out", "-o", "json")
    assert said.code == 4
    assert said.json["verdict"] == "pass" and len(said.json["rows"]) == 1200
    assert "No space left" in said.json["unwritten"]
    assert said.error["id"] == "results.unwritable"
    assert [run for run in lab.status().runs if run.state == "running"] == []
    assert nm("run", "scenario", "pingall").code == 0


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupted_run_takes_the_lab_that_it_brought_up_with_it(
    nm: Nm, nm_home: Home, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    number = chance.choice([signal.SIGINT, signal.SIGTERM])
    words = ("--topology", RING, "--backend", "native")
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), *words)
    until((nm_home.locks / "ring.lock").exists)
    time.sleep(chance.uniform(0.0, 5.0))  # the moment is what varies
    run.send_signal(number)
    _, err = run.communicate(timeout=90)
    assert as_a_shell_says(run.returncode) == 130, err
    assert leftovers(nm_home) == []
