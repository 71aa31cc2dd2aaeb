"""Ask the lab's controller, as an operator, on connections that are opened again when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import LabNotFound, ProtocolError
from orchestrator.lab.operator import Operator, dial
from orchestrator.protocol import messages as m
from orchestrator.tasks import spawn
from orchestrator.transport import Connection

__all__ = ["LabSource", "Source"]

DIAL_S = 3.0
"""How long a connection to the controller may take."""

NODES_S = 2.0
"""How long nodes may take to send samples; those that do not are missing."""

PAGE = 1_000
"""Events that are asked for at once."""

END_ALONE = 2**62
"""More events than a run has: a subscription from there gets its progress and its end, and nothing stored."""


class Source(Protocol):
    """What the page knows of a lab, and what it can change."""

    @property
    def backend(self) -> str:
        """The lab's backend."""

    @property
    def started(self) -> str:
        """What differs when the lab was brought up anew."""

    @property
    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Of runs under way that report it: what is done, and how much there is to do."""

    async def status(self) -> m.Status:
        """Return the lab as a whole."""

    async def events(self, after: int) -> tuple[Sequence[m.Event], bool]:
        """Return events after a number, and whether there are more."""

    async def samples(self) -> Mapping[int, m.NodeSample]:
        """Return the counters of the nodes that answer in time."""

    async def routes(self, node: int) -> m.Routes:
        """Return the routes of a node."""

    async def set_link(self, change: m.SetLinkSpec) -> dict[str, Any]:
        """Change what a link does; return what is in force."""

    async def set_link_state(self, change: m.SetLinkState) -> dict[str, Any]:
        """Take a link down or up; return what became of it."""

    async def watch(self, runs: Sequence[str]) -> None:
        """Follow the progress of these runs, and of no others."""


class LabSource:
    """A lab of this machine.

    Args:
        directory: Where it is.
    """

    def __init__(self, directory: LabDirectory) -> None:
        self._directory = directory
        self._connections: dict[str, Connection] = {}
        self._dialling = asyncio.Lock()
        self._watched: dict[str, dict[int, tuple[int, int]]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._note = self._read()

    @property
    def backend(self) -> str:
        """The lab's backend."""
        return self._note.backend

    @property
    def started(self) -> str:
        """The id of this start of the lab."""
        return self._note.run

    @property
    def progress(self) -> Mapping[str, tuple[int, int]]:
        """The sum over the nodes of each run."""
        sums = {run: [sum(column) for column in zip(*by.values(), strict=True)] for run, by in self._known()}
        return {run: (done, total) for run, (done, total) in sums.items()}

    async def status(self) -> m.Status:
        """Return the lab as a whole."""
        return await (await self._operator("main")).status()

    async def events(self, after: int) -> tuple[Sequence[m.Event], bool]:
        """Return events after a number, and whether there are more."""
        connection = (await self._operator("main")).connection
        reply = await connection.request(m.GetEvents(after, PAGE), within=NODES_S + DIAL_S)
        if not isinstance(reply, m.Events):
            raise _unexpected(reply)
        return reply.events, reply.more

    async def samples(self) -> Mapping[int, m.NodeSample]:
        """Return the counters of the nodes that answer in time."""
        connection = (await self._operator("samples")).connection
        await connection.request(m.GetSamples(int(NODES_S * 1000)), within=NODES_S + DIAL_S)
        found = [(frame.node, frame.message) for frame in connection.take()]
        return {node: each for node, each in found if isinstance(each, m.NodeSample)}

    async def routes(self, node: int) -> m.Routes:
        """Return the routes of a node."""
        connection = (await self._operator("main")).connection
        reply = await connection.request(m.GetRoutes(node), within=DIAL_S)
        if not isinstance(reply, m.Routes):
            raise _unexpected(reply)
        return reply

    async def set_link(self, change: m.SetLinkSpec) -> dict[str, Any]:
        """Change what a link does; return what is in force."""
        return await (await self._operator("main")).set_link(change)

    async def set_link_state(self, change: m.SetLinkState) -> dict[str, Any]:
        """Take a link down or up; return what became of it."""
        return await (await self._operator("main")).change_links(change)

    async def watch(self, runs: Sequence[str]) -> None:
        """Follow the progress of these runs."""
        self._watched = {run: self._watched.get(run, {}) for run in runs if run in self._watched}
        new = [run for run in runs if run not in self._watched]
        if not new:
            return
        connection = (await self._operator("runs")).connection
        if self._watcher is None or self._watcher.done():
            self._watcher = spawn(self._follow(connection), name="progress of runs")
        for run in new:
            self._watched[run] = {}
            connection.send_nowait(m.WatchRun(run, END_ALONE))

    async def close(self) -> None:
        """Close the connections."""
        if self._watcher is not None:
            self._watcher.cancel()
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            await connection.close(grace=0.2)

    def _known(self) -> list[tuple[str, dict[int, tuple[int, int]]]]:
        return [(run, by_node) for run, by_node in self._watched.items() if by_node]

    async def _follow(self, connection: Connection) -> None:
        async for frame in connection:
            event = frame.message
            if isinstance(event, m.RunEvent) and event.kind == "progress" and event.run in self._watched:
                data = event.data if isinstance(event.data, dict) else {}
                done, total = data.get("done"), data.get("total")
                if isinstance(done, int | float) and isinstance(total, int | float):
                    self._watched[event.run][event.node] = (int(done), int(total))
        self._watched.clear()  # a new connection has to subscribe again

    async def _operator(self, purpose: str) -> Operator:
        """Return the connection for a purpose, opened again if it has ended.

        Raises:
            LabNotFound: The lab is down.
            ControllerUnreachable: Nothing answers.
        """
        async with self._dialling:
            connection = self._connections.get(purpose)
            if connection is None or connection.ended is not None:
                self._note = self._read()
                connection = await dial(self._directory, self._note, DIAL_S)
                self._connections[purpose] = connection
        return Operator(connection)

    def _read(self) -> notes.LabState:
        note = notes.read(self._directory)
        if note is None:
            name = self._directory.name
            raise LabNotFound(f"lab {name} is down", found=name, hint="`nm up` brings it up again")
        return note


def _unexpected(reply: m.Message) -> ProtocolError:
    return ProtocolError(f"the controller answered with {reply.type}", id="protocol.answer")
