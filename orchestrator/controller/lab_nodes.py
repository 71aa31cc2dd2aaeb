"""Add nodes to the lab's state, and remove them from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.controller import link_states
from orchestrator.controller.registry import Link, Node, Registry, link_lengths
from orchestrator.protocol.messages import Have

__all__ = ["LabNodes", "NodeNames", "same_length"]


class NodeNames(Mapping[int, str]):
    """The names of the nodes that there are at the moment, by number.

    Args:
        registry: The nodes.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, node_id: int) -> str:
        if node_id not in self._registry:
            raise KeyError(node_id)
        return self._registry.node(node_id).name

    def __iter__(self) -> Iterator[int]:
        return (node.id for node in self._registry)

    def __len__(self) -> int:
        return len(self._registry)


class LabNodes:
    """The part of `Lab` for nodes that come and go."""

    registry: Registry
    sides: dict[int, int]
    problems: dict[str, str]
    wanted_routes: dict[int, Any]
    _tables: dict[int, tuple[bytes, int]]
    _trees: dict[int, Any]
    _returned: dict[int, Have]
    _dirty: set[int]
    _unready: set[int]
    _paths_stale: bool

    @property
    def names(self) -> Mapping[int, str]:
        """The names of the nodes by number; follows as nodes come and go."""
        return NodeNames(self.registry)

    def add_node(self, node: Node) -> None:
        """Add a node, which has no links yet; routes reach it once it has registered."""
        self.registry.put_node(node)
        self._paths_stale = True
        self._dirty.add(node.id)
        self._unready.add(node.id)

    def avoid(self, links: Iterable[Link]) -> None:
        """Route around links that are up, until `avoid_no_more`."""
        for link in links:
            link.coming_up = True
        self._paths_stale = True

    def avoid_no_more(self) -> None:
        """Route over links again that are up."""
        for link in self.registry.links.values():
            if link.coming_up and link_states.is_up(self.registry, link):
                link.coming_up = False
                self._paths_stale = True

    def remove_node(self, node_id: int) -> None:
        """Forget a node that is gone and has no links, explicit routes or memberships any more."""
        node = self.registry.node(node_id)
        node.peer, node.expected_back = None, False  # answers under way find it gone
        self.registry.drop_node(node_id)
        for kept in (self._tables, self._trees, self._returned, self.wanted_routes, self.sides):
            kept.pop(node_id, None)
        self.problems.pop(f"node {node_id}", None)
        self._dirty.discard(node_id)
        self._unready.discard(node_id)
        self._paths_stale = True

    def _touch(self, *node_ids: int) -> None:
        self._dirty.update(node_ids)
        self._unready.update(node_ids)


def same_length(one: Link, other: Link, metric: str) -> bool:
    """Tell whether two links between the same nodes are declared as long as each other, both ways."""
    return link_lengths([one], metric) == link_lengths([other], metric)
