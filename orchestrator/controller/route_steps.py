"""Order the changes of one route at its nodes, so that no packet comes to a node that does not know it.

A route that is added is known to the nodes behind its source before the source uses it, and one that is
removed is forgotten by its source first. Where a route changes its edges, nodes of the old and of the new
ones change from the destination to the source: a packet that follows a new edge comes only to nodes that have
changed as well, so that it arrives, and never returns to where it was. Nodes that are left come last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.protocol.messages import Route

__all__ = ["Parts", "Step", "steps"]

Parts = Mapping[int, Route]
"""What each node of a route has of it, by node."""


@dataclass(frozen=True, slots=True)
class Step:
    """Changes that need no order among each other.

    Attributes:
        parts: What the nodes are to have of the route; None for nothing.
        waits: Whether the nodes of earlier steps have to confirm them first.
    """

    parts: dict[int, Route | None]
    waits: bool = True


def steps(old: Parts, new: Parts) -> list[Step]:
    """Return how a route becomes another one, step by step.

    Args:
        old: What its nodes have of it.
        new: What they are to have.
    """
    ends = {(part.src_node_id, part.dst_node_id) for part in (*old.values(), *new.values())}
    if len(ends) > 1:  # another pair, and so another route
        return [*steps(old, {}), *steps({}, new)]
    source = next((src for src, _ in ends), 0)
    others = {node: part for node, part in new.items() if node != source and node not in old}
    changed = [node for node in new if node in old and old[node].next_hops != new[node].next_hops]
    same = {node: part for node, part in new.items() if node in old and node not in changed}
    left: dict[int, Route | None] = {node: None for node in old if node not in new and node != source}
    found = [
        Step({**others, **{node: part for node, part in same.items() if part != old[node]}}, waits=False)
    ]
    by_length: dict[int, dict[int, Route | None]] = defaultdict(dict)
    lengths = _lengths(new)
    for node in changed:
        if node != source:
            by_length[lengths[node]][node] = new[node]
    found += [Step(by_length[length]) for length in sorted(by_length)]
    if source in new and source not in same:
        found.append(Step({source: new[source]}))
    elif source in old and source not in new:
        found.append(Step({source: None}, waits=False))
    found.append(Step(left))
    return [step for step in found if step.parts]


def _lengths(parts: Parts) -> dict[int, int]:
    """Return the length of the longest way from each node to the end of a route without loops."""
    found: dict[int, int] = {}
    for start in parts:
        todo = [start]
        while todo:
            node = todo[-1]
            after = parts[node].next_hops if node in parts else ()
            missing = [each for each in after if each not in found]
            if missing:
                todo += missing
                continue
            found[node] = 1 + max((found[each] for each in after), default=-1)
            todo.pop()
    return found
