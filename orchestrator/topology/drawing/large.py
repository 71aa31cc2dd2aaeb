"""Place the nodes of a large graph without a known shape.

Forces alone take minutes to untangle a thousand nodes, and end in a tangle. Nodes are first placed by their
distances in hops to a few nodes that are far from each other (pivot MDS, Brandes and Pich 2006), which shows
the shape of the whole; forces then move those apart that came to lie on each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MOST_NODES", "place_by_distance"]

MOST_NODES = 2_000
"""Nodes of the largest graph that is placed so: 1,000 take about a second, and time grows with the square."""

_PIVOTS = 60
_ROUNDS = 60


def place_by_distance(
    ids: Sequence[int], edges: Sequence[tuple[int, int]]
) -> Mapping[int, tuple[float, float]]:
    """Return a position for every node; always the same for the same graph."""
    import rustworkx

    graph: Any = rustworkx.PyGraph(multigraph=False)
    index = dict(zip(ids, graph.add_nodes_from(ids), strict=True))
    graph.add_edges_from_no_data([(index[a], index[b]) for a, b in edges])
    # Parts that are not linked have no distance; a link that is not drawn keeps them close.
    first, *others = (min(part) for part in rustworkx.connected_components(graph))
    graph.add_edges_from_no_data([(first, other) for other in others])
    start = _pivot_mds(rustworkx.distance_matrix(graph))
    # With `k` of one over the root of their number, the nodes fill a square of about one.
    placed = rustworkx.spring_layout(
        graph,
        pos={i: (float(x), float(y)) for i, (x, y) in enumerate(start)},
        k=0.8 / sqrt(len(ids)),
        num_iter=_ROUNDS,
        seed=1,
    )
    size = 1.1 * sqrt(len(ids))
    return {node: (size * placed[i][0], size * placed[i][1]) for node, i in index.items()}


def _pivot_mds(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places in a square of two by two whose distances are like those in the graph."""
    import numpy as np

    pivots = _far_apart(distances, min(_PIVOTS, len(distances)))
    squared = distances[:, pivots] ** 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    places: NDArray[np.float64] = centred @ axes[:2].T
    places -= places.mean(axis=0)
    # Nodes at the same distances from all pivots, such as the leaves of one node, must not coincide.
    angle = np.arange(len(places)) * 2.399963  # the golden angle spreads them evenly
    spread = 0.02 * np.abs(places).max()
    places += spread * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scaled: NDArray[np.float64] = places / max(float(np.abs(places).max()), 1e-9)
    return scaled


def _far_apart(distances: NDArray[np.float64], count: int) -> list[int]:
    """Return nodes of which each is as far as possible from those before."""
    import numpy as np

    found = [0]
    nearest = distances[0].copy()
    while len(found) < count:
        found.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, distances[found[-1]])
    return found
