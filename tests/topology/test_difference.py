"""Test the difference between two topologies."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import topology
from orchestrator.topology import Topology
from orchestrator.topology.difference import difference

NODES = st.sets(st.integers(1, 6), min_size=1)
LINK = st.sampled_from(["", "delay: 5 ms", "rate: 1 Mbit, loss: 1 %", "forward: {delay: 9 ms}", "down: true"])


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Topologies of up to six nodes, with any of what a file may have."""
    numbers = sorted(draw(NODES))
    pairs = [(a, b) for a in numbers for b in numbers if a < b]
    links = draw(st.lists(st.tuples(st.sampled_from(pairs), LINK), unique_by=lambda x: x[0])) if pairs else []
    without = [n for n in range(1, max(numbers)) if n not in numbers]
    lines = [f"name: {draw(st.sampled_from(['one', 'two']))}", f"n_nodes: {max(numbers)}"]
    lines += [f"seed: {draw(st.integers(1, 2))}", f"without: {without}", "nodes:"]
    for n in numbers:
        keys = draw(st.sampled_from(["", "mtu: 1400", "labels: {tier: core}", "name: n%d"]))
        lines.append(f"  {n}: {{{keys.replace('%d', str(n))}}}")
    if links:
        lines += ["links:", *(f"  - {{endpoints: [{a}, {b}], {spec}}}" for (a, b), spec in links)]
        routes = draw(st.lists(st.sampled_from([pair for pair, _ in links]), unique=True))
        if routes:
            lines += ["routes:", *(f"  - {{from: {a}, to: {b}, path: [{a}, {b}]}}" for a, b in routes)]
    if pairs and draw(st.booleans()):
        a, b = draw(st.sampled_from(pairs))
        lines += ["flows:", f"  - {{from: {a}, to: {b}, bytes: 1 KB, count: {draw(st.integers(1, 2))}}}"]
    if len(numbers) > 1 and draw(st.booleans()):
        lines += ["tests: [{name: all, reach: all}]"]
    return topology.loads("\n".join(lines) + "\n")


@given(topologies(), topologies())
def test_a_difference_makes_the_second_of_the_first(before: Topology, after: Topology) -> None:
    found = difference(before, after)
    assert found.apply(before) == after
    assert bool(found) == (before != after)
    assert difference(after, before).apply(after) == before
    entries = found.entries()
    assert bool(entries) == bool(found)
    assert len({(each.kind, each.do, each.what) for each in entries}) <= len(entries)
    for entry in entries:
        assert entry.as_json()["what"] and (entry.do != "change" or entry.keys or entry.kind != "node")


@given(topologies())
def test_a_topology_does_not_differ_from_itself_as_it_is_written(one: Topology) -> None:
    assert not difference(one, topology.loads(topology.dump(one)))


def entries(before: str, after: str) -> list[tuple[str, str, str, dict[str, Any], bool]]:
    found = difference(topology.loads(before), topology.loads(after)).entries()
    return [(each.kind, each.do, each.what, dict(each.keys), each.live) for each in found]


def test_what_differs_is_named_by_key_and_what_cannot_change_live_is_marked() -> None:
    before = "n_nodes: 3\nlinks: [{endpoints: [1, 2], delay: 5 ms}, {endpoints: [2, 3]}]\n"
    after = (
        "n_nodes: 4\nseed: 2\nnodes: {1: {mtu: 1400}, 2: {labels: {tier: core}}, 4: {name: new}}\n"
        "links: [{endpoints: [1, 2], forward: {delay: 6 ms, loss: 1 %}, backward: {delay: 5 ms}}]\n"
        "routes: [{from: 1, to: 2, path: [1, 2]}]\n"
    )
    assert entries(before, after) == [
        ("node", "change", "node 1", {"mtu": (None, 1400)}, False),
        ("node", "change", "node 2", {"labels": (None, {"tier": "core"})}, True),
        ("node", "add", "node 4 (new)", {}, True),
        (
            "link",
            "change",
            "link 1–2",
            {"delay 1 → 2": ("5 ms", "6 ms"), "loss 1 → 2": (None, "1 %")},
            True,
        ),
        ("link", "remove", "link 2–3", {}, True),
        ("route", "add", "route {from: 1, to: 2, path: [1, 2]}", {}, True),
        ("lab", "change", "seed", {"seed": (1, 2)}, False),
    ]


def test_a_change_of_both_directions_alike_is_said_once() -> None:
    before, after = (f"n_nodes: 2\nlinks: [{{endpoints: [1, 2], delay: {ms} ms}}]\n" for ms in (5, 7))
    assert entries(before, after) == [("link", "change", "link 1–2", {"delay": ("5 ms", "7 ms")}, True)]


def test_the_order_of_routes_alone_is_a_change() -> None:
    text = "n_nodes: 3\nlinks: [{endpoints: [1, 2]}, {endpoints: [2, 3]}]\nroutes: [%s, %s]\n"
    one, two = "{from: 1, to: 2, path: [1, 2]}", "{from: 2, to: 3, path: [2, 3]}"
    assert entries(text % (one, two), text % (two, one)) == [
        ("route", "change", "the order of the routes", {}, True)
    ]


def test_a_node_with_an_uplink_or_networks_behind_it_does_not_come_or_go_while_the_lab_runs() -> None:
    two = topology.loads("n_nodes: 2\n")
    for keys in ("prefixes: [192.168.50.0/24]", "uplink: true"):
        three = topology.loads(f"n_nodes: 3\nnodes:\n  3: {{{keys}}}\n")
        for before, after in ((two, three), (three, two)):
            found = difference(before, after).entries()
            assert [each.live for each in found if each.kind == "node"] == [False]
