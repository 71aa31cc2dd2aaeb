"""Compute several routes for each pair of nodes: the k shortest paths, or paths that share no link.

The k shortest paths without loops are found by Yen's algorithm (Yen 1971, with Lawler's rule on where a path
may deviate), each search directed by the exact distances to the destination. Paths that share no link have
the least sum of lengths: they are found as a flow of least cost (Suurballe 1974, Bhandari 1999), because
taking the shortest path first may cut off the second.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

from orchestrator.errors import UsageError
from orchestrator.impairment import link_length
from orchestrator.topology import Route, Topology

__all__ = ["MOST_ROUTES", "computed_routes", "disjoint_paths", "shortest_paths"]

Path = tuple[int, ...]
Graph = Mapping[int, Mapping[int, int]]
"""For each node, the length of the link to each neighbour."""

MOST_ROUTES = 100_000
"""Routes that are computed for a lab: what the controller and its nodes take in one message."""


def computed_routes(topology: Topology) -> tuple[Route, ...]:
    """Return the routes of all pairs without explicit ones, where the topology wants several.

    Raises:
        UsageError: They would be too many.
    """
    if topology.routing != "shortest_path" or topology.paths == 1:
        return ()
    nodes = sorted(topology.nodes)
    stated = {(route.src, route.dst) for route in topology.routes}
    most = len(nodes) * (len(nodes) - 1) * topology.paths
    if most > MOST_ROUTES:
        raise UsageError(
            f"{topology.paths} paths for each pair of {len(nodes)} nodes are up to {most} routes",
            id="topology.routing-paths",
            found=f"paths: {topology.paths}",
            expected=f"at most {MOST_ROUTES} routes",
            hint="fewer `paths`, or `routes` for the pairs that need several",
        )
    graph = graph_of(topology)
    find = disjoint_paths if topology.disjoint else shortest_paths
    found: list[Route] = []
    for dst in nodes:
        left = _distances_to(graph, dst)
        for src in nodes:
            if src == dst or (src, dst) in stated or src not in left:
                continue
            paths = find(graph, src, dst, topology.paths, left)
            found += [
                Route(src=src, dst=dst, edges=tuple(pairwise(path)), path=path, computed=True)
                for path in paths
            ]
    return tuple(sorted(found, key=lambda route: (route.src, route.dst)))


def graph_of(topology: Topology) -> Graph:
    """Return the lengths of the links of a topology that are not down, by their ends."""
    graph: dict[int, dict[int, int]] = {node: {} for node in sorted(topology.nodes)}
    for link in topology.links:
        if not link.forward_down:
            graph[link.a][link.b] = link_length(link.forward, topology.metric)
        if not link.backward_down:
            graph[link.b][link.a] = link_length(link.backward, topology.metric)
    return graph


def shortest_paths(
    graph: Graph, src: int, dst: int, count: int, left: Mapping[int, int] | None = None
) -> list[Path]:
    """Return up to `count` shortest paths without loops, the shortest first.

    Args:
        graph: The links.
        src: Where they begin.
        dst: Where they end.
        count: How many.
        left: The distance of each node that reaches `dst` to it, if known.
    """
    left = _distances_to(graph, dst) if left is None else left
    first = _search(graph, src, dst, left, (), ())
    if first is None:
        return []
    found: list[tuple[int, Path, int]] = [(*first, 0)]  # with the place from which on it deviates
    candidates: list[tuple[int, int, Path, int]] = []
    known = {first[1]}
    while len(found) < count:
        _, path, deviation = found[-1]
        for place in range(deviation, len(path) - 1):
            root = path[: place + 1]
            used = {other[place + 1] for _, other, _ in found if other[: place + 1] == root}
            rest = _search(graph, root[-1], dst, left, root[:-1], used)
            if rest is None:
                continue
            candidate = (*root[:-1], *rest[1])
            if candidate not in known:
                known.add(candidate)
                length = sum(graph[a][b] for a, b in pairwise(root)) + rest[0]
                heapq.heappush(candidates, (length, len(candidate), candidate, place))
        if not candidates:
            break
        length, _, path, place = heapq.heappop(candidates)
        found.append((length, path, place))
    return [path for _, path, _ in found]


def disjoint_paths(
    graph: Graph, src: int, dst: int, count: int, left: Mapping[int, int] | None = None
) -> list[Path]:
    """Return up to `count` paths of which no two share a link, in either direction, the shortest first.

    The sum of their lengths is the least of as many such paths. `left` is as in `shortest_paths`.
    """
    flow: set[tuple[int, int]] = set()
    for _ in range(count):
        path = _augmenting(graph, flow, src, dst)
        if path is None:
            break
        for a, b in pairwise(path):
            if (b, a) in flow:
                flow.discard((b, a))
            else:
                flow.add((a, b))
    after: dict[int, list[int]] = defaultdict(list)
    for a, b in sorted(flow):
        after[a].append(b)
    paths: list[Path] = []
    for start in after.pop(src, []):
        path = [src, start]
        while path[-1] != dst:
            path.append(after[path[-1]].pop(0))
        paths.append(_without_loops(path))
    return sorted(paths, key=lambda path: (sum(graph[a][b] for a, b in pairwise(path)), len(path), path))


def _distances_to(graph: Graph, dst: int) -> dict[int, int]:
    """Return the distance of each node that reaches another one to it."""
    before: dict[int, dict[int, int]] = defaultdict(dict)
    for node, near in graph.items():
        for other, length in near.items():
            before[other][node] = length
    found: dict[int, int] = {}
    heap = [(0, dst)]
    while heap:
        length, node = heapq.heappop(heap)
        if node not in found:
            found[node] = length
            for other, step in before[node].items():
                if other not in found:
                    heapq.heappush(heap, (length + step, other))
    return found


def _search(
    graph: Graph,
    start: int,
    dst: int,
    left: Mapping[int, int],
    banned: Collection[int],
    banned_next: Collection[int],
) -> tuple[int, Path] | None:
    """Return the shortest path that avoids nodes, and neighbours of its start as the second node."""
    if start not in left:
        return None
    parent: dict[int, int] = {}
    heap = [(left[start], 0, start, start)]
    while heap:
        _, length, node, came_from = heapq.heappop(heap)
        if node in parent:
            continue
        parent[node] = came_from
        if node == dst:
            path = [dst]
            while path[-1] != start:
                path.append(parent[path[-1]])
            return length, tuple(reversed(path))
        for near, step in graph[node].items():
            if (
                near in parent
                or near in banned
                or near not in left
                or (node == start and near in banned_next)
            ):
                continue
            heapq.heappush(heap, (length + step + left[near], length + step, near, node))
    return None


def _augmenting(graph: Graph, flow: Collection[tuple[int, int]], src: int, dst: int) -> list[int] | None:
    """Return the shortest path that may undo links of the flow, which then have a negative length."""
    length, parent = {src: 0}, {src: src}
    queue, queued = deque([src]), {src}
    while queue:
        node = queue.popleft()
        queued.discard(node)
        for near, step in _residual(graph, flow, node):
            if length[node] + step < length.get(near, length[node] + step + 1):
                length[near], parent[near] = length[node] + step, node
                if near not in queued:
                    queued.add(near)
                    queue.append(near)
    if dst not in parent:
        return None
    path = [dst]
    while path[-1] != src:
        path.append(parent[path[-1]])
    return path[::-1]


def _residual(graph: Graph, flow: Collection[tuple[int, int]], node: int) -> Iterable[tuple[int, int]]:
    for near, step in graph[node].items():
        if (node, near) in flow:
            continue
        yield near, -graph[near][node] if (near, node) in flow else step


def _without_loops(path: list[int]) -> Path:
    """Cut out the loops of a walk: two paths of a flow may be joined so that one passes a node twice."""
    found: list[int] = []
    for node in path:
        if node in found:
            del found[found.index(node) + 1 :]
        else:
            found.append(node)
    return tuple(found)
