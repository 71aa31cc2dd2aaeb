"""Generated topologies that are drawn from a seed.

Equal parameters and seeds give equal links. All are connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import dist, exp
from typing import TYPE_CHECKING, Any

from orchestrator.topology.shape import Edge, Shape, edge, shape

if TYPE_CHECKING:
    from random import Random

__all__ = ["barabasi_albert", "random_graph", "waxman", "waxman_points"]

Params = Mapping[str, Any]


def random_graph(params: Params, seed: int) -> Shape:
    """A connected graph in which every node has `degree` links, or one node one fewer if it cannot be else.

    The nodes are laid out on a circle in random order and linked to their nearest on it, which gives the
    right degrees. The circle itself is kept, so that the graph is connected; all other links are then
    shuffled by taking two at random and exchanging their ends, which changes no degree.
    """
    n, degree = params["n_nodes"], params["degree"]
    draw = _stream(seed, "random")
    order = list(range(1, n + 1))
    draw.shuffle(order)
    circle = [edge(order[i], order[(i + 1) % n]) for i in range(n)]
    steps = range(2, degree // 2 + 1)
    chords = [edge(order[i], order[(i + step) % n]) for step in steps for i in range(n)]
    if degree % 2:
        chords += [edge(order[i], order[i + n // 2]) for i in range(n // 2)]
    present = {*circle, *chords}
    # Ten exchanges a link are enough to forget the circle (R. Milo et al., arXiv:cond-mat/0312028).
    for _ in range(10 * len(chords)):
        i, j = draw.randrange(len(chords)), draw.randrange(len(chords))
        (a, b), (c, d) = chords[i], chords[j]
        if draw.random() < 0.5:
            c, d = d, c
        first, second = edge(a, c), edge(b, d)
        if len({a, b, c, d}) == 4 and first not in present and second not in present:
            present -= {chords[i], chords[j]}
            present |= {first, second}
            chords[i], chords[j] = first, second
    return shape(n, present)


def waxman(params: Params, seed: int) -> Shape:
    """Nodes at random points of a square; a pair at distance d is linked with probability β exp(-d / (α L)).

    L is the largest distance of two nodes. As this may leave parts without a link between them, the two
    nearest nodes of different parts are linked until there is one part.

    Source:
        B. M. Waxman, "Routing of multipoint connections", IEEE Journal on Selected Areas in Communications
        6(9), 1988, section III.
    """
    n, alpha, beta = params["n_nodes"], params["alpha"], params["beta"]
    points = waxman_points(n, seed)
    draw = _stream(seed, "waxman/links")
    scale = alpha * max(dist(points[a], points[b]) for a, b in combinations(points, 2))
    links = [
        (a, b)
        for a, b in combinations(points, 2)
        if draw.random() < beta * exp(-dist(points[a], points[b]) / scale)
    ]
    return shape(n, [*links, *_joining(links, points)])


def waxman_points(n: int, seed: int) -> dict[int, tuple[float, float]]:
    """Return where a seed puts the nodes of a Waxman graph, in a square of side 1."""
    draw = _stream(seed, "waxman/points")
    return {node: (draw.random(), draw.random()) for node in range(1, n + 1)}


def barabasi_albert(params: Params, seed: int) -> Shape:
    """Nodes join one after the other, each with `m` links to earlier nodes, chosen by their number of links.

    The first m + 1 nodes form a star around node 1, so that the graph is connected and has m (n - m) links.

    Source:
        A.-L. Barabási, R. Albert, "Emergence of scaling in random networks", Science 286, 1999: growth and
        preferential attachment. The paper leaves the first nodes open.
    """
    n, m = params["n_nodes"], params["m"]
    draw = _stream(seed, "barabasi_albert")
    links = [(1, node) for node in range(2, m + 2)]
    # Every node once per link that it has: a uniform choice of an end is a choice by the number of links.
    ends = [node for link in links for node in link]
    for node in range(m + 2, n + 1):
        chosen: dict[int, None] = {}
        while len(chosen) < m:
            chosen[ends[draw.randrange(len(ends))]] = None
        for target in chosen:
            links.append((target, node))
            ends += (target, node)
    return shape(n, links)


def _stream(seed: int, name: str) -> Random:
    """Return a generator's stream; a text seed is hashed by SHA-512, so it is the same on every machine."""
    import random

    return random.Random(f"{seed}/topology/{name}")


def _joining(links: Iterable[Edge], points: Mapping[int, tuple[float, float]]) -> list[Edge]:
    """Return the shortest links that make one part of a graph (Kruskal's algorithm, from what is linked)."""
    above = {node: node for node in points}

    def part(node: int) -> int:
        while above[node] != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    for a, b in links:
        above[part(a)] = part(b)
    apart = [(dist(points[a], points[b]), a, b) for a, b in combinations(points, 2) if part(a) != part(b)]
    added = []
    for _, a, b in sorted(apart):
        if part(a) != part(b):
            above[part(a)] = part(b)
            added.append((a, b))
    return added
