"""The agent's connection to the controller: reconnects, and resends messages until they are acknowledged.

What a role reports has to arrive once the controller is back, so such messages wait in an outbox until they
are acknowledged, in order, and are sent again on every new connection. The controller counts what it has
received, so a message that arrives twice does no harm. Progress is not kept.

A message is encoded in the thread that posts it, so that an unsendable one is refused there and never waits
in the outbox. The outbox is bounded in messages and bytes. A role checks for free space before it posts and
waits if there is none, which blocks this role alone and loses nothing. Posting itself does not wait, so that
rows can be numbered and posted under one lock.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from orchestrator import log
from orchestrator.protocol import Frame, Message, Payload, Role, encode_payload
from orchestrator.protocol.messages import (
    AgentHello,
    ChangeLinks,
    Error,
    Publish,
    RoleFinished,
    RoleLog,
    RoleReport,
    RunFlow,
    RunningRole,
)
from orchestrator.tasks import spawn
from orchestrator.transport import Connection, Disconnected, RequestTimeout, reconnecting

_logger = log.get(__name__)

MAX_OUTBOX = 5_000
"""Messages of roles that may wait for the controller: minutes of what they say, and no burden for memory."""

MAX_OUTBOX_BYTES = 4 * 1024 * 1024
"""Bytes of them: a few of the largest rows, and what a store takes in a tenth of a second."""

_WITHOUT_END = (RoleReport, RoleLog, Publish)
"""What a role may say as often as it likes; of all else there is a message or two for each role."""


@dataclass(frozen=True, slots=True)
class _Posted:
    """A message on its way.

    Attributes:
        node: The node it concerns.
        payload: Its bytes.
        durable: It is kept until the controller has acknowledged it.
        counted: It takes room.
        ending: The role whose end it tells of.
        asked: The change of links or the flow that it asks for, whose role waits.
    """

    node: int
    payload: Payload
    durable: bool
    counted: bool
    ending: RunningRole | None
    asked: ChangeLinks | RunFlow | None


class ControllerLink:
    """Keeps a connection and an outbox.

    Args:
        url: The controller's websocket.
        token: The token of the node as which the agent introduces itself.
        node: That node; the others show their tokens in `AgentHello`.
        hello: Makes the agent's `AgentHello`, for every connection.
        on_frame: Called in the loop with each frame that the controller sends.
        on_return: Called in the loop when the controller is back after it was lost.
        on_refusal: Called in the loop with what a role waits for and the controller refused, and why.
        authority: With TLS: the certificate authority that issued the controller's certificate, PEM text.
    """

    def __init__(
        self,
        url: str,
        token: str,
        node: int,
        hello: Callable[[], AgentHello],
        on_frame: Callable[[Connection, Frame], None],
        on_return: Callable[[], None],
        on_refusal: Callable[[ChangeLinks | RunFlow, Error], None] = lambda _asked, _error: None,
        authority: str = "",
    ) -> None:
        self._url = url
        self._authority = authority
        self._token = token
        self._node = node
        self._hello = hello
        self._on_frame = on_frame
        self._on_return = on_return
        self._on_refusal = on_refusal
        self._loop = asyncio.get_running_loop()
        self._outbox: dict[int, _Posted] = {}
        self._flushed: deque[_Posted] = deque()
        self._lock = threading.Lock()  # of the two counters, and held for nothing else
        self._waiting = self._waiting_bytes = 0
        self._next = 1
        self._connection: Connection | None = None
        self._process = random.SystemRandom().getrandbits(63)
        self.welcomed = asyncio.Event()

    def has_room(self) -> bool:
        """Whether a role may post a message; safe from any thread.

        Threads that ask at the same moment may all be told yes, so that the bounds are exceeded by a message
        for each of them.
        """
        with self._lock:
            return self._waiting < MAX_OUTBOX and self._waiting_bytes < MAX_OUTBOX_BYTES

    def post(self, message: Message, node: int, durable: bool) -> None:
        """Send a message about a node; returns at once, and is safe from any thread.

        Args:
            message: What to say.
            node: The node it concerns.
            durable: Keep it until the controller has acknowledged it.

        Raises:
            ProtocolError: It cannot be sent; nothing was kept.
        """
        payload = encode_payload(message)
        counted = durable and isinstance(message, _WITHOUT_END)
        ending = RunningRole(message.run, message.node) if isinstance(message, RoleFinished) else None
        asked = message if isinstance(message, ChangeLinks | RunFlow) else None
        if counted:
            self._count(1, len(payload.data))
        self._flushed.append(_Posted(node, payload, durable, counted, ending, asked))
        self._loop.call_soon_threadsafe(self._take)

    async def run(self) -> None:
        """Stay connected until cancelled, however long the controller is away: packets go on meanwhile.

        Raises:
            PeerError: The controller refuses us.
        """
        introduced = reconnecting(
            self._url,
            self._token,
            Role.AGENT,
            process=self._process,
            node=self._node,
            authority=self._authority,
        )
        # Closed here: what is left to the end of the loop may be closed twice at once, with a complaint.
        async with aclosing(introduced):
            await self._stay(introduced)

    async def _stay(self, introduced: AsyncGenerator[Connection]) -> None:
        async for connection in introduced:
            try:
                await connection.request(self._hello_frame())
            except (Disconnected, RequestTimeout):
                continue
            self._connection = connection
            for number, posted in list(self._outbox.items()):
                self._send(number, posted)
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

    def introduce_again(self) -> None:
        """Connect anew, because what `hello` says has changed; nothing that waits is lost."""
        if self._connection is not None:
            spawn(self._connection.close("what this agent carries has changed"), name="new introduction")

    def _hello_frame(self) -> AgentHello:
        """What runs here: also roles that have ended, but whose end waits behind what they reported."""
        self._take()
        hello = self._hello()
        ended = [posted.ending for posted in self._outbox.values() if posted.ending is not None]
        return replace(hello, running=tuple(dict.fromkeys((*hello.running, *ended))))

    def _take(self) -> None:
        while self._flushed:
            posted = self._flushed.popleft()
            if posted.durable:
                number = self._next
                self._next += 1
                self._outbox[number] = posted
                if self._connection is not None:
                    self._send(number, posted)
            elif self._connection is not None and not self._connection.congested:
                self._connection.send_encoded(posted.payload.frame(posted.node))

    def _send(self, number: int, posted: _Posted) -> None:
        assert self._connection is not None, "callers look"
        self._connection.ask_encoded(posted.payload, partial(self._replied, number), node=posted.node)

    def _replied(self, number: int, reply: Message | None) -> None:
        if reply is None:
            return  # the connection ended; the next one sends it again
        posted = self._outbox.pop(number)
        if posted.counted:
            self._count(-1, -len(posted.payload.data))
        if isinstance(reply, Error):
            _logger.warning(
                "controller refused a message",
                type=posted.payload.type,
                node=posted.node,
                error=reply.error,
                why=reply.message,
            )
            if posted.asked is not None:
                self._on_refusal(posted.asked, reply)

    def _count(self, messages: int, size: int) -> None:
        with self._lock:
            self._waiting += messages
            self._waiting_bytes += size
