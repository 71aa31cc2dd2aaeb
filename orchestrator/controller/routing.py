"""Compute next hops by shortest path, check explicit routes, and compute multicast trees.

Pure functions of node and link numbers. Distances come from rustworkx, all pairs at once; next hops follow
from them with a few array operations per link, so that 1,000 nodes take a fraction of a second.

Among several next hops at the same distance the choice rotates with source and destination, so that
equal-cost paths share the load. Every hop reduces the distance, so no choice can form a loop.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.controller.errors import RouteInvalid, TreeInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Edge",
    "Edges",
    "check_route",
    "check_tree",
    "children",
    "leads_to",
    "next_hop_tables",
    "shortest_path_tree",
]

Edge = tuple[int, int]
Edges = tuple[Edge, ...]


def next_hop_tables(
    node_ids: Collection[int],
    links: Iterable[Edge],
    alive: Collection[int],
    blocked: Collection[Edge] = (),
    lengths: Mapping[Edge, int] | None = None,
) -> dict[int, bytes]:
    """Return each node's table: next-hop ids as little-endian `u32`, indexed by destination id, 0 for none.

    Args:
        node_ids: All nodes; each gets a table.
        links: Pairs of nodes that are linked.
        alive: Nodes that can carry traffic; the others are neither crossed nor reached, but a node that is
            away still has a table, for when it is back.
        blocked: Directions of links that carry nothing, as (from, to).
        lengths: The length of each direction of a link, as (from, to), from 1; without it a link is one hop.
    """
    import numpy as np

    size = max(node_ids, default=0) + 1
    ids = np.array(sorted(alive), dtype=np.uint32)
    empty = bytes(4 * size)
    tables = dict.fromkeys(node_ids, empty)
    if len(ids) == 0:
        return tables
    place = {int(node_id): index for index, node_id in enumerate(ids)}
    neighbours: list[list[int]] = [[] for _ in ids]
    for a, b in links:
        if a in place and b in place:
            neighbours[place[a]].append(place[b])
            neighbours[place[b]].append(place[a])
    for start, end in blocked:
        if start in place and end in place:
            neighbours[place[start]].remove(place[end])
    steps = None
    if lengths is None:
        distances = _distances(len(ids), neighbours, directed=bool(blocked))
    else:
        steps = [
            [lengths[int(ids[a]), int(ids[b])] for b in sorted(near)] for a, near in enumerate(neighbours)
        ]
        distances = _weighted_distances(neighbours, steps)
    columns = np.arange(len(ids))
    for source, near in enumerate(neighbours):
        if near:
            table = np.zeros(size, dtype="<u4")
            step = np.array(steps[source], dtype=np.float64) if steps else None
            table[ids] = _row(source, np.array(sorted(near)), distances, ids, columns, step)
            tables[int(ids[source])] = table.tobytes()
    return tables


def _distances(size: int, neighbours: list[list[int]], *, directed: bool) -> NDArray[np.float32]:
    import numpy as np
    import rustworkx

    graph: Any = rustworkx.PyDiGraph(multigraph=False) if directed else rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(size))
    edges = [(a, b) for a, near in enumerate(neighbours) for b in near if directed or a < b]
    graph.add_edges_from_no_data(edges)
    # Half the memory of the default, and hops are small numbers.
    found: NDArray[np.float32] = rustworkx.distance_matrix(graph, null_value=-1.0).astype(np.float32)
    return found


def _weighted_distances(neighbours: Sequence[Sequence[int]], steps: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Return the distances between all nodes; infinite where there is no path. Whole numbers stay exact."""
    import numpy as np
    import rustworkx

    size = len(neighbours)
    graph: Any = rustworkx.PyDiGraph(multigraph=False)
    graph.add_nodes_from(range(size))
    edges = zip(neighbours, steps, strict=True)
    graph.add_edges_from(
        [
            (a, b, float(step))
            for a, (near, own) in enumerate(edges)
            for b, step in zip(sorted(near), own, strict=True)
        ]
    )
    distances = np.full((size, size), np.inf)
    np.fill_diagonal(distances, 0.0)
    for node, found in rustworkx.all_pairs_dijkstra_path_lengths(graph, float).items():
        distances[node, list(found.keys())] = list(found.values())
    return distances


def _row(
    source: int, near: NDArray[Any], distances: Any, ids: Any, columns: Any, step: NDArray[Any] | None = None
) -> NDArray[np.uint32]:
    """Return the next hop from one node to each, 0 where there is none."""
    import numpy as np

    if step is None and len(near) == len(ids) - 1:  # linked to all, as in a full mesh
        direct: NDArray[np.uint32] = np.where(columns == source, 0, ids).astype(np.uint32)
        return direct
    # closer[i, d]: neighbour i is closer to d than we are, by just the length of the link to it.
    if step is None:
        closer = distances[near] == distances[source] - 1
        closer &= distances[source] > 0
    else:
        closer = distances[near] + step[:, None] == distances[source]
        closer &= (distances[source] > 0) & np.isfinite(distances[source])
    counts = closer.sum(axis=0)
    reachable = counts > 0
    # The k-th of the candidates, where k rotates with both ends.
    wanted = np.where(reachable, (source + columns) % np.maximum(counts, 1), -1)
    rank = np.cumsum(closer, axis=0) - 1
    chosen = np.argmax(closer & (rank == wanted), axis=0)
    hops: NDArray[np.uint32] = np.where(reachable, ids[near[chosen]], 0).astype(np.uint32)
    return hops


def children(edges: Iterable[Edge]) -> dict[int, tuple[int, ...]]:
    """Return for each node of directed edges where it sends to, in order."""
    found: dict[int, list[int]] = defaultdict(list)
    for start, end in edges:
        found[start].append(end)
    return {node: tuple(sorted(set(ends))) for node, ends in found.items()}


def shortest_path_tree(
    source: int, receivers: Iterable[int], neighbours: Mapping[int, Collection[int]], alive: Collection[int]
) -> tuple[Edges, tuple[int, ...]]:
    """Return a tree of shortest paths, and the receivers that it cannot reach.

    Args:
        source: Its root.
        receivers: Whom it has to reach; the root among them is ignored.
        neighbours: Links by node.
        alive: Nodes that can carry traffic.
    """
    usable = set(alive) | {source}
    parent = {source: source}
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for near in sorted(neighbours.get(node, ())):
            if near in usable and near not in parent:
                parent[near] = node
                queue.append(near)
    edges: set[Edge] = set()
    missed = []
    for receiver in sorted(set(receivers) - {source}):
        if receiver not in parent:
            missed.append(receiver)
            continue
        node = receiver
        while node != source and (parent[node], node) not in edges:
            edges.add((parent[node], node))
            node = parent[node]
    return tuple(sorted(edges)), tuple(missed)


def check_tree(source: int, edges: Edges, members: Iterable[int], links: Collection[Edge]) -> None:
    """Check that directed edges are a tree from the source to all members.

    Args:
        source: The group's source.
        edges: The tree.
        members: Whom it has to reach; the source among them is ignored.
        links: Pairs of linked nodes, the lesser first.

    Raises:
        TreeInvalid: They are not; the message says why.
    """
    parent: dict[int, int] = {}
    for start, end in edges:
        if start == end:
            raise TreeInvalid(f"the edge {start} → {end} leads nowhere")
        if (min(start, end), max(start, end)) not in links:
            raise TreeInvalid(
                f"there is no link between {start} and {end}", hint="a tree uses links of the lab"
            )
        if end == source:
            raise TreeInvalid(f"the edge {start} → {end} leads back to the source, node {source}")
        if end in parent:
            if parent[end] == start:
                raise TreeInvalid(f"the edge {start} → {end} is given twice")
            raise TreeInvalid(f"node {end} is reached twice, from {parent[end]} and from {start}")
        parent[end] = start
    reached = _reached(source, edges)
    for start, end in edges:
        if start not in reached:
            raise TreeInvalid(f"the edge {start} → {end} is not connected to the source, node {source}")
    missed = sorted(set(members) - reached)
    if missed:
        names = ", ".join(str(node) for node in missed[:12])
        raise TreeInvalid(f"the tree does not reach the members {names}", hint="extend it, or let them leave")


def check_route(source: int, target: int, edges: Edges, links: Collection[Edge]) -> None:
    """Check that directed edges lead from one node to another, over links and without a loop.

    Raises:
        RouteInvalid: They do not; the message says why.
    """
    name = f"the route from {source} to {target}"
    for start, end in edges:
        if (min(start, end), max(start, end)) not in links:
            raise RouteInvalid(f"{name} uses a link between {start} and {end}, which there is not")
    if target not in _reached(source, edges):
        raise RouteInvalid(f"{name} does not arrive")
    incoming: dict[int, int] = defaultdict(int)
    for _, end in set(edges):
        incoming[end] += 1
    queue = deque({node for edge in edges for node in edge if not incoming[node]})
    seen = 0
    after = children(edges)
    visited = set(queue)
    while queue:
        node = queue.popleft()
        for end in after.get(node, ()):
            seen += 1
            incoming[end] -= 1
            if incoming[end] == 0 and end not in visited:
                visited.add(end)
                queue.append(end)
    if seen < len(set(edges)):
        raise RouteInvalid(f"{name} has a loop")


def leads_to(source: int, target: int, edges: Iterable[Edge]) -> bool:
    """Tell whether directed edges lead from one node to another."""
    return target in _reached(source, edges)


def _reached(source: int, edges: Iterable[Edge]) -> set[int]:
    after = children(edges)
    reached = {source}
    queue = deque([source])
    while queue:
        for end in after.get(queue.popleft(), ()):
            if end not in reached:
                reached.add(end)
                queue.append(end)
    return reached
