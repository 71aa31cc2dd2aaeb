"""Test which host process carries a node when nodes come and go."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.deploy.native.changed_nodes import placed
from orchestrator.deploy.state import LabState, NodeNote


def lab(nodes: int, processes: int) -> LabState:
    notes = tuple(NodeNote(n, f"node-{n}", f"10.0.0.{n}", False, "") for n in range(1, nodes + 1))
    return LabState("x", "native", "r", "up", None, "", "", 1, "", notes, (), processes=processes)


def test_nodes_stay_where_they_are_and_new_ones_go_where_fewest_are() -> None:
    state = lab(5, 2)
    assert state.hosts == {"host-1": (1, 2), "host-2": (3, 4, 5)}
    assert placed(state, [1, 2, 3, 4, 5, 6, 7]) == {"host-1": (1, 2, 6, 7), "host-2": (3, 4, 5)}
    assert placed(state, [1, 2, 9]) == {"host-1": (1, 2), "host-2": (9,)}
    gone = placed(state, [1])
    assert gone == {"host-1": (1,), "host-2": ()}
    assert replace(state, carried=gone).hosts == {"host-1": (1,)}
    assert placed(replace(state, carried=gone), [1, 2]) == {"host-1": (1, 2)}


def test_a_lab_without_nodes_of_ours_gets_a_host_process_with_the_first() -> None:
    assert placed(lab(0, 1), [3]) == {"host": (3,)}
