"""HTTP connections within bounds: uvicorn speaks HTTP/1.1, and upgrades to websockets.

Bounded is what a client can take up: connections, the bytes of a request's head, and the time for a request
to arrive and for an answer to be read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["Connections"]

MAX_CONNECTIONS = 128
"""Connections at the same time; a browser opens six, a script one."""

HEAD_S = 10.0
"""Seconds for the head of a request to arrive, from its first byte, or from the begin of the connection."""

IDLE_S = 10
"""Seconds until a connection that is kept for a next request is closed."""

READ_S = 30.0
"""Seconds for a client to read what was sent to it, once 64 KiB wait; then the connection is closed."""

MAX_HEAD = 16 * 1024
"""Bytes of a request's first line and headers."""

MAX_WEBSOCKET = 64 * 1024
"""Bytes of a message that a client may send to the websocket of events, where all are ignored."""

STOP_S = 1.0
"""Seconds for answers that are under way when the controller is stopped."""


class Connections:
    """All HTTP connections of a controller.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        # The library logs every malformed request as a warning; a port scan would fill the log.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._config = Config(
            app,
            http=BoundedHttp,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_S,
            h11_max_incomplete_event_size=MAX_HEAD,
            ws_max_size=MAX_WEBSOCKET,
        )
        self._config.load()
        self._state = ServerState()

    def protocol(self) -> asyncio.Protocol | None:
        """Return the protocol for a new connection, None when there are too many."""
        if len(self._state.connections) >= MAX_CONNECTIONS:
            return None
        return BoundedHttp(self._config, self._state, {})

    async def close(self) -> None:
        """End all connections; answers that are under way have a moment to be sent."""
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=STOP_S)
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.abort()


class BoundedHttp(H11Protocol):
    """A connection that is closed when a request does not arrive in time, or an answer is not read."""

    _head_limit: asyncio.TimerHandle | None = None
    _read_limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Go on with the next request, part of which may be here already."""
        super().on_response_complete()
        self._expect_head()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._read_limit = self._read_limit or self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        super().resume_writing()
        self._read_limit = _cancelled(self._read_limit)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        self._head_limit, self._read_limit = _cancelled(self._head_limit), _cancelled(self._read_limit)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the websocket, which has limits of its own."""
        self._head_limit = _cancelled(self._head_limit)
        super().handle_websocket_upgrade(event)

    def _expect_head(self) -> None:
        """Let the limit run while part of a head is here, or nothing yet, and no longer."""
        begun = bool(self.conn.trailing_data[0]) or self.cycle is None
        if self.conn.their_state is h11.IDLE and begun:
            self._head_limit = self._head_limit or self.loop.call_later(HEAD_S, self._too_slow)
        else:
            self._head_limit = _cancelled(self._head_limit)

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> Any:
    """Cancel a timer; return None, which takes its place."""
    if timer is not None:
        timer.cancel()
