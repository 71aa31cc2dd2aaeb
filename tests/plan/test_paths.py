"""Test the k shortest paths and paths that share no link, against a search of all paths."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

from orchestrator import plan, topology
from orchestrator.errors import UsageError
from orchestrator.plan.paths import Graph, Path, computed_routes, disjoint_paths, shortest_paths


def length(graph: Graph, path: Path) -> int:
    return sum(graph[a][b] for a, b in pairwise(path))


def every_path(graph: Graph, path: Path, dst: int) -> Iterator[Path]:
    if path[-1] == dst:
        yield path
        return
    for near in graph[path[-1]]:
        if near not in path:
            yield from every_path(graph, (*path, near), dst)


def random_graph(seed: int, nodes: int) -> Graph:
    draw = random.Random(seed)
    graph: dict[int, dict[int, int]] = {node: {} for node in range(1, nodes + 1)}
    for a, b in combinations(graph, 2):
        if draw.random() < 0.45:
            graph[a][b], graph[b][a] = draw.randint(1, 9), draw.randint(1, 9)
    return graph


def links(path: Path) -> set[frozenset[int]]:
    return {frozenset(edge) for edge in pairwise(path)}


@pytest.mark.parametrize("seed", range(40))
def test_paths_are_those_that_a_search_of_all_finds(seed: int) -> None:
    graph = random_graph(seed, 7)
    everything = sorted(length(graph, path) for path in every_path(graph, (1,), 7))
    for count in (1, 2, 5, 200):
        found = shortest_paths(graph, 1, 7, count)
        assert [length(graph, path) for path in found] == everything[:count]
        assert len(set(found)) == len(found)
        assert all(len(set(path)) == len(path) for path in found)


@pytest.mark.parametrize("seed", range(40))
def test_paths_that_share_no_link_are_as_many_and_as_short_as_there_can_be(seed: int) -> None:
    graph = random_graph(seed, 6)
    everything = list(every_path(graph, (1,), 6))
    for count in (1, 2, 3):
        groups = [
            group
            for group in combinations(everything, count)
            if all(not links(a) & links(b) for a, b in combinations(group, 2))
        ]
        found = disjoint_paths(graph, 1, 6, count)
        assert all(not links(a) & links(b) for a, b in combinations(found, 2))
        assert (len(found) == count) == bool(groups)
        if groups:
            best = min(sum(length(graph, path) for path in group) for group in groups)
            assert sum(length(graph, path) for path in found) == best


def test_the_shortest_path_may_not_cut_off_the_second() -> None:
    """Of the trap 1-2-3-4 with the ways 1-3 and 2-4 beside it, the short path in the middle is not taken."""
    graph = {1: {2: 1, 3: 5}, 2: {1: 1, 3: 1, 4: 5}, 3: {1: 5, 2: 1, 4: 1}, 4: {2: 5, 3: 1}}
    assert shortest_paths(graph, 1, 4, 1) == [(1, 2, 3, 4)]
    assert disjoint_paths(graph, 1, 4, 2) == [(1, 2, 4), (1, 3, 4)]


def test_nodes_that_cannot_be_reached_have_no_paths() -> None:
    graph: Graph = {1: {2: 1}, 2: {1: 1}, 3: {}}
    assert shortest_paths(graph, 1, 3, 2) == disjoint_paths(graph, 1, 3, 2) == []


def read(routing: str, rest: str = "topology: {type: ring, n_nodes: 4}") -> topology.Topology:
    return topology.loads(f"{rest}\nrouting: {routing}\n")


def test_every_pair_has_its_paths_equal_ones_included() -> None:
    found = computed_routes(read("{paths: 3}"))
    of_pair = [route.path for route in found if (route.src, route.dst) == (1, 3)]
    assert of_pair == [(1, 2, 3), (1, 4, 3)]
    assert len(found) == 24 and all(route.computed and route.weight == 1 for route in found)
    assert computed_routes(read("{paths: 1}")) == ()


def test_routes_of_the_file_are_kept_and_no_others_are_computed_for_their_pair() -> None:
    lab = read(
        "{paths: 2}", "topology: {type: ring, n_nodes: 4}\nroutes: [{from: 1, to: 3, path: [1, 2, 3]}]"
    )
    assert not any((route.src, route.dst) == (1, 3) for route in computed_routes(lab))
    routes = plan.build(lab).controller.routes
    assert routes[0].path == (1, 2, 3) and not routes[0].computed and routes[1].computed


def test_a_metric_decides_what_is_short() -> None:
    text = (
        "n_nodes: 3\nlinks:\n"
        "  - {endpoints: [1, 2], delay: 30 ms, rate: 1 Gbit}\n"
        "  - {endpoints: [1, 3], delay: 5 ms, rate: 10 Mbit}\n"
        "  - {endpoints: [3, 2], delay: 5 ms, rate: 10 Mbit}"
    )

    def first(metric: str) -> Path | None:
        routes = computed_routes(read(f"{{metric: {metric}, paths: 2}}", text))
        return next(route.path for route in routes if (route.src, route.dst) == (1, 2))

    assert first("hops") == first("inverse_rate") == (1, 2)
    assert first("delay") == (1, 3, 2)


def test_too_many_routes_are_refused() -> None:
    with pytest.raises(UsageError, match="up to 159200 routes"):
        computed_routes(read("{paths: 4}", "topology: {type: ring, n_nodes: 200}"))
