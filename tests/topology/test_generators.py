"""Test the generators."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.topology.generators import GENERATORS, Shape

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
)


@given(PARAMS, st.integers(0, 2**32))
def test_every_shape_is_sound(case: tuple[str, dict[str, int]], seed: int) -> None:
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


def test_another_seed_is_another_random_graph() -> None:
    params = {"n_nodes": 50, "degree": 4}
    make = GENERATORS["random"].make
    assert len({make(params, seed).edges for seed in range(20)}) == 20


def test_a_random_graph_is_the_same_on_every_machine() -> None:
    edges = GENERATORS["random"].make({"n_nodes": 8, "degree": 3}, 7).edges
    assert edges == RANDOM_8_3_7


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


RANDOM_8_3_7 = (
    (1, 2),
    (1, 5),
    (1, 7),
    (2, 4),
    (2, 7),
    (3, 4),
    (3, 6),
    (3, 8),
    (4, 6),
    (5, 7),
    (5, 8),
    (6, 8),
)
