"""Keep the explicit routes of the lab and the pins of flows to them, and each node's part of those in force.

A route over a link that carries nothing is dead: while its pair has another one that is not, it is taken from
the nodes, so that its flows move. Where all routes of a pair are dead, those that were computed give way to
the shortest path that is left. The others stay, and packets are dropped at the link: what somebody states is
not replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from orchestrator.controller.errors import RouteInvalid
from orchestrator.controller.routing import Edge, check_route, children, leads_to
from orchestrator.protocol.messages import Pin, Route
from orchestrator.store import PinRow, RouteRow

__all__ = ["COMPUTED", "OF_FILE", "ExplicitRoutes", "Identity", "identity"]

COMPUTED = "computed"
"""The origin of a route that is one of several shortest paths."""

OF_FILE = ("file", COMPUTED)
"""The origins of routes that follow the controller's file."""

Pair = tuple[int, int]
Identity = tuple[int, int, frozenset[Edge]]
"""What tells one route of the controller's file from another: its nodes and its edges."""


def identity(src: int, dst: int, edges: Iterable[Edge]) -> Identity:
    """Return what tells a route of the file from another one."""
    return src, dst, frozenset(edges)


class ExplicitRoutes:
    """The explicit routes; a change costs as much as it is large, however many routes there are.

    Attributes:
        rows: All of them by number, those that cannot be used included.
        pins: All pins by number.
        dead: The numbers of routes over links that carry nothing.
        of_file: The number of each route of the controller's file, deleted and changed ones included.
    """

    def __init__(self) -> None:
        self.rows: dict[int, RouteRow] = {}
        self.pins: dict[int, PinRow] = {}
        self.dead: set[int] = set()
        self.of_file: dict[Identity, int] = {}
        self._by_pair: dict[Pair, set[int]] = defaultdict(set)  # those that can be used
        self._by_edge: dict[Edge, set[int]] = defaultdict(set)  # likewise
        self._installed: set[int] = set()
        self._by_node: dict[int, dict[int, Route]] = {}
        self._pins_by_node: dict[int, dict[int, Pin]] = {}
        self._pins_by_route: dict[int, set[int]] = defaultdict(set)
        self._carrying: frozenset[Edge] | None = None  # all, until links have been looked at

    def of_node(self, node_id: int) -> Mapping[int, Route]:
        """Return a node's part of the routes in force, by their numbers."""
        return self._by_node.get(node_id, {})

    def begin_at(self, node_id: int) -> bool:
        """Tell whether a route in force begins at a node."""
        return any(route.src_node_id == node_id for route in self.of_node(node_id).values())

    def pins_of_node(self, node_id: int) -> Mapping[int, Pin]:
        """Return the pins of the flows that begin at a node, by their numbers."""
        return self._pins_by_node.get(node_id, {})

    def of_pair(self, src: int, dst: int) -> list[RouteRow]:
        """Return the routes of a pair that can be used, dead ones included, in order."""
        return [self.rows[route_id] for route_id in sorted(self._by_pair.get((src, dst), ()))]

    def state_of(self, route_id: int) -> str:
        """Return `up`, `down` for a dead route, or `invalid` for one that cannot be used."""
        row = self.rows[route_id]
        if route_id not in self._by_pair.get((row.src, row.dst), ()):
            return "invalid"
        return "down" if route_id in self.dead else "up"

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
        pairs: set[Pair] = set()
        for route_id, route in changed.items():
            old = self.rows.pop(route_id, None)
            if old is not None:
                touched |= self._forget(old)
                pairs.add((old.src, old.dst))
            problems.pop(f"route {route_id}", None)
            if route is None:
                continue
            self.rows[route_id] = route
            try:
                check_route(route.src, route.dst, route.edges, links)
            except RouteInvalid as error:
                problems[f"route {route_id}"] = error.message
                continue
            pairs.add((route.src, route.dst))
            self._by_pair[route.src, route.dst].add(route_id)
            for edge in route.edges:
                self._by_edge[edge].add(route_id)
            self._look_at(route)
        return touched | self._install(pairs)

    def set_carrying(self, carrying: frozenset[Edge]) -> set[int]:
        """Set the directions of links that carry packets; return the nodes whose part is another."""
        before, self._carrying = self._carrying, carrying
        differing = carrying ^ before if before is not None else self._by_edge
        found = {route_id for edge in differing for route_id in self._by_edge.get(edge, ())}
        pairs: set[Pair] = set()
        for route_id in found:
            route, was = self.rows[route_id], route_id in self.dead
            self._look_at(route)
            if was != (route_id in self.dead):
                pairs.add((route.src, route.dst))
        return self._install(pairs)

    def change_pins(self, changed: Mapping[int, PinRow | None]) -> set[int]:
        """Add, replace or remove (None) pins by number; return the nodes that have to be told."""
        touched: set[int] = set()
        for pin_id, pin in changed.items():
            old = self.pins.pop(pin_id, None)
            if old is not None:
                self._pins_by_node[old.src].pop(pin_id, None)
                self._pins_by_route[old.route_id].discard(pin_id)
                touched.add(old.src)
            if pin is not None:
                self.pins[pin_id] = pin
                ports = (pin.protocol, pin.src_port, pin.dst_port)
                sent = Pin(pin_id, pin.src, pin.dst, pin.route_id, *ports)
                self._pins_by_node.setdefault(pin.src, {})[pin_id] = sent
                self._pins_by_route[pin.route_id].add(pin_id)
                touched.add(pin.src)
        return touched

    def pins_of_route(self, route_id: int) -> list[int]:
        """Return the numbers of the pins to a route."""
        return sorted(self._pins_by_route.get(route_id, ()))

    def orphaned_pins(self) -> list[int]:
        """Return the numbers of pins whose route is gone, or is one of another pair."""
        found = []
        for pin_id, pin in self.pins.items():
            route = self.rows.get(pin.route_id)
            if route is None or (route.src, route.dst) != (pin.src, pin.dst):
                found.append(pin_id)
        return found

    def _look_at(self, route: RouteRow) -> None:
        """Find out whether a route is dead."""
        carrying = self._carrying
        edges: Iterable[Edge] = route.edges
        if carrying is not None:
            edges = [edge for edge in route.edges if edge in carrying]
        if leads_to(route.src, route.dst, edges):
            self.dead.discard(route.route_id)
        else:
            self.dead.add(route.route_id)

    def _install(self, pairs: Iterable[Pair]) -> set[int]:
        """Give nodes their part of the routes of these pairs that are in force; return those that change."""
        touched: set[int] = set()
        for pair in pairs:
            known = self._by_pair.get(pair)
            if not known:
                self._by_pair.pop(pair, None)
                continue
            wanted = known - self.dead or {each for each in known if self.rows[each].origin != COMPUTED}
            for route_id in (known - wanted) & self._installed:
                touched |= self._take(self.rows[route_id])
            for route_id in wanted - self._installed:
                touched |= self._give(self.rows[route_id])
        return touched

    def _give(self, route: RouteRow) -> set[int]:
        self._installed.add(route.route_id)
        parts = children(route.edges)
        for node, hops in parts.items():
            entry = Route(route.route_id, route.src, route.dst, hops, route.weight)
            self._by_node.setdefault(node, {})[route.route_id] = entry
        return set(parts)

    def _take(self, route: RouteRow) -> set[int]:
        """Take a route from its nodes; return them."""
        self._installed.discard(route.route_id)
        nodes = {node for node, _ in route.edges}
        return {node for node in nodes if self._by_node.get(node, {}).pop(route.route_id, None)}

    def _forget(self, route: RouteRow) -> set[int]:
        """Take a route from its nodes and from the tables; return the nodes."""
        self._by_pair.get((route.src, route.dst), set()).discard(route.route_id)
        for edge in route.edges:
            self._by_edge.get(edge, set()).discard(route.route_id)
        self.dead.discard(route.route_id)
        return self._take(route)
