"""Test the order in which the nodes of a route change, with packets that are under way all the time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from orchestrator.controller.explicit_routes import ExplicitRoutes
from orchestrator.controller.route_steps import steps
from orchestrator.controller.routing import children
from orchestrator.protocol.messages import Route
from orchestrator.store import RouteRow

LINKS = {(1, 2), (2, 3), (3, 4), (1, 4), (2, 4)}
EVERYTHING = frozenset(pair for a, b in LINKS for pair in ((a, b), (b, a)))


def parts(*path: int, weight: float = 1.0) -> dict[int, Route]:
    if not path:
        return {}
    edges = children(pairwise(path))
    return {node: Route(7, path[0], path[-1], hops, weight) for node, hops in edges.items()}


def order(old: dict[int, Route], new: dict[int, Route]) -> list[tuple[list[int], bool]]:
    return [(sorted(step.parts), step.waits) for step in steps(old, new)]


def test_a_new_route_comes_to_its_source_last_and_one_that_goes_leaves_it_first() -> None:
    assert order({}, parts(1, 2, 3, 4)) == [([2, 3], False), ([1], True)]
    assert order(parts(1, 2, 3, 4), {}) == [([1], False), ([2, 3], True)]
    assert order({}, {}) == order(parts(1, 2), parts(1, 2)) == []


def test_nodes_of_both_ways_change_from_the_end() -> None:
    assert order(parts(1, 2, 3, 4, 9), parts(1, 3, 2, 5, 9)) == [
        ([5], False),
        ([2], True),
        ([3], True),
        ([1], True),
        ([4], True),
    ]


def test_a_weight_changes_at_once_and_another_pair_is_another_route() -> None:
    assert order(parts(1, 2, 3), parts(1, 2, 3, weight=4)) == [([1, 2], False)]
    assert order(parts(1, 2, 3), parts(2, 3, 4)) == [([1], False), ([2], True), ([3], False), ([2], True)]


@pytest.mark.parametrize("seed", range(200))
def test_at_every_time_a_packet_at_any_node_of_a_route_arrives(seed: int) -> None:
    """The nodes of one step change in any order; a packet that has entered goes on as the nodes are then."""
    chance = random.Random(seed)
    middle = list(range(2, 9))
    ways = [(1, *chance.sample(middle, chance.randint(1, 6)), 9) for _ in range(2)]
    old, new = parts(*ways[0]), parts(*ways[1])
    now = dict(old)
    for step in steps(old, new):
        changes = list(step.parts.items())
        chance.shuffle(changes)
        for node, part in changes:
            if part is None:
                now.pop(node)
            else:
                now[node] = part
            here, seen = 1, [1]
            while here != 9:
                here = now[here].next_hops[0]
                assert here not in seen, (ways, seen)
                seen.append(here)
    assert now == new


def under_way(*rows: RouteRow) -> ExplicitRoutes:
    explicit = ExplicitRoutes()
    explicit.set_carrying(EVERYTHING)
    explicit.answers = lambda node: node != 4  # which does not answer
    assert explicit.change({row.route_id: row for row in rows}, LINKS, {}) is not None
    return explicit


def test_each_step_waits_for_the_nodes_that_answer() -> None:
    explicit = under_way(RouteRow(7, 1, 3, ((1, 2), (2, 4), (4, 3))))
    assert (list(explicit.awaited), explicit.awaited_by(7), list(explicit.changing)) == ([2], {2}, [7])
    assert explicit.of_node(2).keys() == explicit.of_node(4).keys() == {7} and not explicit.of_node(1)
    assert explicit.confirmed([2]) == {1} and explicit.of_node(1).keys() == {7}
    assert explicit.confirmed([1]) == set() and not explicit.changing and explicit.awaited_by(7) is None
    assert explicit.change({7: None}, LINKS, {}) == {1}
    assert explicit.of_node(2).keys() == {7}
    assert explicit.confirmed([1]) == {2, 4} and explicit.confirmed([2]) == set()
    assert not explicit.changing and not explicit.awaited


def test_a_route_that_dies_leaves_its_source_at_once_whatever_is_waited_for() -> None:
    explicit = under_way(RouteRow(7, 1, 3, ((1, 2), (2, 3))), RouteRow(8, 1, 3, ((1, 4), (4, 3))))
    explicit.confirmed([1, 2])
    explicit.confirmed([1])
    moved = RouteRow(7, 1, 3, ((1, 2), (2, 4), (4, 3)))
    assert explicit.change({7: moved}, LINKS, {}) == {4, 2}
    assert explicit.awaited_by(7) == {2}
    assert explicit.set_carrying(EVERYTHING - {(1, 2)}) == {1}
    assert explicit.of_node(1).keys() == {8} and explicit.awaited_by(7) == {1, 2}
    explicit.set_carrying(EVERYTHING)
    # Node 2 has still to confirm what it was sent before: the source waits for that as well.
    assert explicit.of_node(1).keys() == {8} and explicit.awaited_by(7) == {1, 2}
    assert explicit.confirmed([1]) == set() and explicit.confirmed([2]) == {1}
    assert explicit.of_node(1).keys() == {7, 8}


def test_a_step_waits_for_a_node_that_confirms_another_route_at_the_same_time() -> None:
    links = {(1, 2), (2, 3), (3, 4), (1, 5), (2, 5), (2, 4)}
    explicit = ExplicitRoutes()
    explicit.set_carrying(frozenset(pair for a, b in links for pair in ((a, b), (b, a))))
    explicit.change({7: RouteRow(7, 1, 4, ((1, 2), (2, 3), (3, 4)))}, links, {})
    explicit.answers = lambda _node: True
    moved = RouteRow(7, 1, 4, ((1, 5), (5, 2), (2, 4)))
    other = RouteRow(8, 3, 1, ((3, 2), (2, 1)))
    assert explicit.change({7: moved, 8: other}, links, {}) == {2, 5}
    assert (explicit.awaited_by(7), explicit.awaited_by(8)) == ({5}, {2})
    assert explicit.confirmed([5, 2]) == {2, 3}
    assert explicit.awaited_by(7) == {2}, "relay 2 has been sent its part of route 7 only now"
    assert explicit.confirmed([2]) == {1}
