"""`nm up` and `nm run` are interrupted at random moments: 130, and what they began is gone."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.testing.plugin import Labs
from orchestrator.testing.proof import leftovers
from tests.integration.conftest import RING, Nm
from tests.integration.waiting import all_wait, as_a_shell_says, until, write_waiting

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("seed", range(8))
def test_up_is_interrupted_at_any_moment(nm: Nm, nm_home: Home, seed: int) -> None:
    chance = random.Random(seed)
    up = nm.start("up", RING, "--backend", "native")
    until((nm_home.locks / "ring.lock").exists)
    time.sleep(chance.uniform(0.0, 2.5))  # the moment is what varies
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
    chance = random.Random(seed)
    up = nm.start("up", RING, "--backend", "native")
    until((nm_home.locks / "ring.lock").exists)
    time.sleep(chance.uniform(0.0, 1.5))  # the moment is what varies
    down = nm("down", "-n", "ring")
    _, err = up.communicate(timeout=90)
    assert down.code == 0, down.err
    if up.returncode != 0:
        assert as_a_shell_says(up.returncode) == 130, err
        assert "Traceback" not in err
    assert leftovers(nm_home) == [] or nm("down", "-n", "ring").code == 0


def test_an_impatient_user_interrupts_again_and_again(nm: Nm, nm_home: Home) -> None:
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
    document = json.loads((out / "run.json").read_text())
    assert (document["verdict"], document["reason"]) == ("error", "interrupted")
    status = lab.status()
    assert status.state == "ready"
    assert [run.state for run in status.runs if run.state == "running"] == []
