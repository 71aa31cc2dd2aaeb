"""Tell an operator the routes that a node should have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["RouteRequests"]


class RouteRequests:
    """Handles the request for routes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetRoutes: self._get,
        }

    async def _get(self, session: Session, frame: Frame, message: m.GetRoutes) -> None:
        lab = self._core.lab
        node = lab.registry.node(message.node_id)  # refuses a number that no node has
        wanted = lab.wanted_routes.get(node.id)
        table, explicit = (wanted.table, tuple(wanted.explicit.values())) if wanted else (b"", ())
        session.connection.reply(frame, m.Routes(frame.id, node.id, table, explicit))
