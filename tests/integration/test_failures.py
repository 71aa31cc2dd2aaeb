"""Test kills of each part: the lab names it, `up` restarts it, `down` removes everything."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy import host_checks, state
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit, StartFailed
from orchestrator.lab import Lab
from orchestrator.procfs import ProcessId, send_signal
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.damage import kill

Part = Callable[[str, str], ProcessId]


@pytest.mark.parametrize("role", ["host", "controller", "postgres"])
def test_a_killed_part_is_named_and_up_repairs_just_that(labs: Labs, nm: Nm, part: Part, role: str) -> None:
    lab = labs.up(RING, restart=False)
    before = {each: part("ring", each) for each in ("host", "controller", "postgres")}
    kill(before[role])
    seen = lab.status()
    assert seen.state == "degraded"
    assert any(f"{role} does not run" in problem for problem in seen.problems)
    # Without a controller nobody can say more of the nodes than that their process runs.
    states = {"host": "stopped", "controller": "unreachable", "postgres": "ready"}
    assert {node.state for node in seen.nodes} == {states[role]}
    up = nm("up", RING)
    assert up.code == 0, up.err
    assert f"restarted: {role}" in up.err
    after = {each: part("ring", each) for each in before}
    assert {each for each in before if before[each] != after[each]} == {role}
    assert lab.status().state == "ready"
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok


@pytest.mark.parametrize("role", ["host", "controller", "postgres"])
def test_down_works_whatever_was_killed(labs: Labs, nm: Nm, part: Part, role: str) -> None:
    labs.up(RING)
    kill(part("ring", role))
    assert nm("down").code == 0
    assert leftovers(labs.home) == []


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 0.9, 1.2, 1.6])
def test_kill_of_nm_up_leaves_nothing_that_down_does_not_remove(
    nm: Nm, nm_home: Home, after_s: float
) -> None:
    up = nm.start("up", RING, "--backend", "native")
    time.sleep(after_s)  # the moment of the kill is what varies here
    up.kill()
    up.communicate()
    assert nm("down", "-n", "ring").code == 0
    assert leftovers(nm_home) == []
    assert nm("gc", "-o", "json").json == []


def test_gc_collects_what_a_killed_up_left(nm: Nm, nm_home: Home) -> None:
    up = nm.start("up", RING, "--backend", "native")
    until(lambda: (note := state.read(nm_home.lab("ring"))) is not None and bool(note.parts))
    up.kill()
    up.communicate()
    status = nm("status", "-n", "ring", "-o", "json").json
    assert status["state"] == "failed"
    assert "its start was interrupted" in status["problems"][0]
    assert [each["lab"] for each in nm("gc", "-o", "json").json] == ["ring"]
    assert leftovers(nm_home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_cleans_up_after_itself(nm: Nm, nm_home: Home, number: signal.Signals) -> None:
    up = nm.start("up", RING, "--backend", "native")
    until(lambda: (note := state.read(nm_home.lab("ring"))) is not None and "host" in note.parts)
    up.send_signal(number)
    _, err = up.communicate(timeout=60)
    assert up.returncode == 130, err
    assert leftovers(nm_home) == []


def test_a_host_process_killed_during_up_is_named_as_the_failed_part(nm: Nm, nm_home: Home) -> None:
    up = nm.start("up", RING, "--backend", "native", "-o", "json")
    until(lambda: (note := state.read(nm_home.lab("ring"))) is not None and "host" in note.parts)
    note = state.read(nm_home.lab("ring"))
    assert note is not None
    send_signal(note.parts["host"], signal.SIGKILL)
    _, err = up.communicate(timeout=60)
    if up.returncode == 0:
        pytest.fail("the lab was ready before its host process could be killed")
    assert up.returncode == 5
    error = json.loads(err.splitlines()[-1])["error"]
    assert error["id"] == "start.part-failed"
    assert "host was ended by SIGKILL" in error["message"]
    assert leftovers(nm_home) == []


def test_a_half_deleted_lab_is_taken_down(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING)
    (lab.directory / "state.json").unlink()
    (lab.directory / "host.json").unlink()
    assert nm("status", "-n", "ring").code == 2
    assert nm("down", "-n", "ring").code == 0
    assert leftovers(labs.home) == []


def test_up_after_a_crash_clears_the_remains_first(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING)
    (lab.directory / "state.json").unlink()
    assert nm("up", RING, "--backend", "native").code == 0
    assert nm("status", "-o", "json").json["state"] == "ready"


def test_no_tun_device_is_said_before_anything_starts(
    nm_home: Home, labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = host_checks.tun_device(Path("/dev/net/no-such-device"))
    monkeypatch.setattr(host_checks, "tun_device", lambda: missing)
    with pytest.raises(HostNotFit) as caught:
        Lab.up(RING, backend="native", home=nm_home)
    assert caught.value.id == "host.tun-device"
    assert caught.value.hint and "modprobe tun" in caught.value.hint
    assert leftovers(nm_home) == []


def test_more_nodes_than_memory_allows_is_said_with_the_number_that_fits(
    nm_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        host_checks, "_available", lambda: host_checks.BASE_BYTES + 3 * host_checks.NODE_BYTES["native"]
    )
    with pytest.raises(HostNotFit) as caught:
        Lab.up(RING, backend="native", home=nm_home)
    assert (caught.value.id, caught.value.exit_code) == ("host.memory", 4)
    assert "room for about 3 nodes, but the lab has 4" in caught.value.message
    assert caught.value.hint == "at most 3 nodes fit"
    assert leftovers(nm_home) == []


def test_more_nodes_than_open_files_allow_is_said_with_the_number_that_fits(
    nm_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (112, 112))
    with pytest.raises(HostNotFit) as caught:
        Lab.up(RING, backend="native", home=nm_home)
    assert (caught.value.id, caught.value.exit_code) == ("host.open-files", 4)
    assert caught.value.hint is not None and caught.value.hint.startswith("at most 3 nodes fit; `ulimit -Hn")
    assert leftovers(nm_home) == []


def test_a_start_that_takes_too_long_names_who_is_waited_for(labs: Labs, nm_home: Home) -> None:
    with pytest.raises(StartFailed) as caught:
        labs.up(RING, timeout=0.05)
    assert "lab ring did not start" in caught.value.message
    assert leftovers(nm_home) == []


def test_a_home_that_cannot_be_written_is_4(nm: Nm, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    os.environ["NM_HOME"] = str(blocked)
    nm._home = Home(blocked)  # the point of this test is a home that cannot be one
    said = nm("up", RING, "--backend", "native", "-o", "json")
    assert said.code == 4
    assert said.error["id"] == "home.unwritable"


def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
