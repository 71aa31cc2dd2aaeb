"""Check explicit routes: over existing links, without a cycle, complete to the destination."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from orchestrator.errors import Place, quoted
from orchestrator.source import Problems, Value
from orchestrator.topology.model import Link, Node, Route
from orchestrator.topology.nodes import find_node, note_unknown

__all__ = ["build_routes"]

Read = Mapping[str, Any]
Edge = tuple[int, int]


def build_routes(
    root: Read,
    nodes: Mapping[int, Node],
    links: Sequence[Link],
    by_name: Mapping[str, int],
    problems: Problems,
) -> tuple[Route, ...]:
    """Return the routes that hold, after noting what is wrong with the others."""
    checker = _Checker(nodes, links, by_name, problems)
    routes: dict[tuple[int, int, frozenset[Edge]], Place] = {}
    built: list[Route] = []
    for entry in root.get("routes", []):
        route = checker.route(entry)
        if route is None:
            continue
        place = entry["@"].place
        there = routes.setdefault((route.src, route.dst, frozenset(route.edges)), place)
        if there is not place:
            problems.add(
                f"route {route.src} → {route.dst} is already there in line {there.line}",
                "duplicate-route",
                place,
                hint="several routes of one pair are fine if they differ",
            )
            continue
        built.append(route)
    return tuple(built)


class _Checker:
    def __init__(
        self,
        nodes: Mapping[int, Node],
        links: Sequence[Link],
        by_name: Mapping[str, int],
        problems: Problems,
    ) -> None:
        self._nodes = nodes
        self._by_name = by_name
        self._problems = problems
        self._pairs = {(link.a, link.b) for link in links} | {(link.b, link.a) for link in links}

    def route(self, entry: Read) -> Route | None:
        value: Value = entry["@"]
        if "from" not in entry or "to" not in entry:
            return None
        if not self._exactly_one(entry, value):
            return None
        title = f"route {entry['from'].data} → {entry['to'].data}"
        src, dst = self._node(entry["from"], title), self._node(entry["to"], title)
        if src is None or dst is None:
            return None
        if src == dst:
            self._note(f"{title} ends where it starts", "route-to-itself", entry["to"].place)
            return None
        weight = float(entry.get("weight", 1.0))
        if "path" in entry:
            found = self._path(title, src, dst, entry["path"])
            return found and replace(found, weight=weight)
        written = value.get("edges")
        if written is None or len(entry["edges"]) < len(written.sequence or ()):
            return None  # an edge could not be read, and that has been noted
        found = self._dag(title, src, dst, entry["edges"], written.place)
        return found and replace(found, weight=weight)

    def _exactly_one(self, entry: Read, value: Value) -> bool:
        stated = [key for key in ("path", "edges") if value.get(key) is not None]
        if len(stated) == 1:
            return stated[0] in entry
        found = "both `path` and `edges`" if stated else "neither `path` nor `edges`"
        self._problems.add(
            f"the route has {found}",
            "route-form",
            value.place,
            expected="one of `path`, `edges`",
            hint="`path: [1, 2, 3]` is a sequence of nodes, `edges: [[1, 2], [2, 3]]` may branch",
        )
        return False

    def _path(self, title: str, src: int, dst: int, stops: list[Value]) -> Route | None:
        path = [self._node(stop, title) for stop in stops]
        known = [stop for stop in path if stop is not None]
        if len(known) < len(path) or len(path) < 2:
            return None
        noted = len(self._problems)
        if known[0] != src:
            self._note(
                f"{title} starts at node {known[0]}, not at {src}",
                "route-start",
                stops[0].place,
                found=str(known[0]),
                expected=f"node {src}",
                hint=f"let the path begin with `{src}`",
            )
        if known[-1] != dst:
            self._note(
                f"{title} does not reach node {dst}: it ends at {known[-1]}",
                "route-reach",
                stops[-1].place,
                found=str(known[-1]),
                expected=f"node {dst}",
                hint=f"let the path end with `{dst}`",
            )
        seen: set[int] = set()
        for stop, number in zip(stops, known, strict=True):
            if number in seen:
                self._note(f"{title} comes to node {number} twice", "route-cycle", stop.place)
            seen.add(number)
        for stop, edge in zip(stops[1:], pairwise(known), strict=True):
            self._linked(title, edge, stop.place)
        if len(self._problems) > noted:
            return None
        return Route(src=src, dst=dst, edges=tuple(pairwise(known)), path=tuple(known))

    def _dag(self, title: str, src: int, dst: int, pairs: list[list[Value]], place: Place) -> Route | None:
        noted = len(self._problems)
        edges: dict[Edge, Place] = {}
        for pair in pairs:
            ends = [self._node(end, title) for end in pair]
            if len(ends) != 2 or ends[0] is None or ends[1] is None:
                continue
            edge = (ends[0], ends[1])
            if edge in edges:
                self._note(f"{title} has the edge {_arrow(edge)} twice", "route-edge", pair[0].place)
            edges[edge] = pair[0].place
            self._linked(title, edge, pair[0].place)
        if len(self._problems) == noted:
            self._flows(title, src, dst, edges, place)
        if len(self._problems) > noted:
            return None
        return Route(src=src, dst=dst, edges=tuple(edges))

    def _flows(self, title: str, src: int, dst: int, edges: Mapping[Edge, Place], place: Place) -> None:
        """Note what keeps a packet at `src` from coming to `dst`, and to nowhere else."""
        forward, backward = _adjacent(edges), _adjacent((b, a) for a, b in edges)
        cycle = _cycle(forward)
        if cycle:
            shown = " → ".join(str(node) for node in cycle)
            self._note(f"{title} runs in a circle: {shown}", "route-cycle", edges[cycle[0], cycle[1]])
            return
        reached, useful = _reach(src, forward), _reach(dst, backward)
        if dst not in reached:
            ends = sorted(node for node in reached if not forward.get(node))
            where = (
                f"it ends at {', '.join(map(str, ends))}" if src in forward else f"nothing leaves node {src}"
            )
            self._note(
                f"{title} does not reach node {dst}: {where}",
                "route-reach",
                place,
                found=", ".join(_arrow(edge) for edge in edges),
                expected=f"edges that lead from node {src} to node {dst}",
                hint=f"add edges that lead on to node {dst}"
                if src in forward
                else f"add an edge `[{src}, …]`",
            )
            return
        for edge, at in edges.items():
            if edge[0] not in reached:
                self._note(f"{title} never comes to the edge {_arrow(edge)}", "route-edge", at)
            elif edge[1] not in useful:
                self._note(f"{title} leads nowhere over the edge {_arrow(edge)}", "route-edge", at)
            elif edge[0] == dst:
                self._note(f"{title} goes on beyond its end over {_arrow(edge)}", "route-edge", at)

    def _node(self, value: Value, title: str) -> int | None:
        number = find_node(value, self._nodes, self._by_name)
        if number is None:
            note_unknown(title, value, self._nodes, self._problems)
        return number

    def _linked(self, title: str, edge: Edge, place: Place) -> None:
        if edge in self._pairs or edge[0] == edge[1]:
            if edge[0] == edge[1]:
                self._note(f"{title} has an edge from node {edge[0]} to itself", "route-edge", place)
            return
        beside = sorted(b for a, b in self._pairs if a == edge[0])
        hint = f"node {edge[0]} is linked to {quoted(beside)}" if beside else f"node {edge[0]} has no links"
        self._problems.add(
            f"{title} uses the link {edge[0]}–{edge[1]}, which is not there",
            "route-link",
            place,
            found=_arrow(edge),
            expected="a link of this topology",
            hint=hint,
        )

    def _note(
        self,
        message: str,
        id: str,
        place: Place,
        *,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self._problems.add(message, id, place, found=found, expected=expected, hint=hint)


def _arrow(edge: Edge) -> str:
    return f"{edge[0]} → {edge[1]}"


def _adjacent(edges: Iterable[Edge]) -> dict[int, list[int]]:
    adjacent: dict[int, list[int]] = defaultdict(list)
    for a, b in edges:
        adjacent[a].append(b)
    return dict(adjacent)


def _reach(start: int, adjacent: Mapping[int, list[int]]) -> set[int]:
    reached, todo = {start}, [start]
    while todo:
        for node in adjacent.get(todo.pop(), ()):
            if node not in reached:
                reached.add(node)
                todo.append(node)
    return reached


def _cycle(adjacent: Mapping[int, list[int]]) -> list[int]:
    """Return the nodes of a directed cycle, first one repeated at the end, or nothing."""
    done: set[int] = set()
    for start in adjacent:
        trail: list[int] = []
        on_trail: set[int] = set()
        # Each entry is a node to visit, or the negative of one to leave again.
        todo = [start]
        while todo:
            node = todo.pop()
            if node < 0:
                on_trail.discard(trail.pop())
                done.add(-node)
                continue
            if node in on_trail:
                return [*trail[trail.index(node) :], node]
            if node in done:
                continue
            trail.append(node)
            on_trail.add(node)
            todo.append(-node)
            todo += adjacent.get(node, ())
    return []
