"""Track what each node still waits for, and detect when the whole lab becomes ready.

A node is ready when it has reported so, has confirmed its routes and links, and both ends report every link
to a connected neighbour as up. External nodes and the links to them do not count, because their programs may
be started at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from orchestrator.controller.registry import Node, NodeStates, Registry, Wanted

__all__ = ["Readiness"]


class Readiness:
    """Keeps node states and the start barrier.

    Args:
        registry: The nodes.
        wanted_version: A node's routes as they should be, as a version.
        passed: The lab was ready before; a controller that comes back does not wait for everyone again.
    """

    def __init__(
        self, registry: Registry, wanted_version: Callable[[int], int | None], *, passed: bool = False
    ) -> None:
        self._registry = registry
        self._wanted_version = wanted_version
        self.passed = passed

    def missing(self, node: Node) -> str:
        """Return what a node still waits for; empty when it is ready."""
        if node.wanted is not Wanted.RUNNING:
            return f"it was {node.wanted.value} by request"
        if node.peer is None:
            return "it has not registered" if not node.known else "it has not come back"
        if node.problem:
            return node.problem
        sent = node.sent_state
        if sent.routes_confirmed is None or sent.routes_confirmed != self._wanted_version(node.id):
            return "its routes are not installed"
        for remote_id in self._registry.connected(node.id):
            remote = self._registry.node(remote_id)
            if remote.external or remote.peer is None or remote.wanted is Wanted.PAUSED:
                if not self.passed and not remote.external:
                    return f"its neighbour {remote_id} has not registered"
                continue
            _, version = sent.links.get(remote_id, (0, 0))
            if sent.links_confirmed.get(remote_id) != version:
                return _because(f"its link to {remote_id} is not set up", node.links_down.get(remote_id))
            if remote_id not in node.links_up:
                return _because(f"its link to {remote_id} is not up", node.links_down.get(remote_id))
            if node.id not in remote.links_up:
                reason = remote.links_down.get(node.id)
                return _because(f"its link to {remote_id} is not up at the other end", reason)
        return "" if node.reported else "it has not said that it is ready"

    def update(self, nodes: Iterable[Node]) -> list[Node]:
        """Look at nodes again; return those that became ready.

        A ready node stays ready while it is there: a link that goes down later is the link's state.
        """
        became = []
        for node in nodes:
            if node.state is NodeStates.STARTING and not self.missing(node):
                node.state = NodeStates.READY
                became.append(node)
        return became

    def pass_barrier(self) -> bool:
        """Tell whether the lab has become ready just now; True only once."""
        if self.passed or not self.is_complete():
            return False
        self.passed = True
        return True

    def is_complete(self) -> bool:
        """Tell whether every node that counts is ready."""
        return all(node.state is NodeStates.READY for node in self._counting())

    def is_settled(self) -> bool:
        """Tell whether every node that counts is ready and there.

        One whose connection has just broken counts as ready for a moment, because it mostly comes back; who
        waits for the lab must not get the answer that it is ready.
        """
        return self.is_complete() and not any(node.expected_back for node in self._counting())

    def waiting(self, limit: int = 20) -> dict[int, str]:
        """Return the first nodes that are not ready, each with what it waits for."""
        found: dict[int, str] = {}
        for node in self.unready():
            found[node.id] = self.missing(node) or "a moment"
            if len(found) >= limit:
                break
        return found

    def unready(self) -> Iterator[Node]:
        """Return the nodes that are waited for and not ready."""
        for node in self._counting():
            if node.state is not NodeStates.READY or node.expected_back:
                yield node

    def counts(self) -> tuple[int, int]:
        """Return how many nodes are ready, and how many count."""
        counting = list(self._counting())
        return sum(n.state is NodeStates.READY and not n.expected_back for n in counting), len(counting)

    def _counting(self) -> Iterator[Node]:
        """Return the nodes that are waited for: neither external, nor stopped or paused by request."""
        return (node for node in self._registry if not node.external and node.wanted is Wanted.RUNNING)


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason}" if reason else what
