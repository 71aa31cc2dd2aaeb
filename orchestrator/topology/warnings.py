"""Find valid but probably unintended parts of a topology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.errors import Place, Problem
from orchestrator.topology.link_words import written
from orchestrator.topology.model import Topology

__all__ = ["find_warnings"]

_SHOWN = 8
"""So many nodes or pairs are named; a large file has the same mistake everywhere or nowhere."""


def find_warnings(topology: Topology, place: Place, routes: Sequence[Place]) -> tuple[Problem, ...]:
    """Return the warnings of a topology without problems.

    Args:
        topology: The topology.
        place: Where it begins.
        routes: Where each of its routes stands.
    """
    return (
        *_disconnected(topology, place),
        *_one_way(topology, routes),
        *_uplinks_alone(topology, place),
        *_skipped(topology, place),
    )


def _disconnected(topology: Topology, place: Place) -> Iterator[Problem]:
    cut_off = _cut_off(topology)
    if not cut_off:
        return
    shown = ", ".join(map(str, cut_off[:_SHOWN]))
    more = f" and {len(cut_off) - _SHOWN} more" if len(cut_off) > _SHOWN else ""
    first = f"node {shown}" if len(cut_off) == 1 else f"nodes {shown}{more}"
    yield Problem(
        f"{first} cannot be reached from node {min(topology.nodes)}",
        "topology.disconnected",
        place,
        hint="links are missing, or this is meant",
    )


def _uplinks_alone(topology: Topology, place: Place) -> Iterator[Problem]:
    uplinks = [node.id for node in topology.nodes.values() if node.uplink]
    if uplinks and topology.routing == "none" and len(topology.nodes) > len(uplinks):
        yield Problem(
            f"no other node has a route to the outside through node {uplinks[0]}",
            "topology.uplink-unreached",
            place,
            hint="with `protocol: none` only the nodes with an uplink reach the outside",
        )


def _cut_off(topology: Topology) -> list[int]:
    beside: dict[int, list[int]] = {number: [] for number in topology.nodes}
    for link in topology.links:
        beside[link.a].append(link.b)
        beside[link.b].append(link.a)
    first = min(topology.nodes)
    reached, todo = {first}, [first]
    while todo:
        for node in beside[todo.pop()]:
            if node not in reached:
                reached.add(node)
                todo.append(node)
    return [number for number in topology.nodes if number not in reached]


def _one_way(topology: Topology, places: Sequence[Place]) -> Iterator[Problem]:
    """Pairs with a route there and none back: not even a ping is answered, since answers take routes, too."""
    if topology.routing != "none":
        return
    pairs = {(route.src, route.dst) for route in topology.routes}
    alone: dict[tuple[int, int], Place] = {}
    for route, place in zip(topology.routes, places, strict=True):
        if (route.dst, route.src) not in pairs:
            alone.setdefault((route.src, route.dst), place)
    for number, ((src, dst), place) in enumerate(alone.items()):
        more = len(alone) - _SHOWN
        if number == _SHOWN:
            yield Problem(
                f"and so have {more} pairs more" if more > 1 else "and so has one pair more",
                "topology.one-way",
                place,
            )
            return
        yield Problem(
            f"node {src} has a route to node {dst}, but node {dst} has none back",
            "topology.one-way",
            place,
            expected=f"a route from {dst} to {src} as well",
            hint=f"with `protocol: none` node {dst} cannot answer; add `{{from: {dst}, to: {src}, …}}` "
            "unless this is meant",
        )


def _skipped(topology: Topology, place: Place) -> Iterator[Problem]:
    """Links whose settings TCP flows do not feel, because both of their nodes are in max mode."""
    modes = {number: node.operating_mode for number, node in topology.nodes.items()}
    links = [
        (f"{link.a}-{link.b}", keys)
        for link in topology.links
        if modes[link.a] == modes[link.b] == "max"
        and (keys := {**written(link.forward), **written(link.backward)})
    ]
    if not links:
        return
    shown = ", ".join(name for name, _ in links[:_SHOWN])
    more = f" and {len(links) - _SHOWN} more" if len(links) > _SHOWN else ""
    skipped = dict.fromkeys(key for _, keys in links for key in keys)
    word = "links" if len(links) > 1 else "link"
    yield Problem(
        f"TCP flows between nodes in max mode skip {', '.join(skipped)} of {word} {shown}{more}",
        "topology.max-mode",
        place,
        hint="other packets feel them; leave `operating_mode: max` out where TCP shall as well",
    )
