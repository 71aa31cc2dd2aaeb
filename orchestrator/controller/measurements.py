"""Ask the nodes for measurements of their links, or for samples of their counters, for an operator."""

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

_Answer = m.LinkMeasurements | m.NodeSample


@dataclass(eq=False, slots=True)
class _Request:
    """A request of an operator.

    Attributes:
        session: The operator.
        kind: What the nodes are asked for.
        missing: Nodes that have not answered.
        answered: Set when all have.
    """

    session: Session
    kind: type[_Answer]
    missing: set[int]
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Measurements:
    """Handles the requests for measurements and for samples."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._requests: set[_Request] = set()
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetMeasurements: self._get_measurements,
            m.GetSamples: self._get_samples,
        }
        core.on_measured.append(self._measured)

    def _measured(self, node: int, measured: _Answer) -> None:
        """Pass on what a node measured to the operators that wait for it."""
        for request in self._requests:
            if request.kind is type(measured) and node in request.missing:
                request.session.connection.send_nowait(measured, node=node)
                self._answered(request, {node})

    def _answered(self, request: _Request, nodes: set[int]) -> None:
        request.missing -= nodes
        if not request.missing:
            request.answered.set()

    async def _get_measurements(self, session: Session, frame: Frame, message: m.GetMeasurements) -> None:
        await self._get(session, frame, message.timeout_ms, m.MeasureLinks(), m.LinkMeasurements)

    async def _get_samples(self, session: Session, frame: Frame, message: m.GetSamples) -> None:
        await self._get(session, frame, message.timeout_ms, m.SampleNodes(), m.NodeSample)

    async def _get(
        self, session: Session, frame: Frame, timeout_ms: int, order: Message, kind: type[_Answer]
    ) -> None:
        limit = min(timeout_ms, MAX_TIMEOUT_MS) / 1000
        sessions = list(self._core.node_sessions())
        request = _Request(session, kind, {node for each in sessions for node in each.nodes})
        self._requests.add(request)
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(*(self._ask(request, each, order) for each in sessions))
                if request.missing:  # an acknowledgement overtakes what was sent before it
                    await request.answered.wait()
        except TimeoutError:
            pass  # a node that does not answer is missing in the report; the others are not
        finally:
            self._requests.discard(request)
        session.connection.ack(frame)

    async def _ask(self, request: _Request, session: Session, order: Message) -> None:
        try:
            await session.connection.request(order, within=None)
        except NmError:  # it is gone, or older than this message
            self._answered(request, set(session.nodes))
