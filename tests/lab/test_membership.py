"""Test that nodes and links are added to topologies and taken out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator import topology
from orchestrator.errors import NmError, UsageError
from orchestrator.lab.membership import (
    NewLink,
    new_link,
    with_link,
    with_node,
    without_link,
    without_nodes,
)

RING = topology.loads("topology: {type: ring, n_nodes: 4}\ndefaults: {node: {mtu: 1400}}\n")
USED = topology.loads(
    "n_nodes: 3\nlinks: [{endpoints: [1, 2]}, {endpoints: [2, 3]}, {endpoints: [1, 3]}]\n"
    "routes: [{from: 1, to: 3, path: [1, 2, 3]}, {from: 3, to: 1, path: [3, 1]}]\n"
    "flows: [{from: 1, to: 3, bytes: 1 KB, route: [1, 2, 3]}, {from: 2, to: 3, bytes: 1 KB}]\n"
    "services: {s: {nodes: '2', command: sleep 9}, t: {nodes: '1-2', command: sleep 9, depends_on: [s]}}\n"
    "tests: [{name: all, reach: all}, {name: one, from: 1, to: 2, loss: {max: 1 %}}]\n"
)


def test_a_new_node_has_the_first_free_number_and_what_all_have_alike() -> None:
    grown, number = with_node(RING, name="new", links=[new_link("1, delay=5 ms ,loss=1 %"), NewLink(3)])
    assert number == 5 and grown.nodes[5].mtu == 1400 and grown.nodes[5].name == "new"
    link = next(each for each in grown.links if (each.a, each.b) == (1, 5))
    assert link.forward == link.backward and link.forward.delay_us == 5000
    gap = without_nodes(RING, [2])
    assert list(gap.nodes) == [1, 3, 4] and [(x.a, x.b) for x in gap.links] == [(1, 4), (3, 4)]
    again, number = with_node(gap, links=[NewLink(1), NewLink(3)])
    assert number == 2 and topology.dump(again) == topology.dump(RING)


def test_a_lab_with_the_routes_of_a_function_is_changed_by_its_file_alone(tmp_path: Path) -> None:
    (tmp_path / "ways.py").write_text("def ways(topology):\n    return [[1, 2, 3]]\n")
    file = tmp_path / "lab.yaml"
    file.write_text("topology: {type: ring, n_nodes: 4}\nrouting: {function: 'ways.py:ways'}\n")
    # As the lab keeps it, without the file and the function.
    kept = topology.loads(topology.dump(topology.load(file)))
    for change in (
        lambda: with_node(kept),
        lambda: with_link(kept, 1, 3, {}),
        lambda: without_link(kept, 3, 4),
        lambda: without_nodes(kept, [4]),
    ):
        with pytest.raises(UsageError, match=r"those of `ways.py:ways`") as caught:
            change()
        assert caught.value.id == "lab.routing-function" and "`nm up FILE`" in str(caught.value.hint)


def test_the_direction_of_a_link_is_from_its_first_end() -> None:
    values = {"rate": "1 Mbit"}
    assert with_link(RING, 3, 1, values).links[1].forward.rate_bps == 1_000_000
    up = with_link(RING, 3, 1, {"profile": "dsl"}).links[1]
    down = with_link(RING, 1, 3, {"profile": "dsl"}).links[1]
    assert (up.forward, up.backward) == (down.backward, down.forward) and up.forward != up.backward


def test_what_needs_a_node_is_named_and_goes_with_it_only_by_force() -> None:
    with pytest.raises(UsageError) as refused:
        without_nodes(USED, [2])
    assert "node 2 is in use: the route 1 → 3, the flow 1 → 3, the flow 2 → 3, the service s" in str(
        refused.value
    )
    left = without_nodes(USED, [2], force=True)
    assert [each.path for each in left.routes] == [(3, 1)] and left.flows == ()
    assert [(each.name, each.nodes, dict(each.depends_on)) for each in left.services] == [("t", (1,), {})]
    assert [each.name for each in left.tests] == ["all"] and left.tests[0].sources == (1, 3)


def test_a_link_under_a_route_is_removed_only_by_force_with_flows_on_it() -> None:
    with pytest.raises(UsageError, match="link 2–3 is in use: the route 1 → 3 needs it"):
        without_link(USED, 2, 3)
    left = without_link(USED, 2, 3, force=True)
    assert [each.path for each in left.routes] == [(3, 1)]
    assert [(each.src, each.dst) for each in left.flows] == [(2, 3)]


@pytest.mark.parametrize(
    ("do", "id"),
    [
        (lambda: with_node(RING, 3), "node.exists"),
        (lambda: with_node(RING, 0), "node.number"),
        (lambda: with_node(RING, 5000), "node.number"),
        (lambda: with_node(RING, name="all"), "node.name"),
        (lambda: with_node(RING, name="node-2"), "node.name"),
        (lambda: with_node(RING, name="a b"), "node.name"),
        (lambda: with_node(RING, links=[NewLink(9)]), "selector.invalid"),
        (lambda: with_node(RING, links=[NewLink(1), NewLink("node-1")]), "link.exists"),
        (lambda: with_node(RING, links=[NewLink("1-2")]), "node.ambiguous"),
        (lambda: with_link(RING, 1, 1, {}), "link.to-itself"),
        (lambda: with_link(RING, 1, 2, {}), "link.exists"),
        (lambda: with_link(RING, 1, 3, {"delay": "soon"}), "link.invalid"),
        (lambda: without_link(RING, 1, 3), "link.unknown"),
        (lambda: without_nodes(RING, [1, 2, 3, 4]), "node.last"),
        (lambda: new_link("1,delay"), "link.option"),
        (lambda: new_link(",delay=3 ms"), "link.option"),
    ],
)
def test_what_cannot_be_is_refused_by_name(do: Any, id: str) -> None:
    with pytest.raises(NmError) as refused:
        do()
    assert refused.value.id == id


def test_a_topology_with_a_trace_is_read_again_as_any_other(tmp_path: Path) -> None:
    """A test of all nodes finds those that are left, and what the new lab cannot be is refused."""
    (tmp_path / "down.csv").write_text("time_s,rate\n0,1 Mbit\n1,2 Mbit\n")
    (tmp_path / "lab.yaml").write_text(
        "name: traced\nn_nodes: 3\nlinks: [{endpoints: [1, 2], trace: down.csv}, {endpoints: [1, 3]}]\n"
        "tests: [{name: all, reach: all}]\n"
    )
    meant = topology.load(tmp_path / "lab.yaml")
    left = without_nodes(meant, [3])
    assert left.tests[0].sources == (1, 2) and left.file == meant.file
    assert left.links == meant.links[:1]
