"""Read the first line of a new connection, and hand the connection to the protocol that it is meant for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from orchestrator.tasks import spawn
from orchestrator.transport.tls import HANDSHAKE, NO_TLS_HERE

__all__ = ["FirstLine", "HttpApi"]

MAX_LINE = 8 * 1024
"""Bytes of a request line; the same limit as in the `websockets` library."""


class HttpApi(Protocol):
    """Handles HTTP connections on the port of the control connections."""

    def takes(self, path: str) -> bool:
        """Tell whether requests with this path are for the API."""
        ...

    async def protocol(self) -> asyncio.Protocol | None:
        """Return the protocol for a new connection, None when there are too many."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class FirstLine:
    """Collects the bytes of a connection until its first line is there.

    Args:
        transport: The connection.
        http_api: Takes connections by the path of their first request; None for none.
        otherwise: Called with the bytes so far when the connection is not for the API.
        limit_s: Seconds after which a connection without a first line is closed.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        http_api: HttpApi | None,
        otherwise: Callable[[asyncio.Transport, bytes], None],
        limit_s: float,
    ) -> None:
        self._transport = transport
        self._http_api = http_api
        self._otherwise = otherwise
        self._data = b""
        self._handing_over: asyncio.Task[None] | None = None
        self._limit = asyncio.get_running_loop().call_later(limit_s, transport.abort)

    def take(self, data: bytes) -> bool:
        """Take bytes from the peer; True when the connection is for the API, which gets it then."""
        self._data += data
        if self._data[0] == HANDSHAKE:
            self._limit.cancel()
            self._transport.write(NO_TLS_HERE)
            self._transport.close()
            return False
        if b"\n" not in self._data and len(self._data) < MAX_LINE:
            return False
        self._limit.cancel()
        api = self._http_api
        words = self._data[:MAX_LINE].split(b"\n", 1)[0].split(b" ")
        path = words[1].partition(b"?")[0].decode("latin-1") if len(words) == 3 else ""
        if api is None or not api.takes(path):
            self._otherwise(self._transport, self._data)
            return False
        self._transport.pause_reading()
        self._handing_over = spawn(self._hand_over(api), name="HTTP connection", failed=self._failed)
        return True

    def close(self) -> None:
        """Stop: the connection has ended."""
        self._limit.cancel()
        if self._handing_over is not None:
            self._handing_over.cancel()

    async def _hand_over(self, api: HttpApi) -> None:
        protocol = await api.protocol()
        if self._transport.is_closing():
            return
        if protocol is None:
            self._transport.write(BUSY)
            self._transport.close()
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self._transport.resume_reading()
        protocol.data_received(self._data)

    def _failed(self, _: Exception) -> None:
        self._transport.abort()
