"""Test a lab with several host processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.deploy import state
from orchestrator.errors import UsageError
from orchestrator.procfs import ProcessId, send_signal, wait_gone
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.test_transfers import assert_all_exact, run, transfer

SIX = "name: six\ntopology: {type: ring, n_nodes: 6}\n"

Part = Callable[[str, str], ProcessId]


def test_a_process_per_node_is_a_lab_like_any_other(labs: Labs, nm: Nm) -> None:
    lab = labs.up(RING, processes="each")
    parts = nm("inspect", "-o", "json").json["parts"]
    assert [each["part"] for each in parts] == [
        "postgres",
        "controller",
        "host-1",
        "host-2",
        "host-3",
        "host-4",
        "supervisor",
    ]
    assert all(each["running"] for each in parts)
    done = lab.node(1).run(["ping", "-c", "1", "-W", "2", "node-3"])
    assert done.ok and "ttl=254" in done.stdout  # one relay
    run = lab.run_scenario("weights-sync", params={"rounds": 1, "size": 2_000_000})
    assert run.verdict == "pass"
    assert any("nodes opened" in line for line in lab.logs("host-2"))
    lab.down()
    assert leftovers(labs.home) == []


def test_nodes_are_spread_in_runs_of_neighbours(labs: Labs) -> None:
    lab = labs.up(SIX, processes=2)
    note = state.read(labs.home.lab("six"))
    assert note is not None
    assert note.hosts == {"host-1": (1, 2, 3), "host-2": (4, 5, 6)}
    assert all(lab.node(1).run(["ping", "-c", "1", "-W", "2", f"node-{n}"]).ok for n in range(2, 7))


def test_one_process_dies_the_others_go_on_and_up_repairs_just_that(labs: Labs, nm: Nm, part: Part) -> None:
    lab = labs.up(SIX, processes=3, restart=False)
    roles = ("host-1", "host-2", "host-3", "controller", "postgres")
    before = {role: part("six", role) for role in roles}
    assert send_signal(before["host-2"], signal.SIGKILL)
    assert wait_gone([before["host-2"]], 10) == []
    seen = lab.status()
    assert seen.state == "degraded"
    assert {node.id for node in seen.nodes if node.state == "stopped"} == {3, 4}
    assert any("2 nodes (3-4) are stopped" in problem for problem in seen.problems)
    # Around the other side of the ring, once routes are anew; with `-w`, ping tries until one comes back.
    assert lab.node(2).run(["ping", "-c", "1", "-w", "20", "-i", "0.3", "node-5"]).ok
    gone = nm("exec", "3", "--", "true", "-o", "json")
    assert gone.code == 5 and "lab.host-gone" in gone.err
    assert labs.up(SIX).status().state == "ready"
    after = {role: part("six", role) for role in roles}
    assert {role for role in roles if before[role] != after[role]} == {"host-2"}
    assert lab.status().state == "ready"
    assert lab.node(3).run(["ping", "-c", "1", "-w", "5", "node-6"]).ok


def test_another_number_of_processes_under_the_same_name_is_refused(labs: Labs, nm: Nm) -> None:
    labs.up(RING, processes=2)
    with pytest.raises(UsageError) as caught:
        labs.up(RING, processes=4)
    assert caught.value.id == "lab.differs"
    assert nm("up", RING, "--backend", "native").code == 0  # none given: whatever it has is fine


@pytest.mark.parametrize("word", ["0", "-1", "many", "1.5"])
def test_an_invalid_number_is_refused(nm: Nm, word: str) -> None:
    said = nm("up", RING, "--backend", "native", f"--processes={word}")
    assert said.code == 2 and "usage.processes" in said.err


def test_docker_has_its_own_processes(nm: Nm) -> None:
    said = nm("up", RING, "--backend", "docker", "--processes", "2")
    assert said.code == 2 and "usage.processes" in said.err


def test_a_sender_that_was_killed_claims_nothing_for_its_next_process(
    labs: Labs, part: Part, tmp_path: Path
) -> None:
    """Unicast and group transfers of node 1, `kill -9` of its process, `nm up`, and the same again."""
    lab = labs.up(RING, processes="each")
    waves = [[transfer(f"10.0.0.{node}", 1, [node], 200_000 + node) for node in (2, 3, 4)]]
    for life in range(3):
        group = [transfer(f"group {life}", 1, [2, 3, 4], 300_000)]
        rows = run(lab, [*waves, group], tmp_path / str(life))
        assert_all_exact(rows, transfers=4)
        assert len([row for row in rows if row["side"] == "receiver"]) == 6
        host = part("ring", "host-1")
        assert send_signal(host, signal.SIGKILL)
        assert wait_gone([host], 10) == []
        assert labs.up(RING, processes="each").status().state == "ready"
