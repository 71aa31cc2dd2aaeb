"""Choose how relays treat the TTL, from the longest path of a topology.

Nodes send with the largest TTL there is, 255, and each relay takes one of it, so that `traceroute` shows the
path. Where some path is longer than that reaches, relays leave the TTL alone: every node can then be reached,
and the whole network is one hop to `traceroute`. All nodes of a lab do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from orchestrator.topology import Route, Topology

__all__ = ["LONGEST_PATH", "distances", "ttl_mode", "ttl_note"]

TtlMode = Literal["uniform", "pipe"]

LONGEST_PATH = 255
"""Links on a path that a packet with TTL 255 survives: 254 relays, each taking one."""

_EXACT_NODES = 4_096
"""Up to so many nodes every distance is worked out where bounds do not decide; beyond, doubt means `pipe`."""

Neighbours = Mapping[int, Sequence[int]]


def ttl_mode(topology: Topology) -> TtlMode:
    """Return what relays do with TTL: `uniform` takes one each, `pipe` leaves it."""
    return "pipe" if _too_wide(topology) else "uniform"


def ttl_note(topology: Topology) -> str | None:
    """Return what to tell about TTL; None where it is as on any network."""
    if ttl_mode(topology) == "uniform":
        return None
    return (
        f"some nodes are more than {LONGEST_PATH} links apart, further than a TTL reaches: relays leave it"
        " alone, and traceroute shows one hop"
    )


def _too_wide(topology: Topology) -> bool:
    if len(topology.nodes) <= LONGEST_PATH + 1:
        return False
    if any(_links_of(route) > LONGEST_PATH for route in topology.routes):
        return True
    if topology.routing == "none":
        return False
    neighbours: dict[int, list[int]] = {node: [] for node in topology.nodes}
    for link in topology.links:
        neighbours[link.a].append(link.b)
        neighbours[link.b].append(link.a)
    unseen = set(neighbours)
    while unseen:
        found = distances(neighbours, next(iter(unseen)))
        unseen -= found.keys()
        if _component_too_wide(neighbours, found):
            return True
    return False


def _component_too_wide(neighbours: Neighbours, found: Mapping[int, int]) -> bool:
    """Whether two nodes of a connected part are too far apart, given the distances from any one of it.

    The distance from one node to the farthest is at least half of the largest there is; from the farthest
    node, it is the largest or close to it. Only what lies between the two bounds takes more than two looks.
    """
    if 2 * max(found.values()) <= LONGEST_PATH:
        return False
    farthest = max(found, key=found.__getitem__)
    if max(distances(neighbours, farthest).values()) > LONGEST_PATH:
        return True
    if len(found) > _EXACT_NODES:
        return True
    return any(max(distances(neighbours, node).values()) > LONGEST_PATH for node in found)


def distances(
    neighbours: Neighbours, start: int, lengths: Mapping[tuple[int, int], int] | None = None
) -> dict[int, int]:
    """How far every node is that can be reached, by a path of fewest links.

    Args:
        neighbours: The nodes that a node has links to.
        start: Where paths begin.
        lengths: The length of each link, by its ends; without them links are counted.
    """
    found = {start: 0}
    front = [start]
    while front:
        following = []
        for node in front:
            for near in neighbours[node]:
                if near not in found:
                    found[near] = found[node] + (1 if lengths is None else lengths[node, near])
                    following.append(near)
        front = following
    return found


def _links_of(route: Route) -> int:
    """At most so many links are on one way through a route."""
    return len({end for edge in route.edges for end in edge}) - 1
