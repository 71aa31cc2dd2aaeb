"""Ask the nodes what they measured of their links, for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.errors import NmError
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m

__all__ = ["MAX_TIMEOUT_MS", "Measurements"]

MAX_TIMEOUT_MS = 10_000
"""How long an operator may have the nodes waited for."""


@dataclass(eq=False, slots=True)
class _Request:
    """A request of an operator.

    Attributes:
        session: The operator.
        missing: Nodes that have not answered.
        answered: Set when all have.
    """

    session: Session
    missing: set[int]
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Measurements:
    """Handles the request for measurements."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._requests: set[_Request] = set()
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetMeasurements: self._get,
        }
        core.on_measured.append(self._measured)

    def _measured(self, node: int, measured: m.LinkMeasurements) -> None:
        """Pass on what a node measured to the operators that wait for it."""
        for request in self._requests:
            if node in request.missing:
                request.session.connection.send_nowait(measured, node=node)
                self._answered(request, {node})

    def _answered(self, request: _Request, nodes: set[int]) -> None:
        request.missing -= nodes
        if not request.missing:
            request.answered.set()

    async def _get(self, session: Session, frame: Frame, message: m.GetMeasurements) -> None:
        limit = min(message.timeout_ms, MAX_TIMEOUT_MS) / 1000
        sessions = list(self._core.node_sessions())
        request = _Request(session, {node for each in sessions for node in each.nodes})
        self._requests.add(request)
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(*(self._ask(request, each) for each in sessions))
                if request.missing:  # an acknowledgement overtakes what was sent before it
                    await request.answered.wait()
        except TimeoutError:
            pass  # a node that does not answer is missing in the report; the others are not
        finally:
            self._requests.discard(request)
        session.connection.ack(frame)

    async def _ask(self, request: _Request, session: Session) -> None:
        try:
            await session.connection.request(m.MeasureLinks(), within=None)
        except NmError:  # it is gone, or older than this message
            self._answered(request, set(session.nodes))
