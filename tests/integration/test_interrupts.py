"""Test interrupts of `nm up` and `nm run` at random moments."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.procfs import ProcessId, send_signal
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.waiting import all_wait, as_a_shell_says, run_in, until, write_waiting

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("seed", range(8))
def test_up_is_interrupted_at_any_moment(nm: Nm, nm_home: Home, seed: int) -> None:
    chance = random.Random(seed)
    up = up_for(chance.uniform(0.0, 2.5), nm, nm_home)
    up.send_signal(chance.choice(SIGNALS))
    _, err = up.communicate(timeout=90)
    if up.returncode == 0:
        assert "is up" in err  # it was done already
        assert nm("down").code == 0
    else:
        assert as_a_shell_says(up.returncode) == 130, err
        assert "Traceback" not in err
    assert leftovers(nm_home) == []


@pytest.mark.parametrize("seed", range(3))
def test_down_ends_an_up_that_is_under_way(nm: Nm, nm_home: Home, seed: int) -> None:
    up = up_for(random.Random(seed).uniform(0.0, 1.5), nm, nm_home)
    down = nm("down", "-n", "ring")
    _, err = up.communicate(timeout=90)
    assert down.code == 0, down.err
    if up.returncode != 0:
        assert as_a_shell_says(up.returncode) == 130, err
        assert "Traceback" not in err
    assert leftovers(nm_home) == [] or nm("down", "-n", "ring").code == 0


def test_repeated_interrupts_do_not_stop_the_clean_up(nm: Nm, nm_home: Home) -> None:
    up = nm.start("up", RING, "--backend", "native")
    until(lambda: nm_home.lab("ring").logs.joinpath("host.log").exists())
    for _ in range(20):
        up.send_signal(signal.SIGINT)
        time.sleep(0.05)  # as fast as somebody types
    _, err = up.communicate(timeout=60)
    assert as_a_shell_says(up.returncode) == 130, err
    assert nm("down", "-n", "ring").code == 0
    assert leftovers(nm_home) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_run_leaves_the_lab_ready_and_no_role_behind(
    labs: Labs, nm: Nm, tmp_path: Path, number: signal.Signals
) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), "--results", out)
    until(lambda: all_wait(out))
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert as_a_shell_says(run.returncode) == 130, err
    document = json.loads((run_in(out) / "run.json").read_text())
    assert (document["verdict"], document["reason"]) == ("error", "interrupted")
    status = lab.status()
    assert status.state == "ready"
    assert [run.state for run in status.runs if run.state == "running"] == []


DEAF = """
import time
def waiter(ctx):
    ctx.report(started=True)
    while ctx.node == 1:
        time.sleep(3600)
"""


def test_an_interrupted_run_says_which_role_has_not_ended(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    lab = labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting", DEAF), "--results", out)
    until(lambda: all_wait(out))
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert as_a_shell_says(run.returncode) == 130, err
    sentence = "role waiter in node 1 has not ended"
    assert sentence in err
    [document] = [json.loads(file.read_text()) for file in out.rglob("run.json")]
    assert document["reason"].startswith(f"interrupted; {sentence}")
    until(lambda: lab.status().state == "degraded", 10)
    assert nm("up", RING).code == 0
    assert nm("run", "scenario", "pingall").code == 0


def test_an_interrupted_run_says_when_it_does_not_know_whether_its_roles_have_ended(
    labs: Labs, nm: Nm, part: Callable[[str, str], ProcessId], tmp_path: Path
) -> None:
    labs.up(RING)
    out = tmp_path / "out"
    run = nm.start("run", "scenario", write_waiting(tmp_path / "waiting"), "--results", out)
    until(lambda: all_wait(out))
    assert send_signal(part("ring", "controller"), signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    try:
        _, err = run.communicate(timeout=30)
    finally:
        send_signal(part("ring", "controller"), signal.SIGCONT)
    assert as_a_shell_says(run.returncode) == 130, err
    assert "whether its roles have ended is not known" in err


def up_for(seconds: float, nm: Nm, home: Home) -> subprocess.Popen[str]:
    """Bring a lab up, and return so long after it has begun."""
    up = nm.start("up", RING, "--backend", "native")
    until((home.locks / "ring.lock").exists)
    time.sleep(seconds)  # the moment is what varies
    return up
