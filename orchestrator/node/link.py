"""The agent's connection to the controller, which may go away and come back.

What a role reports has to arrive once the controller is back, so such messages wait in an outbox until they
are acknowledged, in order, and are sent again on every new connection. The controller counts what it has
seen, so a message that arrives twice does no harm. Progress is only worth something now; it is not kept.

The outbox has room for so many messages. A role that reports faster than the controller takes, or while it is
away, waits for room; that holds up this role alone, and nothing is lost. A role is stopped by an exception
that appears in its thread between any two instructions, so it must hold no lock that the loop needs: it hands
its messages over through a deque, and looks for room by itself.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from orchestrator import log
from orchestrator.protocol import Frame, Message, Role
from orchestrator.protocol.messages import AgentHello, Error, Publish, RoleLog, RoleReport
from orchestrator.transport import Connection, Disconnected, RequestTimeout, reconnecting

_logger = log.get(__name__)

MAX_OUTBOX = 5_000
"""Messages of roles that may wait for the controller: minutes of what they say, and no burden for memory."""

_WITHOUT_END = (RoleReport, RoleLog, Publish)
"""What a role may say as often as it likes; of all else there is a message or two for each role."""

_LOOK_S = 0.01
"""How often a role looks for room while there is none: it is told to stop between two looks."""


class ControllerLink:
    """Keeps a connection and an outbox.

    Args:
        url: The controller's websocket.
        token: The token of the node as which the agent introduces itself.
        node: That node; the others show their tokens in `AgentHello`.
        hello: Makes the agent's greeting, anew for every connection.
        on_frame: Called in the loop with each frame that the controller sends.
        on_return: Called in the loop when the controller is back after it was lost.
    """

    def __init__(
        self,
        url: str,
        token: str,
        node: int,
        hello: Callable[[], AgentHello],
        on_frame: Callable[[Connection, Frame], None],
        on_return: Callable[[], None],
    ) -> None:
        self._url = url
        self._token = token
        self._node = node
        self._hello = hello
        self._on_frame = on_frame
        self._on_return = on_return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._outbox: dict[int, tuple[Message, int]] = {}
        self._handed_over: deque[tuple[Message, int, bool]] = deque()
        self._counted = 0
        self._next = 1
        self._connection: Connection | None = None
        self._process = random.SystemRandom().getrandbits(63)
        self.welcomed = asyncio.Event()

    def post(self, message: Message, node: int, durable: bool) -> None:
        """Send a message about a node, from any thread; one that is to be kept waits for room.

        Args:
            message: What to say.
            node: The node it concerns.
            durable: Keep it until the controller has acknowledged it.
        """
        # The loop itself must not wait.
        counted = isinstance(message, _WITHOUT_END) and threading.get_ident() != self._thread
        while counted and self._counted + len(self._handed_over) >= MAX_OUTBOX:
            time.sleep(_LOOK_S)
        self._handed_over.append((message, node, durable))
        self._loop.call_soon_threadsafe(self._take)

    async def run(self) -> None:
        """Stay connected until cancelled, however long the controller is away: packets go on meanwhile.

        Raises:
            PeerError: The controller refuses us.
        """
        introduced = reconnecting(self._url, self._token, Role.AGENT, process=self._process, node=self._node)
        async for connection in introduced:
            try:
                await connection.request(self._hello())
            except (Disconnected, RequestTimeout):
                continue
            self._connection = connection
            for number, (message, node) in list(self._outbox.items()):
                self._send(number, message, node)
            if self.welcomed.is_set():
                _logger.info("controller is back", waiting=len(self._outbox))
                self._on_return()
            self.welcomed.set()
            try:
                async for frame in connection:
                    self._on_frame(connection, frame)
            finally:
                self._connection = None
            _logger.warning("controller was lost", reason=connection.ended)

    def _take(self) -> None:
        while self._handed_over:
            self._post(*self._handed_over.popleft())

    def _post(self, message: Message, node: int, durable: bool) -> None:
        if not durable:
            if self._connection is not None:
                self._connection.send_nowait(message, node=node)
            return
        number = self._next
        self._next += 1
        self._counted += isinstance(message, _WITHOUT_END)
        self._outbox[number] = (message, node)
        if self._connection is not None:
            self._send(number, message, node)

    def _send(self, number: int, message: Message, node: int) -> None:
        assert self._connection is not None, "callers look"
        self._connection.ask(message, partial(self._replied, number), node=node)

    def _replied(self, number: int, reply: Message | None) -> None:
        if reply is None:
            return  # the connection ended; the next one sends it again
        message, node = self._outbox.pop(number)
        self._counted -= isinstance(message, _WITHOUT_END)
        if isinstance(reply, Error):
            _logger.warning(
                "controller refused a message",
                type=message.type,
                node=node,
                error=reply.error,
                why=reply.message,
            )
