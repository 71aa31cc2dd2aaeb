"""Test warnings about topologies."""

from __future__ import annotations

from orchestrator import topology

LINE = "topology: {type: line, n_nodes: 12}\n"
THERE = "  - {from: 1, to: 3, path: [1, 2, 3]}\n"
BACK = "  - {from: 3, to: 1, path: [3, 2, 1]}\n"


def one_way(text: str) -> list[tuple[int, str]]:
    warnings = topology.loads(LINE + text).warnings
    assert {each.id for each in warnings} <= {"topology.one-way"}
    return [(each.place.line if each.place else 0, each.message) for each in warnings]


def test_a_way_there_and_none_back() -> None:
    alone = "routing: {protocol: none}\nroutes:\n"
    assert one_way(alone + THERE + BACK) == []
    assert one_way("routes:\n" + THERE) == []  # the way back is a shortest path
    assert one_way(alone + THERE) == [(4, "node 1 has a route to node 3, but node 3 has none back")]
    two_ways = "  - {from: 1, to: 3, path: [1, 2, 3]}\n  - {from: 4, to: 3, path: [4, 3]}\n"
    assert [line for line, _ in one_way(alone + BACK + two_ways)] == [6]


def test_many_of_them_are_counted() -> None:
    routes = "".join(f"  - {{from: {n}, to: {n + 1}, path: [{n}, {n + 1}]}}\n" for n in range(1, 12))
    found = one_way("routing: {protocol: none}\nroutes:\n" + routes)
    assert len(found) == 9
    assert found[-1][1] == "and so have 3 pairs more"


def test_nodes_that_nobody_reaches() -> None:
    (warning,) = topology.loads("n_nodes: 3\nlinks:\n  - {endpoints: [1, 2]}\n").warnings
    assert (warning.id, warning.message) == (
        "topology.disconnected",
        "node 3 cannot be reached from node 1",
    )


def test_settings_of_links_that_max_mode_skips_are_named() -> None:
    text = "topology: {type: line, n_nodes: 3}\ndefaults: {node: {operating_mode: max}}\n"
    assert topology.loads(text).warnings == ()
    emulated = "links:\n  - {endpoints: [1, 2], rate: 5 Mbit, backward: {loss: 1 %}}\n"
    emulated += "  - {endpoints: [2, 3], delay: 1 ms}\n"
    (warning,) = topology.loads(text + emulated).warnings
    assert warning.id == "topology.max-mode"
    assert warning.message.endswith("skip rate, loss, delay of links 1-2, 2-3")
    mixed = "nodes: {2: {operating_mode: normal}}\n"
    assert topology.loads(text + emulated + mixed).warnings == ()


def test_an_uplink_that_no_other_node_has_a_route_to() -> None:
    alone = (
        "n_nodes: 2\nlinks: [{endpoints: [1, 2]}]\nrouting: {protocol: none}\nnodes: {2: {uplink: true}}\n"
    )
    assert [each.id for each in topology.loads(alone).warnings] == ["topology.uplink-unreached"]
    assert topology.loads(alone.replace("none", "shortest_path")).warnings == ()
