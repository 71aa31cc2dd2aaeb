"""What an operator lists and changes while a lab runs, as attributes and methods of the lab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from orchestrator.lab import probes
from orchestrator.lab.changing import ChangingLab
from orchestrator.lab.flows import AsyncFlows
from orchestrator.lab.following import follow
from orchestrator.lab.operator import operator
from orchestrator.lab.routes import AsyncRoutes
from orchestrator.protocol.messages import Event, ProbeStatus

__all__ = ["LiveObjects"]


class LiveObjects(ChangingLab):
    """The part of `AsyncLab` for objects that exist in the controller: flows, routes, probes and events."""

    @property
    def flows(self) -> AsyncFlows:
        """Its user-space flows."""
        return AsyncFlows(self._directory, self._state)

    @property
    def routes(self) -> AsyncRoutes:
        """Its explicit routes, and the pins of flows to them."""
        return AsyncRoutes(self._directory, self._state)

    async def probe(
        self, src: int, dst: int, *, below: bool, bytes: int | str, time: float | str
    ) -> ProbeStatus:
        """Probe the link from one node to its neighbour; see `AsyncLink.probe`."""
        return await probes.run(self._directory, self._state, src, dst, below=below, bytes=bytes, time=time)

    async def probes(self, after: int = 0) -> Sequence[ProbeStatus]:
        """Return the probes of links with a number above this one, in order, and what they measured."""
        return await probes.read(self._directory, self._state, after)

    async def events(self, after: int = 0) -> Sequence[Event]:
        """What happened in the lab, oldest first."""
        async with operator(self._directory, self._state) as connection:
            return await connection.events(after)

    async def follow_events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after a number, then each new one until the lab is down."""
        async for event in follow(self._directory, self._state, after):
            yield event
