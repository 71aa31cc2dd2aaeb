"""Generate topologies: ring, fat tree, torus and others.

A generator has a table of parameters, a function that counts nodes and links, and one that makes them.
Counting comes first, so that a typing error cannot allocate a million links. Nodes are numbered from 1, links
are pairs `(a, b)` with `a < b`, in order and without repetition, and equal parameters and seeds give equal
links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from math import prod

from orchestrator.fields import Field, Integer, Table

__all__ = ["GENERATORS", "LATER", "GeneratorType", "Shape"]

Edge = tuple[int, int]
Params = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generator makes: `n` nodes, their links, and a `tier` label where the shape has tiers."""

    n: int
    edges: tuple[Edge, ...]
    tiers: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GeneratorType:
    """One kind of generated topology.

    Attributes:
        name: The word behind `type`.
        summary: One line for help and the reference.
        params: The keys beside `type`.
        count: Gives the number of nodes and at most how many links, without making any.
        make: Makes the shape from parameters and the seed.
        check: Gives what is wrong with parameters that are each in range: key, sentence and hint.
    """

    name: str
    summary: str
    params: Mapping[str, Field]
    count: Callable[[Params], tuple[int, int]]
    make: Callable[[Params, int], Shape]
    check: Callable[[Params], tuple[str, str, str] | None] = lambda params: None

    def table(self) -> Table:
        """Return the parameters as a table for reading and for the schema."""
        return Table(f"topology `{self.name}`", self.params)


def _full_mesh(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return _shape(n, combinations(range(1, n + 1), 2))


def _ring(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return _shape(n, ((i, i % n + 1) for i in range(1, n + 1)))


def _line(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return _shape(n, ((i, i + 1) for i in range(1, n)))


def _star(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return _shape(n, ((1, i) for i in range(2, n + 1)), {1: "hub", **dict.fromkeys(range(2, n + 1), "leaf")})


def _tree(params: Params, seed: int) -> Shape:
    """Level by level from node 1, each node with up to `arity` children."""
    n, arity = params["n_nodes"], params["arity"]
    return _shape(n, (((i - 2) // arity + 1, i) for i in range(2, n + 1)))


def _fat_tree(params: Params, seed: int) -> Shape:
    """Hosts first, then edge, aggregation and core switches.

    Source:
        M. Al-Fares, A. Loukissas, A. Vahdat, "A scalable, commodity data center network architecture",
        SIGCOMM 2008: k pods of k/2 edge and k/2 aggregation switches, (k/2)² core switches, k³/4 hosts.
    """
    k = params["k"]
    half = k // 2
    hosts, per_layer = k * half * half, k * half
    edge0, aggregation0, core0 = hosts, hosts + per_layer, hosts + 2 * per_layer
    links: list[Edge] = []
    for pod, i in product(range(k), range(half)):
        switch = pod * half + i
        edge, aggregation = edge0 + switch + 1, aggregation0 + switch + 1
        links += [(switch * half + host + 1, edge) for host in range(half)]
        links += [(edge, aggregation0 + pod * half + j + 1) for j in range(half)]
        # The i-th aggregation switch of every pod meets the i-th row of the core.
        links += [(aggregation, core0 + i * half + j + 1) for j in range(half)]
    n = core0 + half * half
    bounds = ((hosts, "host"), (aggregation0, "edge"), (core0, "aggregation"), (n, "core"))
    tiers = {i: next(name for last, name in bounds if i <= last) for i in range(1, n + 1)}
    return _shape(n, links, tiers)


def _torus(params: Params, seed: int) -> Shape:
    """A grid with `n` nodes a side and joined ends, numbered with the last coordinate running fastest."""
    dim, side = params["dim"], params["n"]
    links: list[Edge] = []
    for place in product(range(side), repeat=dim):
        for axis in range(dim):
            beside = (*place[:axis], (place[axis] + 1) % side, *place[axis + 1 :])
            links.append((_number(place, side), _number(beside, side)))
    return _shape(side**dim, links)


def _number(place: Iterable[int], side: int) -> int:
    number = 0
    for coordinate in place:
        number = number * side + coordinate
    return number + 1


def _random(params: Params, seed: int) -> Shape:
    """A connected graph in which every node has `degree` links, or one node one fewer if it cannot be else.

    The nodes are laid out on a circle in random order and linked to their nearest on it, which gives the
    right degrees. The circle itself is kept, so that the graph is connected; all other links are then
    shuffled by taking two at random and exchanging their ends, which changes no degree.
    """
    import random

    n, degree = params["n_nodes"], params["degree"]
    # Text seeds are hashed by SHA-512, so the stream is the same on every machine and version.
    draw = random.Random(f"{seed}/topology/random")
    order = list(range(1, n + 1))
    draw.shuffle(order)
    circle = [_edge(order[i], order[(i + 1) % n]) for i in range(n)]
    steps = range(2, degree // 2 + 1)
    chords = [_edge(order[i], order[(i + step) % n]) for step in steps for i in range(n)]
    if degree % 2:
        chords += [_edge(order[i], order[i + n // 2]) for i in range(n // 2)]
    present = {*circle, *chords}
    # Ten exchanges a link are enough to forget the circle (R. Milo et al., arXiv:cond-mat/0312028).
    for _ in range(10 * len(chords)):
        i, j = draw.randrange(len(chords)), draw.randrange(len(chords))
        (a, b), (c, d) = chords[i], chords[j]
        if draw.random() < 0.5:
            c, d = d, c
        first, second = _edge(a, c), _edge(b, d)
        if len({a, b, c, d}) == 4 and first not in present and second not in present:
            present -= {chords[i], chords[j]}
            present |= {first, second}
            chords[i], chords[j] = first, second
    return _shape(n, present)


def _shape(n: int, links: Iterable[Edge], tiers: Mapping[int, str] | None = None) -> Shape:
    edges = sorted({_edge(a, b) for a, b in links if a != b})
    return Shape(n, tuple(edges), tiers or {})


def _edge(a: int, b: int) -> Edge:
    return (a, b) if a < b else (b, a)


def _even(params: Params) -> tuple[str, str, str] | None:
    k = params["k"]
    if k % 2 == 0:
        return None
    return "k", f"k is `{k}`, but a fat tree needs an even number", f"write `{k - 1}` or `{k + 1}`"


def _degree_fits(params: Params) -> tuple[str, str, str] | None:
    n, degree = params["n_nodes"], params["degree"]
    if degree < n:
        return None
    hint = f"at most `{n - 1}` is possible"
    return "degree", f"degree is `{degree}`, but there are only {n - 1} other nodes to link to", hint


def _nodes(least: int, help: str = "number of nodes") -> Field:
    return Field(Integer(least, expected="a whole number of nodes"), help, required=True)


def _sized(links: Callable[[int], int]) -> Callable[[Params], tuple[int, int]]:
    return lambda params: (params["n_nodes"], links(params["n_nodes"]))


_ALL = (
    GeneratorType(
        "full_mesh",
        "every pair of nodes is linked",
        {"n_nodes": _nodes(2)},
        _sized(lambda n: n * (n - 1) // 2),
        _full_mesh,
    ),
    GeneratorType("ring", "a cycle", {"n_nodes": _nodes(3)}, _sized(lambda n: n), _ring),
    GeneratorType(
        "star",
        "node 1 is the hub, linked to every other",
        {"n_nodes": _nodes(2, "number of nodes, hub included")},
        _sized(lambda n: n - 1),
        _star,
    ),
    GeneratorType("line", "a chain", {"n_nodes": _nodes(2)}, _sized(lambda n: n - 1), _line),
    GeneratorType(
        "tree",
        "node 1 is the root, levels are filled one after the other",
        {
            "n_nodes": _nodes(2),
            "arity": Field(Integer(1, expected="a whole number"), "children of a node", default=2),
        },
        _sized(lambda n: n - 1),
        _tree,
    ),
    GeneratorType(
        "fat_tree",
        "a data centre: k³/4 hosts under 5k²/4 edge, aggregation and core switches",
        {"k": Field(Integer(2, expected="an even number"), "ports of a switch, even", required=True)},
        lambda params: (params["k"] ** 3 // 4 + 5 * params["k"] ** 2 // 4, 3 * params["k"] ** 3 // 4),
        _fat_tree,
        _even,
    ),
    GeneratorType(
        "torus",
        "a grid of one to three dimensions whose ends are joined",
        {
            "dim": Field(Integer(1, 3, "a number of dimensions"), "dimensions", required=True),
            "n": Field(Integer(2, expected="a whole number of nodes"), "nodes along a side", required=True),
        },
        lambda params: (
            prod([params["n"]] * params["dim"]),
            params["dim"] * prod([params["n"]] * params["dim"]),
        ),
        _torus,
    ),
    GeneratorType(
        "random",
        "a connected graph of nodes with equally many links, drawn from the seed",
        {
            "n_nodes": _nodes(3),
            "degree": Field(Integer(2, expected="a whole number"), "links of a node", required=True),
        },
        lambda params: (params["n_nodes"], params["n_nodes"] * params["degree"] // 2 + 1),
        _random,
        _degree_fits,
    ),
)

GENERATORS: Mapping[str, GeneratorType] = {kind.name: kind for kind in _ALL}

LATER: Mapping[str, str] = {
    "dumbbell": "two stars joined by one link",
    "clos": "leaf and spine switches",
    "waxman": "random links that become rarer with distance",
    "barabasi_albert": "random links that prefer nodes with many",
    "graphml": "a graph from a GraphML file",
}
"""Generators that are planned; they are refused by name."""
