"""Compute which way packets to the outside of a lab take: to the nearest node with an uplink."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping

from orchestrator.controller.routing import Edge

__all__ = ["with_outside"]

_ENTRY = 4
"""Bytes of a next hop in a table, whose first entry is that of the outside."""


def with_outside(
    tables: Mapping[int, bytes],
    uplinks: Collection[int],
    links: Iterable[Edge],
    alive: Collection[int],
    blocked: Collection[Edge] = (),
    lengths: Mapping[Edge, int] | None = None,
) -> dict[int, bytes]:
    """Return the next-hop tables with an entry for the outside: the next hop to the nearest uplink.

    Each hop on the way is nearer to an uplink than the one before, though perhaps to another one, so that
    packets cannot loop. The uplinks themselves have no entry: their kernels forward the packets.

    Args:
        tables: What `next_hop_tables` returned for the same links.
        uplinks: The nodes that have one.
        links: Pairs of nodes that are linked.
        alive: Nodes that can carry traffic.
        blocked: Directions of links that carry nothing, as (from, to).
        lengths: The length of each direction of a link, as (from, to), from 1; without it a link is one hop.
    """
    usable, closed = set(alive), set(blocked)
    waiting = [(0, uplink, uplink) for uplink in sorted(usable & set(uplinks))]
    if not waiting:
        return dict(tables)
    before: dict[int, list[int]] = {node: [] for node in usable}
    for a, b in links:
        for start, end in ((a, b), (b, a)):
            if start in usable and end in usable and (start, end) not in closed:
                before[end].append(start)
    nearest: dict[int, int] = {}
    while waiting:  # Dijkstra, from all uplinks at once and against the directions
        distance, uplink, node = heapq.heappop(waiting)
        if node in nearest:
            continue
        nearest[node] = uplink
        for start in before[node]:
            if start not in nearest:
                step = 1 if lengths is None else lengths[start, node]
                heapq.heappush(waiting, (distance + step, uplink, start))
    found = dict(tables)
    for node, uplink in nearest.items():
        if node != uplink:
            table, at = tables[node], _ENTRY * uplink
            found[node] = table[at : at + _ENTRY] + table[_ENTRY:]
    return found
