"""Compute the positions of nodes in a drawing.

Known shapes get their usual layout: a ring on a circle, a fat tree in layers, a torus as a grid. Other trees
are drawn as trees, and the rest by force-directed placement: large graphs with the help of distances
(`large`), and on a circle if they are too large for that as well. Positions are in units of the space that
one node takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import cos, hypot, pi, sin, sqrt
from typing import Any

from orchestrator.topology.drawing.large import MOST_NODES, place_by_distance
from orchestrator.topology.model import Topology
from orchestrator.topology.random_shapes import waxman_points

__all__ = ["Point", "place_nodes"]

Point = tuple[float, float]

_MOST_FOR_SPRINGS = 90
_TIERS = ("core", "aggregation", "edge", "host")


def place_nodes(topology: Topology) -> dict[int, Point]:
    """Return a position for every node."""
    generator = topology.generator
    known = _SHAPES.get(generator.type) if generator is not None else None
    if generator is not None and known is not None:
        positions = known(topology, generator.params)
        if positions.keys() == topology.nodes.keys():
            return positions
    ids = list(topology.nodes)
    neighbours = _neighbours(topology)
    if _is_tree(topology, neighbours):
        return _layered_tree(_middle(ids, neighbours), neighbours)
    if len(ids) <= _MOST_FOR_SPRINGS:
        return _springs(ids, topology)
    if len(ids) <= MOST_NODES:
        return dict(place_by_distance(ids, [(link.a, link.b) for link in topology.links]))
    return _circle(ids)


def _circle(ids: Sequence[int], radius: float | None = None) -> dict[int, Point]:
    """Spread nodes on a circle, the first one at the top, on in the sense of a clock."""
    n = len(ids)
    r = radius or max(0.9, n / (2 * pi))
    return {
        node: (r * sin(2 * pi * i / n), -r * cos(2 * pi * i / n)) if n > 1 else (0.0, 0.0)
        for i, node in enumerate(ids)
    }


def _ring(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    return _circle(range(1, params["n_nodes"] + 1))


def _mesh(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    n = params["n_nodes"]
    return _circle(range(1, n + 1), max(1.2, n / (1.6 * pi)))


def _star(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    n = params["n_nodes"]
    return {1: (0.0, 0.0), **_circle(range(2, n + 1), max(1.5, (n - 1) / (2 * pi) * 1.1))}


def _line(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    """A row, or a snake of rows when it is long."""
    n, width = params["n_nodes"], 10
    width = width if n > 14 else n
    positions = {}
    for i in range(n):
        row, column = divmod(i, width)
        column = column if row % 2 == 0 else width - 1 - column
        positions[i + 1] = (column * 1.4, row * 1.4)
    return positions


def _fat_tree(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    layers: dict[str, list[int]] = defaultdict(list)
    k = params["k"]
    hosts, switches = k**3 // 4, k * k // 2
    for node in range(1, hosts + 2 * switches + k * k // 4 + 1):
        passed = [hosts, hosts + switches, hosts + 2 * switches]
        layers[("host", "edge", "aggregation", "core")[sum(node > bound for bound in passed)]].append(node)
    width = max(len(nodes) for nodes in layers.values()) * 1.1
    positions: dict[int, Point] = {}
    for depth, tier in enumerate(_TIERS):
        for i, node in enumerate(layers[tier]):
            positions[node] = (width * (i + 0.5) / len(layers[tier]), depth * 1.9)
    return positions


def _torus(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    """A circle, a grid, or grids side by side that are shifted against each other."""
    dim, side = params["dim"], params["n"]
    if dim == 1:
        return _circle(range(1, side + 1))
    positions: dict[int, Point] = {}
    for index in range(side**dim):
        rest, column = divmod(index, side)
        sheet, row = divmod(rest, side)
        x = column * 1.7 + sheet * (side * 1.7 + 0.9)
        positions[index + 1] = (x, row * 1.7 + sheet * 0.45)
    return positions


def _tree(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    n, arity = params["n_nodes"], params["arity"]
    neighbours: dict[int, list[int]] = {node: [] for node in range(1, n + 1)}
    for node in range(2, n + 1):
        parent = (node - 2) // arity + 1
        neighbours[parent].append(node)
        neighbours[node].append(parent)
    return _layered_tree(1, neighbours)


def _dumbbell(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    """Two columns of hosts, and between them the routers."""
    left, right = params["left"], params["right"]
    height = max(left, right) * 1.1
    positions = {1: (2.0, height / 2), 2: (4.0, height / 2)}
    positions |= {3 + i: (0.0, height * (i + 0.5) / left) for i in range(left)}
    return positions | {3 + left + i: (6.0, height * (i + 0.5) / right) for i in range(right)}


def _clos(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    """Spines above leaves above hosts."""
    leaves, spines, hosts = params["leaves"], params["spines"], params["hosts"]
    counts = (leaves * hosts, leaves, spines)
    width = max(counts) * 1.1
    positions: dict[int, Point] = {}
    for count, depth in zip(counts, (2, 1, 0), strict=True):
        for i in range(count):
            positions[len(positions) + 1] = (width * (i + 0.5) / count, depth * 1.9)
    return positions


def _waxman(topology: Topology, params: Mapping[str, Any]) -> dict[int, Point]:
    """Where the generator put the nodes; none for few nodes, which springs draw without overlaps."""
    n = params["n_nodes"]
    if n <= _MOST_FOR_SPRINGS:
        return {}
    side = 1.6 * sqrt(n)
    return _spaced({node: (x * side, y * side) for node, (x, y) in waxman_points(n, topology.seed).items()})


_SHAPES: Mapping[str, Callable[[Topology, Mapping[str, Any]], dict[int, Point]]] = {
    "ring": _ring,
    "full_mesh": _mesh,
    "star": _star,
    "line": _line,
    "fat_tree": _fat_tree,
    "torus": _torus,
    "tree": _tree,
    "dumbbell": _dumbbell,
    "clos": _clos,
    "waxman": _waxman,
}


def _neighbours(topology: Topology) -> dict[int, list[int]]:
    beside: dict[int, list[int]] = {node: [] for node in topology.nodes}
    for link in topology.links:
        beside[link.a].append(link.b)
        beside[link.b].append(link.a)
    return beside


def _is_tree(topology: Topology, neighbours: Mapping[int, list[int]]) -> bool:
    if len(topology.links) != len(topology.nodes) - 1:
        return False
    return len(_distances(next(iter(neighbours)), neighbours)) == len(topology.nodes)


def _distances(start: int, neighbours: Mapping[int, list[int]]) -> dict[int, int]:
    distances, todo = {start: 0}, [start]
    for node in todo:
        for beside in neighbours[node]:
            if beside not in distances:
                distances[beside] = distances[node] + 1
                todo.append(beside)
    return distances


def _middle(ids: Sequence[int], neighbours: Mapping[int, list[int]]) -> int:
    """Return the middle of a tree's longest path, which makes the lowest picture."""
    first = _distances(ids[0], neighbours)
    one_end = max(first, key=lambda node: first[node])
    from_one = _distances(one_end, neighbours)
    other_end = max(from_one, key=lambda node: from_one[node])
    from_other = _distances(other_end, neighbours)
    return min(ids, key=lambda node: (max(from_one[node], from_other[node]), node))


def _layered_tree(root: int, neighbours: Mapping[int, list[int]]) -> dict[int, Point]:
    """Put leaves side by side and every parent above the middle of its children."""
    depth = _distances(root, neighbours)
    positions: dict[int, Point] = {}
    next_leaf = 0.0
    # Children before parents: the deepest first would mix up the order, so walk the tree and come back.
    todo: list[tuple[int, bool]] = [(root, False)]
    while todo:
        node, done = todo.pop()
        children = [child for child in neighbours[node] if depth[child] > depth[node]]
        if not done and children:
            todo.append((node, True))
            todo += [(child, False) for child in reversed(children)]
            continue
        if children:
            x = (positions[children[0]][0] + positions[children[-1]][0]) / 2
        else:
            x, next_leaf = next_leaf, next_leaf + 1.1
        positions[node] = (x, depth[node] * 1.6)
    return positions


def _springs(ids: Sequence[int], topology: Topology) -> dict[int, Point]:
    """Let links pull and nodes push until they rest.

    Nothing is random: the start is a circle, so the picture is always the same.
    """
    import rustworkx  # only for graphs without a layout of their own

    graph = rustworkx.PyGraph(multigraph=False)
    index = dict(zip(ids, graph.add_nodes_from(ids), strict=True))
    graph.add_edges_from_no_data([(index[link.a], index[link.b]) for link in topology.links])
    # Parts that are not linked would drift apart without end.
    first, *others = (min(part) for part in rustworkx.connected_components(graph))
    graph.add_edges_from_no_data([(first, other) for other in others])
    # `k` is half the distance at which two linked nodes rest.
    start = {index[node]: point for node, point in _circle(ids, 0.8 * sqrt(len(ids))).items()}
    placed = rustworkx.spring_layout(graph, pos=start, k=0.8, num_iter=500, adaptive_cooling=False, seed=1)
    size = 0.9 * sqrt(len(ids))
    return _spaced({node: (size * placed[i][0], size * placed[i][1]) for node, i in index.items()})


def _spaced(positions: dict[int, Point], least: float = 0.9) -> dict[int, Point]:
    """Blow a layout up until the two nearest nodes are apart, but not beyond any measure."""
    points = list(positions.values())
    pairs = ((a, b) for i, a in enumerate(points) for b in points[i + 1 :])
    nearest = min((hypot(a[0] - b[0], a[1] - b[1]) for a, b in pairs), default=least)
    scale = min(3.0, max(1.0, least / max(nearest, 1e-6)))
    return {node: (x * scale, y * scale) for node, (x, y) in positions.items()}
