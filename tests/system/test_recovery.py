"""Test transfers and runs with containers that are restarted or killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, ROOT

ABORTED = 20

DYING = """

import subprocess
import threading

_roles = {"trainer": trainer, "worker": worker}


class _Dying:
    '''A context that fails at its n-th use.'''

    def __init__(self, ctx, uses):
        self._ctx, self._uses = ctx, uses

    def __getattr__(self, name):
        self._uses -= 1
        if self._uses < 0:
            raise RuntimeError("cut off")
        return getattr(self._ctx, name)


def _role(ctx, name):
    ctx.publish(f"left by {ctx.node}", "x" * 100)
    ctx.dataplane.register_receiver_from_node(src_node_id=1 + ctx.node % 4, src_port=40000, dst_port=50000)
    subprocess.Popen(["sleep", "7654"], start_new_session=True)
    threading.Thread(target=threading.Event().wait, args=(1.0,), daemon=True).start()
    draw = random.Random(f"{ctx.seed} {ctx.node}")
    _roles[name](_Dying(ctx, draw.randrange(1, 40)))
    raise RuntimeError("cut off at the end")


def trainer(ctx):
    _role(ctx, "trainer")


def worker(ctx):
    _role(ctx, "worker")
"""
"""Appended to the roles of weights-sync: each opens this and that, and fails at a random point."""


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab after all the runs that were cut off."""
    folder = tmp_path_factory.mktemp("cut-off")
    labs = Labs(Home(folder / "nm"))
    try:
        lab = labs.up(RING, name="cut-off", backend="docker", timeout=180)
        scenario = folder / "dying"
        shutil.copytree(ROOT / "scenarios" / "weights-sync", scenario)
        with (scenario / "roles.py").open("a") as roles:
            roles.write(DYING)
        for seed in range(ABORTED):
            out = lab.run_scenario(
                scenario,
                params={"size": "1 MB", "limit": "20 s"},
                seed=seed,
                timeout=30,
                results=folder / str(seed),
            )
            assert out.verdict != "pass"
            assert "cut off" in str((out.reason, out.failures)), (out.reason, out.failures)
        yield lab
    finally:
        labs.end()


@pytest.mark.timeout(1200)
def test_a_run_after_runs_that_were_cut_off_is_clean(cut_off: Lab, tmp_path: Path) -> None:
    until(lambda: cut_off.status().state == "ready")  # what the last role left is on its way out
    outcome = cut_off.run_scenario("weights-sync", params={"size": "8 MB", "rounds": 2}, results=tmp_path)
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)
    assert {row["bytes"] for row in outcome.rows if row["role"] == "worker"} == {8_000_000}
    assert len({row["sha256"] for row in outcome.rows}) == 1


@pytest.mark.timeout(1200)
def test_runs_that_were_cut_off_leave_no_process_in_a_node(cut_off: Lab) -> None:
    script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    for node in range(1, 5):
        done = cut_off.node(node).run(["sh", "-c", script], timeout=60)
        assert "7654" not in done.stdout.replace(script, ""), done.stdout


def test_a_node_that_was_restarted_while_idle_sends_again(labs: Labs, tmp_path: Path) -> None:
    """The first session of a new life is not answered by what receivers remember of the old one."""
    lab = labs.up(RING, name="restarted", backend="docker")
    for number in range(3):
        outcome = lab.run_scenario(
            "weights-sync", params={"size": "4 MB", "limit": "30 s"}, results=tmp_path / str(number)
        )
        assert outcome.verdict == "pass", (number, outcome.reason, outcome.failures, outcome.checks)
        assert {row["bytes"] for row in outcome.rows if row["role"] == "worker"} == {4_000_000}
        subprocess.run(
            ["docker", "restart", "nm-restarted-node-1"], check=True, capture_output=True, timeout=60
        )
        until(lambda: lab.status().state == "ready")


LINE = """
name: line
topology: {type: line, n_nodes: 3}
transport: tcp
defaults: {link: {rate: 40 Mbit}}
"""
"""Slow enough that a transfer takes seconds, and over sockets, whose bytes can be counted from outside."""


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_a_container_that_is_killed_amid_a_transfer_is_not_said_to_have_it(
    labs: Labs, tmp_path: Path, victim: int
) -> None:
    lab = labs.up(LINE, backend="docker")
    begun = received(lab)
    found: list[Any] = []
    params = {"size": "16 MB", "limit": "20 s"}
    run = threading.Thread(
        target=lambda: found.append(
            lab.run_scenario("weights-sync", params=params, timeout=60, results=tmp_path / "cut")
        )
    )
    run.start()
    until(lambda: received(lab) > begun + random.Random(victim).randrange(1_000_000, 6_000_000))
    subprocess.run(["docker", "kill", f"nm-line-node-{victim}"], check=True, capture_output=True, timeout=60)
    run.join(120)
    assert not run.is_alive()
    assert found[0].verdict != "pass"
    said = {row["node"]: row.get("state") for row in found[0].rows}
    assert said.get(victim) != "complete" and said.get(1) != "complete", found[0].rows
    assert lab.status().state == "degraded"
    again = labs.up(LINE, backend="docker")
    outcome = again.run_scenario(
        "weights-sync", params={**params, "limit": "60 s"}, results=tmp_path / "again"
    )
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)


def received(lab: Lab) -> int:
    """Bytes that came to node 2 over the container network."""
    return int(lab.node(2).run(["cat", "/sys/class/net/eth0/statistics/rx_bytes"], timeout=60).stdout)


def until(condition: Callable[[], bool], limit_s: float = 90) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
