"""Test which parts `up` replaces in a lab that is up."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home
from orchestrator.deploy.host import Part
from orchestrator.lab import repair
from orchestrator.protocol.messages import NodeStatus, RunStatus, Status

PARTS = (Part("controller", True), Part("host-1", True, nodes=(1, 2)), Part("host-2", True, nodes=(3,)))


def seen(states: dict[int, str], run: str = "") -> Status:
    """The controller's word on a lab whose nodes are in these states, with a run in that state."""
    nodes = tuple(NodeStatus(node, f"node-{node}", state, f"10.0.0.{node}") for node, state in states.items())
    runs = (RunStatus("sync-1", "weights-sync", run, ""),) if run else ()
    return Status(1, "lab", "ready", 7, "ok", (), nodes, (), (), runs)


@pytest.mark.parametrize("run", ["", "finished", "failed"])
def test_a_degraded_node_has_its_process_replaced(run: str) -> None:
    status = seen({1: "ready", 2: "degraded", 3: "ready"}, run)
    assert repair._broken(PARTS, status) == ("host-1",)
    assert repair._put_off(status) == ""


@pytest.mark.parametrize("run", ["running", "stopping"])
def test_a_run_under_way_is_not_ended_for_a_degraded_node(run: str) -> None:
    status = seen({1: "ready", 2: "degraded", 3: "unreachable"}, run)
    assert repair._broken(PARTS, status) == ("host-2",), "what is unreachable has no role that could go on"
    said = repair._put_off(status)
    assert "sync-1" in said and "node 2" in said and "`nm up`" in said


async def test_a_start_of_nodes_that_failed_half_way_is_finished(tmp_path: Path) -> None:
    directory = Home(tmp_path).lab("ring")
    directory.run.mkdir(parents=True)
    node_states.record(directory, [1, 3], "stopped")
    asked: list[tuple[list[int], str]] = []

    class Host:
        async def act_on_nodes(self, _directory: object, _state: object, nodes: list[int], do: str) -> None:
            asked.append((nodes, do))

    status = seen({1: "stopped", 2: "ready", 3: "starting"})
    await repair._finish_starts(cast(Any, Host()), directory, cast(Any, None), status)
    assert asked == [([3], "start")]
    assert node_states.read(directory) == {1: "stopped"}
