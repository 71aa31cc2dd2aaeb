"""`AsyncRoutes` and `Routes`: the explicit routes of a lab that is up, and the pins of flows to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import UsageError
from orchestrator.lab import loop_thread
from orchestrator.lab.find import select_node
from orchestrator.lab.operator import CHANGE_S, operator
from orchestrator.protocol import Message
from orchestrator.protocol.messages import (
    AddPin,
    AddRoute,
    ChangeRoute,
    DeletePin,
    DeleteRoute,
    GetExplicitRoutes,
    GetFlowRoutes,
    GetPins,
    Pin,
)

__all__ = ["PROTOCOLS", "AsyncRoutes", "ExplicitRoute", "FlowRoute", "FlowRoutes", "Routes"]

Edges = tuple[tuple[int, int], ...]

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
"""Numbers of protocols above IP by the names that pins may use (RFC 790)."""


@dataclass(frozen=True)
class ExplicitRoute:
    """An explicit route of a pair of nodes.

    Attributes:
        id: Its number.
        src: The node where its packets begin.
        dst: The node where they end.
        edges: The directed links that it uses; with several out of one node, each gets a copy.
        weight: Its weight.
        share: Its share of the flows of its pair at the moment, 0 while it is down.
        state: `up`, `down` where a link of it carries nothing, or `invalid` where it cannot be used.
        origin: `file`, `computed`, `sql` or `operator`.
        pins: The numbers of the pins to it.
    """

    id: int
    src: int
    dst: int
    edges: Edges
    weight: float
    share: float
    state: str
    origin: str
    pins: tuple[int, ...]

    @property
    def path(self) -> tuple[int, ...] | None:
        """Its nodes in order; None where it branches."""
        after = dict(self.edges)
        path = [self.src]
        while path[-1] in after and len(path) <= len(self.edges):
            path.append(after[path[-1]])
        return tuple(path) if len(after) == len(self.edges) == len(path) - 1 else None

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm route … -o json` shows it."""
        return {
            "route_id": self.id,
            "src_node_id": self.src,
            "dst_node_id": self.dst,
            "edges": [list(edge) for edge in self.edges],
            "weight": self.weight,
            "share": self.share,
            "state": self.state,
            "origin": self.origin,
            "pins": list(self.pins),
        }


@dataclass(frozen=True)
class FlowRoute:
    """A flow that begins at a node, and the explicit route that it takes.

    Attributes:
        node: The node.
        flow: Protocol, addresses and ports, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
        route: The number of the route.
        by: Why: `only`, `hash`, `pin`, or `fallback` where the route of its pin is down or gone.
        idle_s: Seconds since its last packet.
    """

    node: int
    flow: str
    route: int
    by: str
    idle_s: float


@dataclass(frozen=True)
class FlowRoutes:
    """The latest flows of nodes and their routes.

    Attributes:
        flows: The flows.
        known: How many the nodes know in all.
        forgotten: How many they have replaced by others while they were in use.
        silent: Nodes that did not answer.
    """

    flows: tuple[FlowRoute, ...]
    known: int
    forgotten: int
    silent: tuple[int, ...]


@dataclass(frozen=True)
class AsyncRoutes:
    """The explicit routes of a lab: `lab.routes`."""

    directory: LabDirectory
    state: LabState

    async def list(
        self, src: int | str | None = None, dst: int | str | None = None
    ) -> Sequence[ExplicitRoute]:
        """Return the routes in order of their numbers, of one source or destination if asked."""
        ends = [0 if end is None else self._node(end) for end in (src, dst)]
        return [_route(each) for each in await self._request(GetExplicitRoutes(*ends))]

    async def add(
        self,
        path: Sequence[int | str] = (),
        *,
        edges: Sequence[tuple[int | str, int | str]] = (),
        src: int | str | None = None,
        dst: int | str | None = None,
        weight: float = 1.0,
    ) -> ExplicitRoute:
        """Add a route of a pair; the flows of the pair are spread over all of its routes by weight.

        Args:
            path: The nodes in order, both ends included.
            edges: The directed links in place of a path, for a route that branches; with `src` and `dst`.
            src: The node where packets begin; the first of the path.
            dst: The node where they end; the last of the path.
            weight: Its weight.

        Raises:
            PeerError: It is no route of the pair over links of the lab (`route.invalid`), or its weight is
                wrong (`route.weight`).
        """
        if not path and (src is None or dst is None):
            raise UsageError("which route?", expected="a path, or `edges` with `src` and `dst`")
        nodes = self._nodes(path)
        first = nodes[0] if src is None else self._node(src)
        last = nodes[-1] if dst is None else self._node(dst)
        wanted = AddRoute(first, last, nodes, self._edges(edges), float(weight))
        return _route(await self._request(wanted))

    async def set(
        self,
        route: int,
        *,
        path: Sequence[int | str] = (),
        edges: Sequence[tuple[int | str, int | str]] = (),
        weight: float | None = None,
    ) -> ExplicitRoute:
        """Change the weight of a route, its path or edges, or both."""
        wanted = None if weight is None else float(weight)
        return _route(await self._request(ChangeRoute(route, self._nodes(path), self._edges(edges), wanted)))

    async def remove(self, *routes: int) -> Sequence[ExplicitRoute]:
        """Delete routes with the pins to them; return what they were."""
        return [_route(await self._request(DeleteRoute(route))) for route in routes]

    async def pin(
        self,
        route: int,
        *,
        protocol: int | str | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> Pin:
        """Let flows of the pair of a route take this route, also those that are under way.

        A pin to a route that is down has no effect until it is up: its flows are spread over the others.

        Args:
            route: The number of the route.
            protocol: `tcp`, `udp`, `icmp` or a number; every protocol unless given.
            src_port: The source's port; every port unless given.
            dst_port: The destination's port; every port unless given.
        """
        return Pin(**await self._request(AddPin(route, _protocol(protocol), src_port, dst_port)))

    async def unpin(self, *pins: int) -> Sequence[Pin]:
        """Delete pins, so that their flows are spread again; return what they were."""
        return [Pin(**await self._request(DeletePin(pin))) for pin in pins]

    async def pins(self) -> Sequence[Pin]:
        """Return all pins in order of their numbers."""
        return [Pin(**each) for each in await self._request(GetPins())]

    async def flows(self, node: int | str | None = None, *, limit: int = 1_000) -> FlowRoutes:
        """Return the latest flows that begin at a node, or at all, and take explicit routes, and which."""
        number = 0 if node is None else self._node(node)
        read = await self._request(GetFlowRoutes(number, limit))
        flows = [
            FlowRoute(each["node_id"], each["flow"], each["route_id"], each["by"], each["idle_ms"] / 1000)
            for each in read["flows"]
        ]
        return FlowRoutes(tuple(flows), read["known"], read["forgotten"], tuple(read["silent"]))

    def _node(self, which: int | str) -> int:
        return select_node(self.state, str(which))

    def _nodes(self, words: Sequence[int | str]) -> tuple[int, ...]:
        return tuple(self._node(word) for word in words)

    def _edges(self, edges: Sequence[tuple[int | str, int | str]]) -> Edges:
        return tuple((self._node(a), self._node(b)) for a, b in edges)

    async def _request(self, message: Message) -> Any:
        async with operator(self.directory, self.state) as connection:
            reply = await connection.connection.request(message, within=CHANGE_S)
            return getattr(reply, "value", None)


class Routes:
    """The explicit routes of a lab, for blocking code; every method calls that of `AsyncRoutes`."""

    def __init__(self, inner: AsyncRoutes) -> None:
        self._inner = inner

    def list(self, src: int | str | None = None, dst: int | str | None = None) -> Sequence[ExplicitRoute]:
        """Return the routes in order of their numbers, of one source or destination if asked."""
        return loop_thread.call(self._inner.list(src, dst))

    def add(
        self,
        path: Sequence[int | str] = (),
        *,
        edges: Sequence[tuple[int | str, int | str]] = (),
        src: int | str | None = None,
        dst: int | str | None = None,
        weight: float = 1.0,
    ) -> ExplicitRoute:
        """Add a route of a pair, such as `add([1, 2, 3], weight=2)`; see `AsyncRoutes.add`."""
        return loop_thread.call(self._inner.add(path, edges=edges, src=src, dst=dst, weight=weight))

    def set(
        self,
        route: int,
        *,
        path: Sequence[int | str] = (),
        edges: Sequence[tuple[int | str, int | str]] = (),
        weight: float | None = None,
    ) -> ExplicitRoute:
        """Change the weight of a route, its path or edges, or both."""
        return loop_thread.call(self._inner.set(route, path=path, edges=edges, weight=weight))

    def remove(self, *routes: int) -> Sequence[ExplicitRoute]:
        """Delete routes with the pins to them; return what they were."""
        return loop_thread.call(self._inner.remove(*routes))

    def pin(
        self,
        route: int,
        *,
        protocol: int | str | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
    ) -> Pin:
        """Let flows of the pair of a route take this route; see `AsyncRoutes.pin`."""
        pinned = self._inner.pin(route, protocol=protocol, src_port=src_port, dst_port=dst_port)
        return loop_thread.call(pinned)

    def unpin(self, *pins: int) -> Sequence[Pin]:
        """Delete pins, so that their flows are spread again; return what they were."""
        return loop_thread.call(self._inner.unpin(*pins))

    def pins(self) -> Sequence[Pin]:
        """Return all pins in order of their numbers."""
        return loop_thread.call(self._inner.pins())

    def flows(self, node: int | str | None = None, *, limit: int = 1_000) -> FlowRoutes:
        """Return the latest flows that take explicit routes, and which; see `AsyncRoutes.flows`."""
        return loop_thread.call(self._inner.flows(node, limit=limit))


def _protocol(word: int | str | None) -> int | None:
    if word is None or isinstance(word, int):
        return word
    if word.lower() in PROTOCOLS:
        return PROTOCOLS[word.lower()]
    if word.isdecimal() and int(word) < 256:
        return int(word)
    raise UsageError(
        f"`{word}` is no protocol",
        id="pin.protocol",
        found=word,
        expected=f"{', '.join(PROTOCOLS)} or a number up to 255",
    )


def _route(read: dict[str, Any]) -> ExplicitRoute:
    return ExplicitRoute(
        read["route_id"],
        read["src_node_id"],
        read["dst_node_id"],
        tuple((a, b) for a, b in read["edges"]),
        read["weight"],
        read["share"],
        read["state"],
        read["origin"],
        tuple(read["pins"]),
    )
