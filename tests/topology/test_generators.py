"""Test the generators."""

from __future__ import annotations

from collections import Counter
from math import dist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import topology
from orchestrator.errors import UsageError
from orchestrator.topology.generators import GENERATORS
from orchestrator.topology.random_shapes import waxman_points
from orchestrator.topology.shape import Shape

PARAMS = st.one_of(
    st.tuples(st.just("full_mesh"), st.fixed_dictionaries({"n_nodes": st.integers(2, 30)})),
    st.tuples(st.just("ring"), st.fixed_dictionaries({"n_nodes": st.integers(3, 60)})),
    st.tuples(st.just("star"), st.fixed_dictionaries({"n_nodes": st.integers(2, 60)})),
    st.tuples(st.just("line"), st.fixed_dictionaries({"n_nodes": st.integers(2, 60)})),
    st.tuples(
        st.just("tree"), st.fixed_dictionaries({"n_nodes": st.integers(2, 60), "arity": st.integers(1, 6)})
    ),
    st.tuples(st.just("fat_tree"), st.fixed_dictionaries({"k": st.sampled_from([2, 4, 6, 8])})),
    st.tuples(st.just("torus"), st.fixed_dictionaries({"dim": st.integers(1, 3), "n": st.integers(2, 5)})),
    st.integers(3, 40).flatmap(
        lambda n: st.tuples(
            st.just("random"), st.fixed_dictionaries({"n_nodes": st.just(n), "degree": st.integers(2, n - 1)})
        )
    ),
    st.tuples(
        st.just("dumbbell"), st.fixed_dictionaries({"left": st.integers(1, 20), "right": st.integers(1, 20)})
    ),
    st.tuples(
        st.just("clos"),
        st.fixed_dictionaries(
            {"leaves": st.integers(2, 6), "spines": st.integers(1, 6), "hosts": st.integers(0, 6)}
        ),
    ),
    st.tuples(
        st.just("waxman"),
        st.fixed_dictionaries(
            {"n_nodes": st.integers(2, 40), "alpha": st.floats(0.001, 1), "beta": st.floats(0.001, 1)}
        ),
    ),
    st.integers(2, 40).flatmap(
        lambda n: st.tuples(
            st.just("barabasi_albert"),
            st.fixed_dictionaries({"n_nodes": st.just(n), "m": st.integers(1, n - 1)}),
        )
    ),
)


@given(PARAMS, st.integers(0, 2**32))
def test_every_shape_is_sound(case: tuple[str, dict[str, Any]], seed: int) -> None:
    name, params = case
    kind = GENERATORS[name]
    shape = kind.make(params, seed)
    nodes, most_links = kind.count(params)
    assert shape.n == nodes
    assert len(shape.edges) <= most_links
    assert list(shape.edges) == sorted(set(shape.edges))
    assert all(1 <= a < b <= nodes for a, b in shape.edges)
    assert _reached(shape) == set(range(1, nodes + 1))
    assert kind.make(params, seed) == shape
    assert not shape.tiers or shape.tiers.keys() == set(range(1, nodes + 1))


@pytest.mark.parametrize(
    ("name", "params", "edges"),
    [
        ("ring", {"n_nodes": 4}, [(1, 2), (1, 4), (2, 3), (3, 4)]),
        ("line", {"n_nodes": 3}, [(1, 2), (2, 3)]),
        ("star", {"n_nodes": 4}, [(1, 2), (1, 3), (1, 4)]),
        ("full_mesh", {"n_nodes": 3}, [(1, 2), (1, 3), (2, 3)]),
        ("tree", {"n_nodes": 6, "arity": 2}, [(1, 2), (1, 3), (2, 4), (2, 5), (3, 6)]),
        ("tree", {"n_nodes": 4, "arity": 1}, [(1, 2), (2, 3), (3, 4)]),
        ("torus", {"dim": 1, "n": 3}, [(1, 2), (1, 3), (2, 3)]),
        ("torus", {"dim": 2, "n": 2}, [(1, 2), (1, 3), (2, 4), (3, 4)]),
        ("dumbbell", {"left": 2, "right": 1}, [(1, 2), (1, 3), (1, 4), (2, 5)]),
        ("clos", {"leaves": 2, "spines": 1, "hosts": 1}, [(1, 3), (2, 4), (3, 5), (4, 5)]),
        ("clos", {"leaves": 2, "spines": 2, "hosts": 0}, [(1, 3), (1, 4), (2, 3), (2, 4)]),
        ("barabasi_albert", {"n_nodes": 4, "m": 3}, [(1, 2), (1, 3), (1, 4)]),
    ],
)
def test_small_shapes_by_hand(name: str, params: dict[str, int], edges: list[tuple[int, int]]) -> None:
    assert list(GENERATORS[name].make(params, 1).edges) == edges


@pytest.mark.parametrize("k", [2, 4, 6])
def test_a_fat_tree_has_the_layers_of_the_paper(k: int) -> None:
    shape = GENERATORS["fat_tree"].make({"k": k}, 1)
    tiers = Counter(shape.tiers.values())
    assert tiers == {"host": k**3 // 4, "edge": k * k // 2, "aggregation": k * k // 2, "core": k * k // 4}
    degrees = _degrees(shape)
    assert {degrees[node] for node, tier in shape.tiers.items() if tier == "host"} == {1}
    assert {degrees[node] for node, tier in shape.tiers.items() if tier != "host"} == {k}
    # Every core switch is linked once to every pod.
    for core in (node for node, tier in shape.tiers.items() if tier == "core"):
        below = [a for a, b in shape.edges if b == core]
        assert len({(node - k**3 // 4 - k * k // 2 - 1) // (k // 2) for node in below}) == k


def test_a_fat_tree_of_four_has_36_nodes() -> None:
    shape = GENERATORS["fat_tree"].make({"k": 4}, 1)
    assert (shape.n, len(shape.edges)) == (36, 48)


@given(st.integers(1, 3), st.integers(3, 6))
def test_every_node_of_a_torus_has_two_links_a_dimension(dim: int, side: int) -> None:
    shape = GENERATORS["torus"].make({"dim": dim, "n": side}, 1)
    assert set(_degrees(shape).values()) == {2 * dim}


@given(st.integers(3, 40), st.data(), st.integers(0, 2**32))
def test_a_random_graph_has_the_degree_it_was_asked_for(n: int, data: st.DataObject, seed: int) -> None:
    degree = data.draw(st.integers(2, n - 1))
    degrees = _degrees(GENERATORS["random"].make({"n_nodes": n, "degree": degree}, seed))
    missing = [degree - degrees[node] for node in range(1, n + 1)]
    assert sorted(missing)[-1] == sum(missing) == (n * degree) % 2


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("random", {"n_nodes": 50, "degree": 4}),
        ("waxman", {"n_nodes": 50, "alpha": 0.2, "beta": 0.4}),
        ("barabasi_albert", {"n_nodes": 50, "m": 2}),
    ],
)
def test_another_seed_is_another_graph(name: str, params: dict[str, Any]) -> None:
    kind = GENERATORS[name]
    assert kind.seeded
    assert len({kind.make(params, seed).edges for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("name", "params", "edges"),
    [
        ("random", {"n_nodes": 8, "degree": 3}, "12 15 17 24 27 34 36 38 46 57 58 68"),
        ("waxman", {"n_nodes": 6, "alpha": 0.3, "beta": 0.9}, "12 15 24 26 34"),
        ("barabasi_albert", {"n_nodes": 7, "m": 2}, "12 13 14 15 16 24 35 37 47 56"),
    ],
)
def test_a_drawn_graph_is_the_same_on_every_machine(name: str, params: dict[str, Any], edges: str) -> None:
    drawn = GENERATORS[name].make(params, 7).edges
    assert " ".join(f"{a}{b}" for a, b in drawn) == edges


def test_tiers_of_a_dumbbell_and_a_clos_network_serve_as_selectors() -> None:
    dumbbell = topology.loads("topology: {type: dumbbell, left: 2, right: 3}")
    assert topology.select(dumbbell, "tier=router") == (1, 2)
    assert topology.select(dumbbell, "tier=left") == (3, 4)
    assert topology.select(dumbbell, "tier=right") == (5, 6, 7)
    clos = topology.loads("topology: {type: clos, leaves: 3, spines: 2, hosts: 2}")
    assert topology.select(clos, "tier=host") == tuple(range(1, 7))
    assert topology.select(clos, "tier=leaf") == (7, 8, 9)
    assert topology.select(clos, "tier=spine") == (10, 11)


@given(st.integers(0, 2**32))
def test_links_of_a_waxman_graph_are_shorter_than_those_of_a_graph_without_regard_to_distance(
    seed: int,
) -> None:
    n = 60
    points = waxman_points(n, seed)
    every = [dist(points[a], points[b]) for a in points for b in points if a < b]
    edges = GENERATORS["waxman"].make({"n_nodes": n, "alpha": 0.1, "beta": 1.0}, seed).edges
    linked = [dist(points[a], points[b]) for a, b in edges]
    assert sum(linked) / len(linked) < 0.6 * sum(every) / len(every)


def test_more_alpha_and_more_beta_are_more_links() -> None:
    def links(alpha: float, beta: float) -> int:
        make = GENERATORS["waxman"].make
        return sum(len(make({"n_nodes": 40, "alpha": alpha, "beta": beta}, seed).edges) for seed in range(20))

    assert links(0.1, 0.4) < links(0.2, 0.4) < links(0.2, 0.8)


def test_without_drawn_links_a_waxman_graph_is_its_shortest_spanning_tree() -> None:
    points = waxman_points(12, 3)
    edges = GENERATORS["waxman"].make({"n_nodes": 12, "alpha": 0.001, "beta": 0.001}, 3).edges
    assert len(edges) == 11
    # Prim's algorithm, as a reference.
    inside, length = {1}, 0.0
    while len(inside) < 12:
        d, new = min((dist(points[a], points[b]), b) for a in inside for b in points if b not in inside)
        inside.add(new)
        length += d
    assert sum(dist(points[a], points[b]) for a, b in edges) == pytest.approx(length)


def test_a_barabasi_albert_graph_has_hubs() -> None:
    """The largest degree grows with the root of n; in a graph with links at random it is near the mean."""
    degrees = _degrees(GENERATORS["barabasi_albert"].make({"n_nodes": 1000, "m": 2}, 1))
    assert sum(degrees.values()) == 2 * 2 * 998
    assert max(degrees.values()) > 30
    assert min(degrees.values()) >= 1


@pytest.mark.parametrize(
    ("type", "params", "words"),
    [
        ("clos", {"spines": 2}, "needs the key `leaves`"),
        ("dumbbell", {"left": 0, "right": 1}, "left is `0`, but at least 1"),
        ("waxman", {"n_nodes": 5, "alpha": 0.0}, "alpha is `0.0`, but at least 0.001"),
        ("waxman", {"n_nodes": 5, "beta": 2.0}, "beta is `2.0`, but at most 1"),
        ("barabasi_albert", {"n_nodes": 4, "m": 4}, "only 3 other nodes"),
        ("barabasi_albert", {"n_nodes": 4, "left": 4}, "unknown key `left`"),
    ],
)
def test_parameters_are_checked(type: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        topology.generate(type, **params)
    assert words in caught.value.message
    assert str(caught.value.place) == f"nm generate {type}"


def _degrees(shape: Shape) -> Counter[int]:
    return Counter(node for edge in shape.edges for node in edge)


def _reached(shape: Shape) -> set[int]:
    beside: dict[int, set[int]] = {}
    for a, b in shape.edges:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    reached, todo = {1}, [1]
    while todo:
        new = beside.get(todo.pop(), set()) - reached
        reached |= new
        todo += new
    return reached
