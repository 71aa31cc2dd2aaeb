"""Handle requests of operators about routes, pins, and the routes that flows take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.controller import route_changes
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import RouteNotApplied, RouteNotStored
from orchestrator.controller.link_changes import (
    MAX_CAUSE,
    STORE_LIMIT,
    routes_versions,
    unchanged_route,
    unrouted_node,
)
from orchestrator.errors import NmError
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["RouteRequests"]

APPLY_LIMIT = 5.0
"""Seconds that nodes have to confirm a change."""

ASK_LIMIT = 5.0
"""Seconds that nodes have to list their flows."""

MOST_FLOWS = 10_000
"""Flows of one answer, about a megabyte."""


class RouteRequests:
    """Handles requests about routes: each change is in force and stored when it is acknowledged."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetRoutes: self._get,
            m.GetExplicitRoutes: self._get_explicit,
            m.AddRoute: self._add,
            m.ChangeRoute: self._change,
            m.DeleteRoute: self._delete,
            m.GetPins: self._get_pins,
            m.AddPin: self._pin,
            m.DeletePin: self._unpin,
            m.GetFlowRoutes: self._get_flows,
        }

    async def _get(self, session: Session, frame: Frame, message: m.GetRoutes) -> None:
        lab = self._core.lab
        node = lab.registry.node(message.node_id)  # refuses a number that no node has
        wanted = lab.wanted_routes.get(node.id)
        table, explicit = (wanted.table, tuple(wanted.explicit.values())) if wanted else (b"", ())
        session.connection.reply(frame, m.Routes(frame.id, node.id, table, explicit))

    async def _get_explicit(self, session: Session, frame: Frame, message: m.GetExplicitRoutes) -> None:
        core = self._core
        src, dst = message.src_node_id, message.dst_node_id
        for node_id in filter(None, (src, dst)):
            core.lab.registry.node(node_id)
        rows = [core.lab.explicit.rows[route_id] for route_id in sorted(core.lab.explicit.rows)]
        found = [row for row in rows if src in (0, row.src) and dst in (0, row.dst)]
        session.connection.ack(frame, [route_changes.details(core, row) for row in found])

    async def _add(self, session: Session, frame: Frame, message: m.AddRoute) -> None:
        form = (message.path, message.edges, message.weight)
        row = await route_changes.new_route(self._core, message.src_node_id, message.dst_node_id, *form)
        before = routes_versions(self._core)
        route_changes.add_route(self._core, row, message.cause[:MAX_CAUSE])
        await self._in_force(before, row.route_id)
        session.connection.ack(frame, route_changes.details(self._core, row))

    async def _change(self, session: Session, frame: Frame, message: m.ChangeRoute) -> None:
        form = (message.path, message.edges, message.weight, message.cause[:MAX_CAUSE])
        before = routes_versions(self._core)
        row = route_changes.change_route(self._core, message.route_id, *form)
        await self._in_force(before, row.route_id)
        session.connection.ack(frame, route_changes.details(self._core, row))

    async def _delete(self, session: Session, frame: Frame, message: m.DeleteRoute) -> None:
        row = route_changes.known_route(self._core, message.route_id)
        was = route_changes.details(self._core, row)
        before = routes_versions(self._core)
        route_changes.delete_route(self._core, message.route_id, message.cause[:MAX_CAUSE])
        await self._in_force(before, row.route_id)
        session.connection.ack(frame, was)

    async def _get_pins(self, session: Session, frame: Frame, message: m.GetPins) -> None:
        pins = self._core.lab.explicit.pins
        session.connection.ack(frame, [route_changes.pin_details(pins[pin_id]) for pin_id in sorted(pins)])

    async def _pin(self, session: Session, frame: Frame, message: m.AddPin) -> None:
        flows = (message.protocol, message.src_port, message.dst_port)
        pin = await route_changes.new_pin(self._core, message.route_id, *flows)
        before = routes_versions(self._core)
        route_changes.add_pin(self._core, pin, message.cause[:MAX_CAUSE])
        await self._in_force(before)
        session.connection.ack(frame, route_changes.pin_details(pin))

    async def _unpin(self, session: Session, frame: Frame, message: m.DeletePin) -> None:
        before = routes_versions(self._core)
        pin = route_changes.delete_pin(self._core, message.pin_id, message.cause[:MAX_CAUSE])
        await self._in_force(before)
        session.connection.ack(frame, route_changes.pin_details(pin))

    async def _in_force(self, before: Mapping[int, int | None], *routes: int) -> None:
        """Send a change, and wait until the nodes have it and it is stored.

        Args:
            before: The versions of the routes of all nodes before the change.
            routes: The numbers of routes that change.

        Raises:
            RouteNotApplied: A node has not confirmed it in time.
            RouteNotStored: Postgres has not taken it in time.
        """
        core = self._core
        core.pump()

        def missing() -> str:
            after = routes_versions(core).items()
            concerned = [node_id for node_id, version in after if before.get(node_id) != version]
            return unchanged_route(core, routes) or unrouted_node(core, concerned)

        applied = await core.wait_until(lambda: not missing(), APPLY_LIMIT)
        if not await core.store.stored(STORE_LIMIT):
            raise RouteNotStored(
                f"the change is in force, but Postgres has not taken it in {STORE_LIMIT:g} s",
                hint="it is kept when Postgres is back, and lost if the controller ends before",
            )
        if not applied:
            raise RouteNotApplied(
                f"the change is stored, but {missing() or 'not in time'}",
                hint="it will be applied when the node answers; until then the source sends as before",
            )

    # Flows.

    async def _get_flows(self, session: Session, frame: Frame, message: m.GetFlowRoutes) -> None:
        explicit, registry = self._core.lab.explicit, self._core.lab.registry
        nodes = sorted({row.src for row in explicit.rows.values()})
        if message.node_id:
            nodes = [registry.node(message.node_id).id]
        limit = min(message.limit, MOST_FLOWS)
        answers = await asyncio.gather(*(self._flows_of(node_id, limit) for node_id in nodes))
        flows: list[dict[str, Any]] = []
        silent, known, forgotten = [], 0, 0
        for node_id, value in zip(nodes, answers, strict=True):
            if value is None:
                silent.append(node_id)
                continue
            known, forgotten = known + value["known"], forgotten + value["forgotten"]
            for flow, route_id, by, idle_ms in value["flows"]:
                words = {"node_id": node_id, "flow": flow, "route_id": route_id, "by": by}
                flows.append({**words, "idle_ms": idle_ms})
        found = {"flows": flows[:limit], "known": known, "forgotten": forgotten, "silent": silent}
        session.connection.ack(frame, found)

    async def _flows_of(self, node_id: int, limit: int) -> Any:
        """Return what a node lists; None if it does not answer."""
        peer = self._core.lab.registry.node(node_id).peer
        if not isinstance(peer, Session):
            return None
        try:
            reply = await peer.connection.request(m.ListFlowRoutes(limit), node=node_id, within=ASK_LIMIT)
        except NmError:
            return None
        return getattr(reply, "value", None)
