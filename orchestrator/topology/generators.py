"""Generate topologies: ring, fat tree, torus and others.

A generator has a table of parameters, a function that counts nodes and links, and one that makes them.
Counting comes first, so that a typing error cannot allocate a million links. Nodes are numbered from 1, links
are pairs `(a, b)` with `a < b`, in order and without repetition, and equal parameters and seeds give equal
links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Any

from orchestrator.fields import Field, Integer, Number, Table
from orchestrator.topology.random_shapes import barabasi_albert, random_graph, waxman
from orchestrator.topology.shape import Edge, Shape, shape

__all__ = ["GENERATORS", "HINTS", "GeneratorType"]

Params = Mapping[str, Any]


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
        seeded: Whether the links depend on the seed.
    """

    name: str
    summary: str
    params: Mapping[str, Field]
    count: Callable[[Params], tuple[int, int]]
    make: Callable[[Params, int], Shape]
    check: Callable[[Params], tuple[str, str, str] | None] = lambda params: None
    seeded: bool = False

    def table(self) -> Table:
        """Return the parameters as a table for reading and for the schema."""
        return Table(f"topology `{self.name}`", self.params)


def _full_mesh(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return shape(n, combinations(range(1, n + 1), 2))


def _ring(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return shape(n, ((i, i % n + 1) for i in range(1, n + 1)))


def _line(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return shape(n, ((i, i + 1) for i in range(1, n)))


def _star(params: Params, seed: int) -> Shape:
    n = params["n_nodes"]
    return shape(n, ((1, i) for i in range(2, n + 1)), {1: "hub", **dict.fromkeys(range(2, n + 1), "leaf")})


def _tree(params: Params, seed: int) -> Shape:
    """Level by level from node 1, each node with up to `arity` children."""
    n, arity = params["n_nodes"], params["arity"]
    return shape(n, (((i - 2) // arity + 1, i) for i in range(2, n + 1)))


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
    return shape(n, links, tiers)


def _torus(params: Params, seed: int) -> Shape:
    """A grid with `n` nodes a side and joined ends, numbered with the last coordinate running fastest."""
    dim, side = params["dim"], params["n"]
    links: list[Edge] = []
    for place in product(range(side), repeat=dim):
        for axis in range(dim):
            beside = (*place[:axis], (place[axis] + 1) % side, *place[axis + 1 :])
            links.append((_number(place, side), _number(beside, side)))
    return shape(side**dim, links)


def _number(place: Iterable[int], side: int) -> int:
    number = 0
    for coordinate in place:
        number = number * side + coordinate
    return number + 1


def _dumbbell(params: Params, seed: int) -> Shape:
    """Routers 1 and 2 with the bottleneck between them, then the hosts of router 1, then those of router 2.

    Source:
        S. Floyd, E. Kohler, "Internet research needs better models", HotNets-I, 2002, on the dumbbell as the
        usual topology of congestion control studies.
    """
    left, right = params["left"], params["right"]
    first, n = 3 + left, 2 + left + right
    links = [(1, 2), *((1, host) for host in range(3, first)), *((2, host) for host in range(first, n + 1))]
    tiers = {1: "router", 2: "router", **dict.fromkeys(range(3, first), "left")}
    return shape(n, links, {**tiers, **dict.fromkeys(range(first, n + 1), "right")})


def _clos(params: Params, seed: int) -> Shape:
    """Hosts first, leaf by leaf, then leaf and spine switches.

    Source:
        C. Clos, "A study of non-blocking switching networks", BSTJ 32(2), 1953,
        folded: its first and last stage are the leaves, its middle stage the spines.
    """
    leaves, spines, hosts = params["leaves"], params["spines"], params["hosts"]
    leaf0 = leaves * hosts
    spine0 = leaf0 + leaves
    n = spine0 + spines
    links = [(leaf * hosts + i + 1, leaf0 + leaf + 1) for leaf, i in product(range(leaves), range(hosts))]
    links += [(leaf0 + leaf + 1, spine0 + i + 1) for leaf, i in product(range(leaves), range(spines))]
    tiers = {i: "host" if i <= leaf0 else "leaf" if i <= spine0 else "spine" for i in range(1, n + 1)}
    return shape(n, links, tiers)


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


def _m_fits(params: Params) -> tuple[str, str, str] | None:
    n, m = params["n_nodes"], params["m"]
    if m < n:
        return None
    return (
        "m",
        f"m is `{m}`, but there are only {n - 1} other nodes to link to",
        f"at most `{n - 1}` is possible",
    )


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
        random_graph,
        _degree_fits,
        seeded=True,
    ),
    GeneratorType(
        "dumbbell",
        "two routers joined by one link, nodes 1 and 2, with hosts on either side",
        {"left": _nodes(1, "hosts of router 1"), "right": _nodes(1, "hosts of router 2")},
        lambda params: (2 + params["left"] + params["right"], 1 + params["left"] + params["right"]),
        _dumbbell,
    ),
    GeneratorType(
        "clos",
        "every leaf switch is linked to every spine switch, hosts to one leaf each",
        {
            "leaves": _nodes(2, "number of leaf switches"),
            "spines": _nodes(1, "number of spine switches"),
            "hosts": Field(
                Integer(0, expected="a whole number of nodes"), "hosts of each leaf switch", default=0
            ),
        },
        lambda params: (
            params["leaves"] * (1 + params["hosts"]) + params["spines"],
            params["leaves"] * (params["spines"] + params["hosts"]),
        ),
        _clos,
    ),
    GeneratorType(
        "waxman",
        "links drawn from the seed, rarer with distance; connected by the shortest missing links",
        {
            "n_nodes": _nodes(2),
            "alpha": Field(
                Number(0.001, 1, "a number above 0, up to 1"),
                "how far links reach: larger makes long links more likely",
                default=0.2,
            ),
            "beta": Field(
                Number(0.001, 1, "a number above 0, up to 1"),
                "how many links there are: the probability of a link at distance 0",
                default=0.4,
            ),
        },
        _sized(lambda n: n * (n - 1) // 2),
        waxman,
        seeded=True,
    ),
    GeneratorType(
        "barabasi_albert",
        "a connected graph that grows: each new node prefers nodes with many links; drawn from the seed",
        {
            "n_nodes": _nodes(2),
            "m": Field(Integer(1, expected="a whole number"), "links that each new node brings", default=2),
        },
        lambda params: (params["n_nodes"], params["m"] * (params["n_nodes"] - params["m"])),
        barabasi_albert,
        _m_fits,
        seeded=True,
    ),
)

GENERATORS: Mapping[str, GeneratorType] = {kind.name: kind for kind in _ALL}

HINTS: Mapping[str, str] = {
    "graphml": "`nm import graphml FILE` makes a topology file of a graph",
    "leaf_spine": "did you mean `clos`?",
    "scale_free": "did you mean `barabasi_albert`?",
}
"""What to say for words that are no generator's but near to one."""
