"""Test that `nm up` replaces a process that runs but does not work."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.impairment import LinkSpec
from orchestrator.procfs import ProcessId, send_signal
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.waiting import until, write_waiting

CLOSES_ALL = """

def waiter(ctx):
    ctx.report(began=True)
    if ctx.node == 1:
        os.closerange(3, 4096)
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("role", ["host-1", "controller"])
def test_a_part_that_is_stalled_is_replaced(
    labs: Labs, nm: Nm, part: Callable[[str, str], ProcessId], role: str
) -> None:
    lab = labs.up(RING, processes=2)
    lab.set_link(1, 2, LinkSpec(delay_us=3_000))
    before = {name: part("ring", name) for name in ("postgres", "controller", "host-1", "host-2")}
    assert send_signal(before[role], signal.SIGSTOP)
    until(lambda: lab.status().state == "degraded")
    up = nm("up", RING, timeout=120)
    assert up.code == 0, up.err
    assert f"restarted: {role}" in up.err
    after = {name: part("ring", name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {role}
    assert not before[role].alive()
    status = lab.status()
    assert status.state == "ready"
    assert next(link.forward.delay_us for link in status.links if (link.a, link.b) == (1, 2)) == 3_000
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok


@pytest.mark.timeout(180)
def test_a_host_whose_files_a_role_closed_is_replaced(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    lab = labs.up(RING, processes=2)
    scenario = write_waiting(tmp_path / "closes", CLOSES_ALL, timeout="8 s")
    nm("run", "scenario", scenario, "--results", tmp_path / "out", timeout=90)
    up = nm("up", RING, timeout=120)
    assert up.code == 0, up.err
    assert lab.status().state == "ready"
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok
    scenario = write_waiting(tmp_path / "plain", "def waiter(ctx):\n    ctx.report(fine=True)\n")
    done = nm("run", "scenario", scenario, "--results", tmp_path / "out2", timeout=90)
    assert done.code == 0, done.err


def test_a_lab_that_works_is_left_alone(labs: Labs, nm: Nm, part: Callable[[str, str], ProcessId]) -> None:
    labs.up(RING)
    before = part("ring", "host")
    assert "already up" in nm("up", RING).err
    assert part("ring", "host") == before
    assert before.alive()
