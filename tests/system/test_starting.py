"""Test that a program in a container starts as from a login shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit
from orchestrator.lab import Lab
from tests.integration.conftest import shared_lab
from tests.integration.started import CLEAN, descriptors, hostile, signals, write_scenario

PAIR = "name: starting\ntopology: {type: line, n_nodes: 2}\n"


lab = shared_lab(PAIR, backend="docker")


def test_exec_and_shell(home: Home, lab: Lab) -> None:
    status = hostile(home, ["exec", "1", "--", "cat", "/proc/self/status"]).stdout
    assert signals(status) == CLEAN
    assert "Umask:\t0027" in status
    assert descriptors(hostile(home, ["exec", "1", "--", "ls", "/proc/self/fd"]).stdout) == [0, 1, 2]
    said = hostile(home, ["shell", "1"], stdin="cat /proc/self/status; ls /proc/self/fd\n").stdout
    status, _, numbers = said.rpartition("ctxt_switches")
    assert signals(status) == CLEAN
    assert descriptors(" ".join(numbers.split()[-4:])) == [0, 1, 2]
    both = lab.run_in_all(["cat", "/proc/self/status"])
    assert [signals(each.stdout) for each in both] == [CLEAN, CLEAN]


def test_what_a_role_starts_by_any_call(lab: Lab, tmp_path: Path) -> None:
    outcome = lab.run_scenario(write_scenario(tmp_path / "starts"))
    assert outcome.verdict == "pass", outcome.failures
    for row in outcome.rows:
        assert signals(row["status"]) == CLEAN, row["way"]
        assert descriptors(row["fds"]) == [0, 1, 2], row["way"]


def test_what_cannot_be_started_is_127_or_126(home: Home, lab: Lab) -> None:
    missing = hostile(home, ["exec", "1", "--", "nosuch"])
    assert (missing.returncode, missing.stderr) == (127, "nosuch: not found in node 1\n")
    mtr = lab.node(2).run("/nowhere/mtr node-1")
    assert (mtr.exit_code, mtr.stderr.splitlines()[0]) == (127, "/nowhere/mtr: not found in node 2")
    assert "package mtr-tiny" in mtr.stderr
    folder = lab.node(1).run("/tmp")
    assert (folder.exit_code, folder.stderr) == (126, "/tmp: not executable in node 1\n")


def test_what_a_scenario_needs_is_looked_for_before_its_run(lab: Lab, tmp_path: Path) -> None:
    folder = write_scenario(tmp_path / "starts")
    file = folder / "scenario.yaml"
    needs = "needs: {python: [json, nosuch_module], programs: [ping, nosuch-program]}\n"
    file.write_text(needs + file.read_text())
    with pytest.raises(HostNotFit) as refused:
        lab.run_scenario(folder)
    assert refused.value.id == "scenario.needs"
    command = 'make images WITH_PYTHON="nosuch_module" WITH_PACKAGES="nosuch-program"'
    assert command in (refused.value.hint or "")
