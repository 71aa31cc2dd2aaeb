"""Test the file that keeps which nodes are stopped or paused by request."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home
from orchestrator.errors import UsageError
from orchestrator.node_states import read as read_by_host


def test_states_are_kept_until_nodes_run_again_and_the_host_process_reads_the_same(tmp_path: Path) -> None:
    directory = Home(tmp_path).lab("lab")
    directory.run.mkdir(parents=True)
    assert node_states.read(directory) == {}
    node_states.record(directory, [3, 1], "stopped")
    node_states.record(directory, [2], "paused")
    assert (
        node_states.read(directory)
        == read_by_host(directory.run)
        == {1: "stopped", 2: "paused", 3: "stopped"}
    )
    node_states.record(directory, [1, 2], "running")
    assert node_states.read(directory) == {3: "stopped"}


@pytest.mark.parametrize(
    ("state", "id", "hint"),
    [
        ("stopped", "node.stopped", "`nm node start 2`"),
        ("paused", "node.paused", "`nm node unpause 2`"),
    ],
)
def test_nothing_is_run_in_a_node_that_is_stopped_or_paused(
    tmp_path: Path, state: str, id: str, hint: str
) -> None:
    directory = Home(tmp_path).lab("lab")
    directory.run.mkdir(parents=True)
    node_states.record(directory, [2], state)
    node_states.require_running(directory, [1, 3])
    with pytest.raises(UsageError, match=f"node 2 of lab lab is {state} by request") as caught:
        node_states.require_running(directory, [1, 2])
    assert (caught.value.id, caught.value.hint) == (id, hint)
