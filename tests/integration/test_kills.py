"""Test kills of random processes at random moments of up, run and down.

`NM_KILLS=200` makes the long series; the short one is for every day. The seed is printed with a failure.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.deploy import state
from orchestrator.deploy.home import Home
from orchestrator.procfs import send_signal
from orchestrator.testing.leftovers import leftovers
from tests.integration.conftest import RING, Nm

KILLS = int(os.environ.get("NM_KILLS", "6"))
SEED = int(os.environ.get("NM_KILL_SEED", "1"))
NAMED = {0, 1, 2, 5, 130}
"""Exit codes that say what happened; anything else of `nm` itself would be a crash."""


@dataclass(frozen=True)
class Blow:
    """Whom to kill, in what phase, and when."""

    phase: str
    victim: str
    after_s: float

    def __str__(self) -> str:
        return f"{self.victim} {self.after_s:.2f} s into {self.phase}"


def blows(seed: int, count: int) -> list[Blow]:
    chance = random.Random(seed)
    longest = {"up": 2.0, "run": 1.5, "down": 0.8}
    found = []
    for _ in range(count):
        phase = chance.choice(list(longest))
        victim = chance.choice(["nm", "host", "controller", "postgres"])
        found.append(Blow(phase, victim, chance.uniform(0, longest[phase])))
    return found


@pytest.mark.timeout(180 + 45 * KILLS)
@pytest.mark.parametrize("blow", blows(SEED, KILLS), ids=str)
def test_a_random_kill_has_a_named_outcome_and_leaves_nothing(
    nm: Nm, nm_home: Home, tmp_path: Path, blow: Blow
) -> None:
    if blow.phase != "up":
        assert nm("up", RING, "--backend", "native").code == 0
    words = {
        "up": ["up", RING, "--backend", "native"],
        "run": ["run", "scenario", "weights-sync", "-p", "size=40 MB", "--results", tmp_path / "out"],
        "down": ["down", "-n", "ring"],
    }
    struck = strike(nm.start(*words[blow.phase], "-o", "json"), nm_home, blow)
    assert_named(struck, blow)
    if blow.phase != "down" and state.read(nm_home.lab("ring")) is not None:
        repaired = nm("up", RING, "--backend", "native")
        assert repaired.code == 0, (blow, repaired.err)
        assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "2", "10.0.0.3").code == 0
    down = nm("down", "-n", "ring")
    assert down.code == 0, (blow, down.err)
    assert leftovers(nm_home) == [], blow


def strike(running: subprocess.Popen[str], home: Home, blow: Blow) -> subprocess.Popen[str]:
    time.sleep(blow.after_s)  # the moment is what varies here
    if blow.victim == "nm":
        running.kill()
        return running
    deadline = time.monotonic() + 10
    while running.poll() is None and time.monotonic() < deadline:
        note = state.read(home.lab("ring"))
        if note is not None and blow.victim in note.parts:
            send_signal(note.parts[blow.victim], signal.SIGKILL)
            break
        time.sleep(0.01)
    return running


def assert_named(running: subprocess.Popen[str], blow: Blow) -> None:
    out, err = running.communicate(timeout=100)
    if blow.victim == "nm" and running.returncode == -signal.SIGKILL:
        return
    assert running.returncode in NAMED, (blow, running.returncode, err)
    if running.returncode and not (running.returncode == 1 and out):
        error = json.loads(err.splitlines()[-1])["error"]
        assert error["id"] and error["message"], (blow, err)
