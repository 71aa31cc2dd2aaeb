"""Build the simulated network of a run: nodes, links, routes, and what its timeline makes of them.

The changes of a timeline are known before the run starts, and so are the routes that follow from them. They
are computed here, and the simulation only carries them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator.controller.explicit_routes import COMPUTED, ExplicitRoutes
from orchestrator.controller.registry import Link, link_lengths
from orchestrator.controller.routing import next_hop_tables
from orchestrator.impairment import LinkSpec
from orchestrator.node import dataplane
from orchestrator.plan.paths import computed_routes
from orchestrator.plan.ttl import ttl_mode
from orchestrator.protocol import messages as m
from orchestrator.protocol.messages import TimelineChange
from orchestrator.store import RouteRow
from orchestrator.topology import Topology

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Simulation

__all__ = ["build_network"]

USER_BASE = "192.168.0.0"
"""The first address of the range from which nodes send user-space flows; that of labs."""

Direction = tuple[int, int]


def build_network(
    topology: Topology, timeline: Iterable[TimelineChange], seed: int, until_us: int
) -> Simulation:
    """Return the simulation of a topology, with a timeline and without flows.

    Args:
        topology: The network.
        timeline: Changes of its links, in order of time.
        seed: Drives every draw.
        until_us: The virtual time in microseconds at which it ends.

    Raises:
        ValueError: A link cannot do what it is asked to.
    """
    simulation = dataplane.simulation(
        [(node.id, node.name, node.mtu) for node in topology.nodes.values()],
        base_addr=topology.base_addr,
        net_mask=topology.net_mask,
        user_base_addr=USER_BASE,
        seed=seed,
        pipe=ttl_mode(topology) == "pipe",
        until_us=until_us,
    )
    links = _Links(topology)
    state = links.state()
    for link in links:
        forward, backward = ((link.a, link.b), (link.b, link.a))
        simulation.connect(link.a, link.b, *(_message(*state[way]) for way in (forward, backward)))
    tables: dict[int, bytes] = {}
    carried = dict.fromkeys(((link.a, link.b) for link in links), True)
    links.set_routes(topology)
    _follow(simulation, links, 0, tables, carried)
    for at_us, changes in groupby(timeline, key=lambda change: change.at_us):
        for change in changes:
            links.apply(change)
        after = links.state()
        for (start, end), (spec, down) in after.items():
            if state[start, end] != (spec, down):
                simulation.set_link(at_us, start, end, spec.to_message(), down)
        state = after
        _follow(simulation, links, at_us, tables, carried)
    return simulation


class _Links:
    """The links of a network, as the controller keeps them, and what changes make of them."""

    def __init__(self, topology: Topology) -> None:
        self._nodes = tuple(topology.nodes)
        self._routed = topology.routing == "shortest_path"
        self._links = {
            (link.a, link.b): Link(
                link.a,
                link.b,
                forward=link.forward,
                backward=link.backward,
                forward_down=link.forward_down,
                backward_down=link.backward_down,
                forward_down_declared=link.forward_down,
                backward_down_declared=link.backward_down,
            )
            for link in topology.links
        }
        self._lengths = link_lengths(self._links.values(), topology.metric)
        self._explicit = ExplicitRoutes()
        self._touched: set[int] = set()
        self._had: dict[int, set[Direction]] = {}  # the pairs of a node's explicit routes

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def apply(self, change: TimelineChange) -> None:
        """Make a change."""
        if change.do in ("partition", "heal"):
            side = {node: number for number, group in enumerate(change.groups) for node in group}
            for link in self._links.values():
                link.partitioned = side.get(link.a, -1) != side.get(link.b, -1) and {link.a, link.b} <= set(
                    side
                )
            return
        for link in self._links.values():
            if not change.a or {link.a, link.b} == {change.a, change.b}:
                for start in _starts(change, link):
                    _change_direction(link, start, change)

    def state(self) -> dict[Direction, tuple[LinkSpec, bool]]:
        """Return what each direction does, and whether it alone is down."""
        found = {}
        for link in self._links.values():
            for start, end, way in ((link.a, link.b, "forward"), (link.b, link.a, "backward")):
                found[start, end] = link.spec_from(start), link.down == way
        return found

    def carried(self) -> dict[Direction, bool]:
        """Return whether each link carries packets in one direction at least."""
        return {ends: link.down != "both" for ends, link in self._links.items()}

    def tables(self) -> Mapping[int, bytes]:
        """Return the forwarding table of each node; none is computed where routes are explicit alone."""
        if not self._routed:
            return {}
        usable = [link for link in self._links.values() if link.down != "both"]
        one_way = [(x.a, x.b) if x.down == "forward" else (x.b, x.a) for x in usable if x.down]
        ends = [(x.a, x.b) for x in usable]
        return next_hop_tables(self._nodes, ends, self._nodes, one_way, self._lengths)

    def set_routes(self, topology: Topology) -> None:
        """Take the explicit routes, numbered as in a lab."""
        routes = enumerate((*topology.routes, *computed_routes(topology)), start=1)
        rows = {
            number: RouteRow(number, x.src, x.dst, x.edges, COMPUTED if x.computed else "file", x.weight)
            for number, x in routes
        }
        self._touched = self._explicit.change(rows, self._links, {})

    def explicit(self) -> Iterator[tuple[int, list[m.Route], list[Direction]]]:
        """Yield each node whose explicit routes changed, with them and with the pairs that it has or had."""
        carrying = frozenset(
            way for x in self._links.values() for way in ((x.a, x.b), (x.b, x.a)) if x.carries_from(way[0])
        )
        touched, self._touched = self._touched | self._explicit.set_carrying(carrying), set()
        for node in sorted(touched):
            routes = list(self._explicit.of_node(node).values())
            had, self._had[node] = self._had.get(node, set()), {_pair(route) for route in routes}
            yield node, routes, sorted(had | self._had[node])


def _starts(change: TimelineChange, link: Link) -> tuple[int, ...]:
    """Return the ends that send in the directions that a change is about."""
    if not change.a or change.direction == "both":
        return link.a, link.b
    return (change.a,) if change.direction == "forward" else (change.b,)


def _change_direction(link: Link, start: int, change: TimelineChange) -> None:
    if change.do in ("down", "up"):
        link.take_down(start, down=change.do == "down")
    elif change.do == "reset":
        link.set_from(start, None)
        link.take_down(start, down=link.declared_down_from(start))
    elif change.spec is not None:
        spec = change.spec if change.backward is None or start == change.a else change.backward
        link.set_from(start, spec if change.whole else spec.over(link.spec_from(start)))


def _follow(
    simulation: Simulation,
    links: _Links,
    at_us: int,
    tables: dict[int, bytes],
    carried: dict[Direction, bool],
) -> None:
    """Plan what follows from the state of the links: which carry packets, and the routes."""
    for ends, carries in links.carried().items():
        if carried[ends] != carries:
            carried[ends] = carries
            simulation.set_carrier(at_us, *ends, carries)
    for node, table in links.tables().items():
        if tables.get(node) != table:
            tables[node] = table
            simulation.set_table(at_us, node, memoryview(table).cast("I").tolist())
    for node, routes, removed in links.explicit():
        parts = [(*_pair(x), x.route_id, x.weight, list(x.next_hops)) for x in routes]
        simulation.set_routes(at_us, node, parts, removed)


def _pair(route: m.Route) -> Direction:
    return route.src_node_id, route.dst_node_id


def _message(spec: LinkSpec, down: bool) -> tuple[Mapping[str, object], bool]:
    return spec.to_message(), down
