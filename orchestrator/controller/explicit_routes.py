"""Keep the explicit routes of the lab, and each node's part of those that can be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.controller.errors import RouteInvalid
from orchestrator.controller.routing import Edge, check_route, children
from orchestrator.protocol.messages import Route
from orchestrator.store import RouteRow

__all__ = ["ExplicitRoutes"]


class ExplicitRoutes:
    """The explicit routes; a change costs as much as it is large, however many routes there are.

    Attributes:
        rows: All of them by number, those that cannot be used included.
    """

    def __init__(self) -> None:
        self.rows: dict[int, RouteRow] = {}
        self._by_node: dict[int, dict[int, Route]] = {}

    def of_node(self, node_id: int) -> Mapping[int, Route]:
        """Return a node's part of the routes, by their numbers."""
        return self._by_node.get(node_id, {})

    def change(
        self, changed: Mapping[int, RouteRow | None], links: Collection[Edge], problems: dict[str, str]
    ) -> set[int]:
        """Add, replace or remove (None) routes by number; return the nodes whose part is another.

        Args:
            changed: The routes.
            links: Pairs of linked nodes, the lesser first.
            problems: Routes that cannot be used are named here, and left out.
        """
        touched: set[int] = set()
        for route_id, route in changed.items():
            touched |= self._remove(route_id)
            problems.pop(f"route {route_id}", None)
            if route is None:
                continue
            self.rows[route_id] = route
            try:
                check_route(route.src, route.dst, route.edges, links)
            except RouteInvalid as error:
                problems[f"route {route_id}"] = error.message
                continue
            for node, hops in children(route.edges).items():
                entry = Route(route_id, route.src, route.dst, hops)
                self._by_node.setdefault(node, {})[route_id] = entry
                touched.add(node)
        return touched

    def _remove(self, route_id: int) -> set[int]:
        """Remove a route; return the nodes that had a part of it."""
        route = self.rows.pop(route_id, None)
        nodes = {node for node, _ in route.edges} if route else set()
        return {node for node in nodes if self._by_node.get(node, {}).pop(route_id, None)}
