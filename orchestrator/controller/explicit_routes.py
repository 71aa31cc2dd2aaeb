"""Keep the explicit routes of the lab and the pins of flows to them, and each node's part of those in force.

A change of a route goes through its nodes in steps (`route_steps`): each step waits until the nodes of the
one before have confirmed it, those that do not answer aside.

A route over a link that carries nothing is dead: while its pair has another one that is not, it is taken from
the nodes, so that its flows move. Where all routes of a pair are dead, those that were computed give way to
the shortest path that is left. The others stay, and packets are dropped at the link: what somebody states is
not replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.controller.errors import RouteInvalid
from orchestrator.controller.route_steps import Parts, Step, steps
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


def _nobody(_node: int) -> bool:
    return False


@dataclass(slots=True)
class _Change:
    """A change of a route that is under way: the steps to come, and the nodes that have to confirm before."""

    steps: list[Step]
    awaited: set[int] = field(default_factory=set)


class ExplicitRoutes:
    """The explicit routes; a change costs as much as it is large, however many routes there are.

    Attributes:
        rows: All of them by number, those that cannot be used included.
        pins: All pins by number.
        dead: The numbers of routes over links that carry nothing.
        of_file: The number of each route of the controller's file, deleted and changed ones included.
        answers: Tells whether a node can be waited for; nobody is, until that is set.
    """

    def __init__(self) -> None:
        self.rows: dict[int, RouteRow] = {}
        self.pins: dict[int, PinRow] = {}
        self.dead: set[int] = set()
        self.of_file: dict[Identity, int] = {}
        self.answers: Callable[[int], bool] = _nobody
        self._by_pair: dict[Pair, set[int]] = defaultdict(set)  # those that can be used
        self._by_edge: dict[Edge, set[int]] = defaultdict(set)  # likewise
        self._installed: set[int] = set()
        self._by_node: dict[int, dict[int, Route]] = {}
        self._parts: dict[int, dict[int, Route]] = {}  # the same by route
        self._changes: dict[int, _Change] = {}
        self._awaited: dict[int, set[int]] = {}  # the routes for which nodes are waited
        self._pins_by_node: dict[int, dict[int, Pin]] = {}
        self._pins_by_route: dict[int, set[int]] = defaultdict(set)
        self._carrying: frozenset[Edge] | None = None  # all, until links have been looked at

    def of_node(self, node_id: int) -> Mapping[int, Route]:
        """Return a node's part of the routes in force, by their numbers."""
        return self._by_node.get(node_id, {})

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
        pairs: set[Pair] = set()
        for route_id, route in changed.items():
            old = self.rows.pop(route_id, None)
            if old is not None:
                self._forget(old)
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
        return self._install(pairs, changed)

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

    @property
    def awaited(self) -> Collection[int]:
        """The nodes that have to confirm their routes before a change goes on."""
        return self._awaited.keys()

    def awaited_by(self, route_id: int) -> Collection[int] | None:
        """Return the nodes for which the change of a route waits; None if none is under way."""
        change = self._changes.get(route_id)
        return None if change is None else change.awaited

    @property
    def changing(self) -> Collection[int]:
        """The numbers of routes whose change is under way."""
        return self._changes.keys()

    def confirmed(self, node_ids: Iterable[int]) -> set[int]:
        """Go on with the changes that waited for nodes; return the nodes whose part is another."""
        waited = {node: self._awaited.pop(node, set()) for node in node_ids}
        # All of them first: a step of one route may wait anew for a node that has confirmed another one.
        for node, route_ids in waited.items():
            for route_id in route_ids:
                self._changes[route_id].awaited.discard(node)
        touched: set[int] = set()
        for route_id in sorted(set[int]().union(*waited.values())):
            touched |= self._go_on(route_id)
        return touched

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

    def _install(self, pairs: Iterable[Pair], changed: Collection[int] = ()) -> set[int]:
        """Give nodes their part of the routes of these pairs that are in force; return those that change.

        Args:
            pairs: The pairs.
            changed: The numbers of routes that were added, replaced or removed.
        """
        touched: set[int] = set()
        wanted: set[int] = set()
        for pair in pairs:
            known = self._by_pair.get(pair)
            if not known:
                self._by_pair.pop(pair, None)
                continue
            in_force = known - self.dead or {each for each in known if self.rows[each].origin != COMPUTED}
            for route_id in sorted((known - in_force) & self._installed):
                touched |= self._take(route_id)
            for route_id in sorted(in_force):
                if route_id not in self._installed or route_id in changed:
                    touched |= self._give(self.rows[route_id])
            wanted |= in_force
        for route_id in changed:
            if route_id not in wanted:
                touched |= self._take(route_id)
        return touched

    def _give(self, route: RouteRow) -> set[int]:
        self._installed.add(route.route_id)
        ends = (route.route_id, route.src, route.dst)
        parts = {node: Route(*ends, hops, route.weight) for node, hops in children(route.edges).items()}
        return self._begin(route.route_id, parts)

    def _take(self, route_id: int) -> set[int]:
        """Take a route from its nodes; return those of them that are told at once."""
        self._installed.discard(route_id)
        return self._begin(route_id, {})

    def _begin(self, route_id: int, wanted: Parts) -> set[int]:
        """Begin to change a route, in place of a change that is under way; return the nodes told at once."""
        before = self._changes.pop(route_id, None)
        # What was sent and not confirmed has to be, before others build on it.
        awaited = before.awaited if before else set()
        found = steps(self._parts.get(route_id, {}), wanted)
        if found or awaited:
            self._changes[route_id] = _Change(found, awaited)
            return self._go_on(route_id)
        return set()

    def _go_on(self, route_id: int) -> set[int]:
        """Take the steps that need not wait; return the nodes whose part is another."""
        change = self._changes[route_id]
        touched: set[int] = set()
        # A node takes its own messages in order, so that a step need not wait for those who take it.
        while (todo := change.steps) and not (todo[0].waits and change.awaited - todo[0].parts.keys()):
            for node, part in change.steps.pop(0).parts.items():
                self._set(node, route_id, part)
                touched.add(node)
                if self.answers(node):
                    change.awaited.add(node)
                    self._awaited.setdefault(node, set()).add(route_id)
        if not change.steps and not change.awaited:
            del self._changes[route_id]
        return touched

    def _set(self, node: int, route_id: int, part: Route | None) -> None:
        of_node, of_route = self._by_node.setdefault(node, {}), self._parts.setdefault(route_id, {})
        if part is not None:
            of_node[route_id] = of_route[node] = part
            return
        of_node.pop(route_id, None)
        of_route.pop(node, None)
        if not of_route:
            del self._parts[route_id]

    def _forget(self, route: RouteRow) -> None:
        """Take a route from the tables; its nodes have it until `_install`."""
        self._by_pair.get((route.src, route.dst), set()).discard(route.route_id)
        for edge in route.edges:
            self._by_edge.get(edge, set()).discard(route.route_id)
        self.dead.discard(route.route_id)
