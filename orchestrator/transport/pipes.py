"""Message pipes between two ends: a websocket, or a pair of queues in memory."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from orchestrator.transport.errors import Disconnected

if TYPE_CHECKING:
    from websockets.asyncio.connection import Connection as WebSocket

__all__ = ["MemoryPipe", "Pipe", "WebSocketPipe"]


# At the level `debug` the library shows every message's bytes, tokens included.
logging.getLogger("websockets").setLevel(logging.INFO)


class Pipe(Protocol):
    """One end of something that keeps messages whole and in order."""

    @property
    def remote(self) -> str:
        """Who is at the other end, for the log."""
        ...

    async def send(self, data: bytes) -> None:
        """Hand a message over; returns when there is room for more.

        Raises:
            Disconnected: The other end is gone.
        """
        ...

    async def recv(self) -> bytes:
        """Return the next message. Cancelling loses nothing.

        Raises:
            Disconnected: There will be none.
        """
        ...

    async def close(self, reason: str) -> None:
        """End the connection; the other end sees what was sent before."""
        ...


class WebSocketPipe:
    """A websocket, on either side."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    @property
    def remote(self) -> str:
        """The address of the other end."""
        address = self._socket.remote_address
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and address else "unknown"

    async def send(self, data: bytes) -> None:
        """See `Pipe.send`."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise _disconnected(error) from None

    async def recv(self) -> bytes:
        """See `Pipe.recv`. A text message is taken as its bytes; the codec will say what is wrong with it."""
        from websockets.exceptions import ConnectionClosed

        try:
            data = await self._socket.recv()
        except ConnectionClosed as error:
            raise _disconnected(error) from None
        return data.encode() if isinstance(data, str) else data

    async def close(self, reason: str) -> None:
        """See `Pipe.close`."""
        # A close frame has room for 123 bytes.
        await self._socket.close(1000, reason.encode()[:120].decode(errors="ignore"))


class MemoryPipe:
    """One end of a pair; what one sends the other receives."""

    def __init__(self, inbox: asyncio.Queue[bytes | None], outbox: asyncio.Queue[bytes | None]) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._ended = False

    @classmethod
    def pair(cls, limit: int = 0) -> tuple[MemoryPipe, MemoryPipe]:
        """Return both ends; at most `limit` messages are under way in each direction, 0 for any number."""
        there: asyncio.Queue[bytes | None] = asyncio.Queue(limit)
        back: asyncio.Queue[bytes | None] = asyncio.Queue(limit)
        return cls(there, back), cls(back, there)

    @property
    def remote(self) -> str:
        """There is no address in memory."""
        return "memory"

    async def send(self, data: bytes) -> None:
        """See `Pipe.send`."""
        if self._ended:
            raise Disconnected("the other end closed the connection")
        await self._outbox.put(data)

    async def recv(self) -> bytes:
        """See `Pipe.recv`."""
        if self._ended:
            raise Disconnected("the connection is closed")
        data = await self._inbox.get()
        if data is None:
            self._ended = True
            raise Disconnected("the other end closed the connection")
        return data

    async def close(self, reason: str) -> None:
        """See `Pipe.close`."""
        if not self._ended:
            self._ended = True
            await self._outbox.put(None)
            if self._inbox.empty():
                self._inbox.put_nowait(None)  # wakes our own reader


def _disconnected(error: Exception) -> Disconnected:
    received = getattr(error, "rcvd", None)
    if received is not None:
        return Disconnected(f"the other end closed the connection: {received.reason or received.code}")
    return Disconnected("the connection broke off")
