"""Test changes to a lab's containers and networks by the engine's own commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm

NAME = "interfered"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_paused_node_is_said_to_be_paused_and_up_lets_it_go_on(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING, backend="docker", name=NAME)
    started = docker("inspect", "-f", "{{.State.StartedAt}}", f"nm-{NAME}-node-2")
    docker("pause", f"nm-{NAME}-node-2")
    seen = lab.status()
    assert seen.state == "degraded"
    assert [node.state for node in seen.nodes] == ["ready", "paused", "ready", "ready"]
    assert {(link.a, link.b): link.state for link in seen.links} == {
        (1, 2): "down",
        (2, 3): "down",
        (1, 4): "up",
        (3, 4): "up",
    }
    assert any("paused" in problem for problem in seen.problems)
    up = nm("up", RING, "-n", NAME, timeout=180)
    assert up.code == 0, up.err
    assert lab.status().state == "ready"
    assert docker("inspect", "-f", "{{.State.StartedAt}}", f"nm-{NAME}-node-2") == started
    assert lab.node(1).run(["ping", "-c", "1", "-W", "5", "node-2"]).ok


def test_a_paused_lab_goes_down(labs: Labs, nm: Nm, nm_home: Home) -> None:
    labs.up(RING, backend="docker", name=NAME)
    for part in ("controller", "node-1", "postgres"):
        docker("pause", f"nm-{NAME}-{part}")
    assert nm("down", "-n", NAME).code == 0
    assert leftovers(nm_home, engine=True) == []


@pytest.mark.parametrize("nodes", [("node-3",), ("controller", "node-1", "node-2", "node-3", "node-4")])
def test_a_network_that_is_gone_is_made_again(labs: Labs, nm: Nm, nodes: tuple[str, ...]) -> None:
    """Whether one container was taken off it, or all of them and the network removed."""
    lab = labs.up(RING, backend="docker", name=NAME)
    for node in nodes:
        docker("network", "disconnect", "--force", f"nm-{NAME}", f"nm-{NAME}-{node}")
    if len(nodes) > 1:
        docker("network", "rm", f"nm-{NAME}")
    seen = lab.status()
    assert seen.state in ("degraded", "failed")
    assert any("not on the lab's network" in problem for problem in seen.problems)
    up = nm("up", RING, "-n", NAME, timeout=180)
    assert up.code == 0, up.err
    assert lab.status().state == "ready"
    assert lab.node(1).run(["ping", "-c", "1", "-W", "5", "node-3"]).ok


def test_down_ends_an_up_that_is_under_way(nm: Nm, nm_home: Home) -> None:
    up = nm.start("up", RING, "-n", NAME, "--backend", "docker")
    assert up.stderr is not None
    for line in up.stderr:
        if "containers" in line:
            break
    down = nm("down", "-n", NAME, timeout=120)
    assert (down.code, up.wait(30)) == (0, 130), down.err
    up.communicate()
    assert leftovers(nm_home, engine=True) == []


def test_a_name_that_is_taken_says_whose_it_is_and_what_to_type(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    name = f"nm-{NAME}"
    docker("network", "create", name)
    try:
        said = nm("up", RING, "-n", NAME, "--backend", "docker")
        assert (said.code, "nothing that nm made" in said.err) == (4, True), said.err
        assert f"`docker network rm {name}`" in said.err
    finally:
        docker("network", "rm", name)
    elsewhere = Nm(Home(tmp_path / "else where"), tmp_path)
    try:
        assert elsewhere("up", RING, "-n", NAME, "--backend", "docker", timeout=120).code == 0
        said = nm("up", RING, "-n", NAME, "--backend", "docker")
        assert said.code == 4, said.err
        assert f"of lab {NAME} in {tmp_path}/else where" in said.err
        assert f"`NM_HOME='{tmp_path}/else where' nm down -n {NAME}`" in said.err
    finally:
        assert elsewhere("down", "--all").code == 0


def test_a_node_that_is_restarted_stops_quietly(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING, backend="docker", name=NAME)
    assert lab.run_scenario("pingall").verdict == "pass"  # from here on it runs roles
    docker("restart", f"nm-{NAME}-node-2")
    assert nm("up", RING, "-n", NAME, timeout=180).code == 0
    log = "\n".join(lab.logs("node-2"))
    assert "agent stopped" in log
    assert "aclose" not in log and "Traceback" not in log, log
