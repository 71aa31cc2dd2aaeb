"""Test concurrent commands, and directories that cannot be written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.damage import tmpfs
from tests.integration.waiting import all_wait, until, write_waiting

GATED = """
import pathlib, time
def waiter(ctx):
    ctx.report(started=True)
    gate = pathlib.Path(__GATE__)
    while not gate.exists():
        time.sleep(0.02)
    ctx.barrier("end")
    ctx.report(ended=True)
"""


lab = shared_lab(RING, name="once")


@pytest.fixture
def nm(home: Home, lab: Lab, tmp_path: Path) -> Nm:
    return Nm(home, tmp_path)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that lets the roles of `gated` end."""
    return tmp_path / "gate"


@pytest.fixture
def gated(tmp_path: Path, gate: Path) -> Path:
    return write_waiting(tmp_path / "gated", GATED.replace("__GATE__", repr(str(gate))))


def started(out: Path) -> bool:
    return all_wait(out)


def test_six_runs_at_once_each_have_their_own_rows_and_barriers(
    nm: Nm, gated: Path, gate: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / f"out-{number}" for number in range(6)]
    runs = [nm.start("run", "scenario", gated, "--results", out) for out in outs]
    until(lambda: all(map(started, outs)), 90)
    gate.touch()
    for run, out in zip(runs, outs, strict=True):
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
        [file] = out.rglob("rows.json")
        rows = json.loads(file.read_text())
        assert sorted((row["node"], "ended" in row) for row in rows) == [
            (node, ended) for node in range(1, 5) for ended in (False, True)
        ]


def test_a_run_that_fails_beside_another_does_not_end_it(
    nm: Nm, gated: Path, gate: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = nm.start("run", "scenario", gated, "--results", out)
    until(lambda: started(out))
    bad = write_waiting(tmp_path / "bad", "def waiter(ctx):\n    raise ValueError('mine')\n")
    said = nm("run", "scenario", bad, "--results", tmp_path / "bad-out")
    assert said.code == 1 and "ValueError: mine" in said.err
    gate.touch()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err


def test_up_amid_a_run_leaves_it_alone(nm: Nm, gated: Path, gate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = nm.start("run", "scenario", gated, "--results", out)
    until(lambda: started(out))
    up = nm("up", RING, "-n", "once", "--backend", "native")
    assert up.code == 0 and "already up" in up.err, up.err
    gate.touch()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes nothing."""
    with tmpfs(tmp_path / "read-only", "ro") as folder:
        yield folder


def test_results_that_cannot_be_kept_are_said_before_anything_runs(
    nm: Nm, lab: Lab, read_only: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = len(lab.status().runs)
    for results in (read_only / "out", tmp_path / "file", tmp_path / "file" / "out", "/proc/out", "x" * 300):
        said = nm("run", "scenario", "pingall", "--results", results, "-o", "json")
        assert said.code == 4, (results, said.err)
        assert "Traceback" not in said.err and said.error["id"].startswith(("results.", "host."))
    assert len(lab.status().runs) == before
    assert nm("run", "scenario", "pingall").code == 0
