"""Test the routes to the outside: every node's next hop to its nearest uplink."""

from __future__ import annotations

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.controller.groups import Groups
from orchestrator.controller.lab import Lab
from orchestrator.controller.outside import with_outside
from orchestrator.controller.registry import Link, Node, NodeStates, Registry
from orchestrator.controller.routing import next_hop_tables
from orchestrator.protocol import messages as m


def first_entries(tables: dict[int, bytes]) -> dict[int, int]:
    """The next hop to the outside by node."""
    return {node: struct.unpack_from("<I", table)[0] for node, table in tables.items()}


@st.composite
def labs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], set[int], set[int], set[tuple[int, int]]]:
    """Nodes, links, those alive, those with an uplink, and blocked directions."""
    n = draw(st.integers(1, 9))
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1)]
    links = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    alive = draw(st.sets(st.integers(1, n)))
    uplinks = draw(st.sets(st.integers(1, n), max_size=3))
    ways = [way for a, b in links for way in ((a, b), (b, a))]
    blocked = draw(st.sets(st.sampled_from(ways), max_size=4)) if ways else set()
    return n, links, alive, uplinks, blocked


@settings(deadline=None)  # a busy machine is no failure
@given(labs(), st.booleans(), st.integers(0, 2**32))
def test_every_way_ends_at_a_nearest_uplink(
    lab: tuple[int, list[tuple[int, int]], set[int], set[int], set[tuple[int, int]]],
    weighted: bool,
    seed: int,
) -> None:
    n, links, alive, uplinks, blocked = lab
    draw = random.Random(seed)
    both = [way for a, b in links for way in ((a, b), (b, a))]
    lengths = {way: draw.randint(1, 9) for way in both} if weighted else None
    tables = next_hop_tables(range(1, n + 1), links, alive, blocked, lengths)
    after = with_outside(tables, uplinks, links, alive, blocked, lengths)
    assert {node: table[4:] for node, table in after.items()} == {n: t[4:] for n, t in tables.items()}
    hops = first_entries(after)
    steps = {way: lengths[way] if lengths else 1 for way in set(both) - blocked}
    distance = dict.fromkeys(uplinks & alive, 0)
    for _ in range(n):  # Bellman and Ford
        for (start, end), step in steps.items():
            if {start, end} <= alive and end in distance:
                distance[start] = min(distance.get(start, 10**6), distance[end] + step)
    for node in range(1, n + 1):
        if distance.get(node, 0) == 0:
            assert hops[node] == 0
        else:  # with equal distances the next hop may be one to another uplink, but it is always nearer
            assert distance[hops[node]] <= distance[node] - steps[node, hops[node]]


def test_the_outside_moves_to_another_uplink_when_one_is_gone() -> None:
    registry = Registry([Node(n, f"n{n}") for n in range(1, 6)], [Link(n, n + 1) for n in range(1, 5)])
    lab = Lab(registry, Groups(), uplinks=[1, 5], was_ready=True)
    for node in range(1, 6):
        lab.register(node, m.StartUp("lab", "h:1", process=7 + node), node)
    for a, b in [(n, n + 1) for n in range(1, 5)]:
        lab.link_state(a, b, True)
        lab.link_state(b, a, True)

    def hops() -> dict[int, int]:
        lab.flush()
        return first_entries({node: wanted.table for node, wanted in lab.wanted_routes.items()})

    assert hops() == {1: 0, 2: 1, 3: 2, 4: 5, 5: 0}
    lab.disconnect(1)
    assert lab.mark_unreachable(registry.node(1), NodeStates.UNREACHABLE)
    assert {node: hop for node, hop in hops().items() if node > 1} == {2: 3, 3: 4, 4: 5, 5: 0}
