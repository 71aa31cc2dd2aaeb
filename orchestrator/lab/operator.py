"""Connect to a lab's controller as operator.

The address and the token are in the lab's own `controller.toml`, which only its owner can read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.deploy.supervision import comes_back
from orchestrator.errors import ControllerUnreachable, NmError, ProtocolError
from orchestrator.lab.damage import damaged, missing
from orchestrator.plan import AUTHORITY_FILE
from orchestrator.protocol import Message, Role
from orchestrator.protocol.messages import (
    ChangeLab,
    Event,
    Events,
    GetEvents,
    GetStatus,
    Heal,
    NodeFault,
    Partition,
    ResetLinks,
    SaveResult,
    SetLinkSpec,
    SetLinkState,
    Status,
    StatusChanged,
    WaitNodes,
    WaitReady,
)
from orchestrator.settings import load_controller
from orchestrator.transport import Connection, connect

M = TypeVar("M", bound=Message)

ANSWER_S = 10.0
"""The controller answers from memory; longer means that it is stuck, and saying so beats waiting."""

CHANGE_S = 15.0
"""For changes of many links: the controller waits for the nodes, then for Postgres, and says what is late."""

RETRY_S = 0.05
"""Between attempts to reach a controller that is being started again."""


class Operator:
    """A connection as operator."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def status(self) -> Status:
        """The lab as the controller sees it."""
        return await self._ask(GetStatus(), Status)

    async def wait_ready(self, timeout_s: float, changed: Callable[[StatusChanged], None]) -> Status:
        """Wait until the lab is ready.

        Args:
            timeout_s: At most so long.
            changed: Told how far it is.

        Raises:
            NmError: It was not ready in time (`lab.not-ready`); the sentence names what is missing.
        """
        listening = asyncio.create_task(self._listen(changed))
        try:
            return await self._ask(WaitReady(int(timeout_s * 1000)), Status, limit_s=timeout_s + ANSWER_S)
        finally:
            listening.cancel()

    async def set_link(self, change: SetLinkSpec) -> dict[str, dict[str, object]]:
        """Change a link; returns what is in force afterwards, by direction."""
        reply = await self.connection.request(change, within=ANSWER_S)
        value = getattr(reply, "value", None)
        return dict(value) if isinstance(value, dict) else {}

    async def change_links(self, change: SetLinkState | ResetLinks | Partition | Heal) -> dict[str, Any]:
        """Take links down or up; returns what became of them, as the message says."""
        reply = await self.connection.request(change, within=CHANGE_S)
        value = getattr(reply, "value", None)
        return dict(value) if isinstance(value, dict) else {}

    async def node_fault(self, fault: NodeFault) -> dict[str, Any]:
        """Record what nodes shall be; returns the nodes that this changes, as the message says."""
        reply = await self.connection.request(fault, within=ANSWER_S)
        value = getattr(reply, "value", None)
        return dict(value) if isinstance(value, dict) else {}

    async def change_lab(self, change: ChangeLab) -> dict[str, Any]:
        """Make nodes, links, routes and flows those of a controller file; returns what the message says."""
        reply = await self.connection.request(change, within=CHANGE_S)
        value = getattr(reply, "value", None)
        return dict(value) if isinstance(value, dict) else {}

    async def wait_nodes(self, nodes: Sequence[int], timeout_s: float) -> None:
        """Wait until nodes are what they shall be.

        Raises:
            PeerError: They were not in time (`node.not-ready`); the sentence names the first.
        """
        request = WaitNodes(tuple(nodes), int(timeout_s * 1000))
        await self.connection.request(request, within=timeout_s + ANSWER_S)

    async def events(self, after: int = 0) -> list[Event]:
        """The lab's events after a number, all of them."""
        found: list[Event] = []
        while True:
            page = await self._ask(GetEvents(after), Events)
            found.extend(page.events)
            if not page.more or not page.events:
                return found
            after = page.events[-1].seq

    async def save_result(self, run: str, verdict: str, document: object) -> None:
        """Keep a run's verdict in the lab's database."""
        await self.connection.request(SaveResult(run, verdict, document), within=ANSWER_S)

    async def _ask(self, request: Message, answer: type[M], limit_s: float = ANSWER_S) -> M:
        reply = await self.connection.request(request, within=limit_s)
        if not isinstance(reply, answer):
            text = f"the controller answered {request.type} with {reply.type}"
            raise ProtocolError(text, id="protocol.answer")
        return reply

    async def _listen(self, changed: Callable[[StatusChanged], None]) -> None:
        async for frame in self.connection:
            if isinstance(frame.message, StatusChanged):
                changed(frame.message)


@asynccontextmanager
async def operator(directory: LabDirectory, state: LabState, limit_s: float = 5.0) -> AsyncIterator[Operator]:
    """Connect to the lab's controller for as long as the body runs.

    Raises:
        ControllerUnreachable: Nothing answers.
        LabDamaged: The lab's files are gone.
    """
    connection = await dial(directory, state, limit_s)
    try:
        yield Operator(connection)
    finally:
        await connection.close(grace=0.5)


async def dial(directory: LabDirectory, state: LabState, limit_s: float = 5.0) -> Connection:
    """Connect to the lab's controller as operator; the caller closes the connection.

    A controller that died and is started again by the lab itself is waited for, within the limit.

    Raises:
        ControllerUnreachable: Nothing answers.
        LabDamaged: The lab's files are gone.
    """
    try:
        settings = load_controller(directory.run / "controller.toml")
        authority = (directory.run / AUTHORITY_FILE).read_text() if state.tls else ""
    except (NmError, OSError) as error:
        raise damaged(directory, missing(directory, state) or str(error)) from error
    deadline = Deadline(SystemClock(), limit_s)
    while True:
        left = deadline.remaining() or 0.1
        try:
            return await connect(
                state.controller_url,
                settings.operator_token,
                Role.OPERATOR,
                within=left,
                authority=authority,
            )
        except ControllerUnreachable:
            if deadline.expired or not comes_back(directory, state, "controller"):
                raise
        await asyncio.sleep(RETRY_S)
