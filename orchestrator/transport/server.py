"""Accept control connections, and answer HTTP on the same port, both in TLS if there is a certificate.

The first line of a connection decides: control connections and short answers such as `/healthz` are those of
the `websockets` library, and paths that an `HttpApi` takes are handed to the protocol that it makes.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.protocol import (
    MAX_FIRST_MESSAGE,
    MAX_MESSAGE,
    VERSION,
    Admission,
    Bad,
    Frame,
    Malformed,
    Peer,
    ProtocolError,
    error_reply,
)
from orchestrator.protocol.messages import Welcome
from orchestrator.tasks import spawn
from orchestrator.transport.client import PING_INTERVAL, PING_TIMEOUT
from orchestrator.transport.connection import Connection
from orchestrator.transport.errors import RequestTimeout
from orchestrator.transport.first_line import FirstLine, HttpApi
from orchestrator.transport.pipes import WebSocketPipe
from orchestrator.transport.tls import HANDSHAKE, TLS_ONLY, accept, first_byte

if TYPE_CHECKING:
    import ssl

    from websockets.asyncio.server import Server as WebSocketServer
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

__all__ = ["CONTROL_PATH", "Handler", "HttpHandler", "Server", "admit", "serve"]

CONTROL_PATH = "/control"
"""The path of control connections; every other path is for `HttpHandler`."""

HELLO_TIMEOUT = 10.0
"""Seconds to wait for the `Hello` of a new connection."""

REFUSED_S = 2.0
"""Seconds for a client without TLS to read that it needs it."""

MAX_UNAUTHENTICATED = 1024
"""The limit of unauthenticated connections; a lab of a thousand nodes starts within it."""

Handler = Callable[[Connection], Awaitable[None]]
HttpHandler = Callable[[str], tuple[int, str, bytes] | None]
"""From a path to status, content type and body; None for a path that does not exist."""


class Server:
    """A listening socket; created by `serve`."""

    def __init__(
        self,
        inner: WebSocketServer,
        http_api: HttpApi | None = None,
        handshakes: Collection[asyncio.Task[None]] = (),
    ) -> None:
        self._inner = inner
        self._http_api = http_api
        self._handshakes = handshakes

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the port is the real one also when 0 was asked for."""
        host, port = next(iter(self._inner.sockets)).getsockname()[:2]
        return str(host), int(port)

    async def close(self) -> None:
        """Take no more connections, end those that are open, and wait for their handlers."""
        self._inner.close()
        for handshake in list(self._handshakes):
            handshake.cancel()
        if self._http_api is not None:
            await self._http_api.close()
        await self._inner.wait_closed()


async def serve(
    handler: Handler,
    host: str | Sequence[str],
    port: int,
    *,
    http_handler: HttpHandler | None = None,
    http_api: HttpApi | None = None,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Listen for control connections.

    Args:
        handler: Called with each new connection; the connection ends when it returns.
        host: Address to listen on, or several.
        port: Port, 0 for any free one.
        http_handler: Answers plain HTTP requests.
        http_api: Handles the connections whose first request it takes.
        tls: Take TLS alone, with the certificate in this context.

    Raises:
        OSError: The address cannot be listened on.
    """
    from websockets.asyncio.server import serve as listen

    unauthenticated: set[ServerConnection] = set()
    handshakes: set[asyncio.Task[None]] = set()

    async def handle(socket: ServerConnection) -> None:
        connection = Connection(WebSocketPipe(socket))
        connection.on_admitted = lambda: unauthenticated.discard(socket)
        try:
            await handler(connection)
        finally:
            await connection.close("the controller ended the connection")

    def answer(socket: ServerConnection, request: Request) -> Response | None:
        return _http_response(socket, request.path.partition("?")[0], http_handler)

    inner = await listen(
        handle,
        host,  # type: ignore[arg-type]  # the event loop takes several
        port,
        process_request=answer,
        create_connection=_bounded_socket(unauthenticated, http_api, tls, handshakes),
        # Up to four frames (batches of at most 256 KiB) are buffered here; `Connection` adds back-pressure.
        max_queue=4,
        max_size=2 * MAX_MESSAGE,
        compression=None,
        ping_interval=PING_INTERVAL,
        ping_timeout=PING_TIMEOUT,
        open_timeout=HELLO_TIMEOUT,
        close_timeout=2,
        backlog=4096,
        server_header=None,
        logger=_quiet_logger(),
    )
    return Server(inner, http_api, handshakes)


def _bounded_socket(
    unauthenticated: set[ServerConnection],
    http_api: HttpApi | None,
    tls: ssl.SSLContext | None,
    handshakes: set[asyncio.Task[None]],
) -> type[ServerConnection]:
    """Return the class of the server's sockets, which are in `unauthenticated` until they are admitted."""
    from websockets.asyncio.server import ServerConnection as Socket

    class Bounded(Socket):
        """A socket that is closed at once when too many others have not authenticated yet.

        When no file descriptor is left, asyncio itself stops listening for a second at a time.
        """

        first_line: FirstLine | None = None
        is_websocket = False  # `Socket` was told of the connection
        early = b""  # arrived before the handshake was known to be complete
        is_refused = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport), "the server listens on a stream"
            if len(unauthenticated) >= MAX_UNAUTHENTICATED:
                transport.abort()
                return
            unauthenticated.add(self)
            if tls is None:
                self.first_line = FirstLine(transport, http_api, self._begin, HELLO_TIMEOUT)
                return
            handshake = spawn(self._begin_tls(transport, tls), name="TLS handshake")
            handshakes.add(handshake)
            handshake.add_done_callback(handshakes.discard)

        async def _begin_tls(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
            """Go on in TLS, or answer a client without it, both within the time limit of the `Hello`."""
            # Not in `connection_made`: the event loop of Python 3.11.2 begins to read after it all the same.
            transport.pause_reading()
            secured = None
            try:
                async with asyncio.timeout(HELLO_TIMEOUT):
                    first = await first_byte(transport)
                    if first == HANDSHAKE:
                        secured = await accept(transport, self, tls, HELLO_TIMEOUT)
                    elif first is not None:
                        self._refuse(transport)
                        return
            except (OSError, TimeoutError):
                pass
            finally:
                if secured is None and not self.is_refused:
                    unauthenticated.discard(self)
                    transport.abort()
            if secured is not None:
                self.first_line = FirstLine(secured, http_api, self._begin, HELLO_TIMEOUT)
                early, self.early = self.early, b""
                if early:
                    self.data_received(early)

        def _refuse(self, transport: asyncio.Transport) -> None:
            """Answer a client without TLS.

            What it sends is read until it closes: the answer may be lost if the connection is closed while
            bytes wait to be read.
            """
            self.is_refused = True
            transport.write(TLS_ONLY)
            transport.write_eof()
            transport.resume_reading()
            asyncio.get_running_loop().call_later(REFUSED_S, transport.abort)

        def _begin(self, transport: asyncio.Transport, data: bytes) -> None:
            """Go on as a websocket."""
            self.is_websocket = True
            self.first_line = None
            super().connection_made(transport)
            super().data_received(data)

        def data_received(self, data: bytes) -> None:
            if self.is_websocket:
                super().data_received(data)
            elif self.first_line is None:
                self.early = b"" if self.is_refused else self.early + data
            elif self.first_line.take(data):
                unauthenticated.discard(self)  # another protocol has the connection

        def eof_received(self) -> None:
            if self.is_websocket:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            unauthenticated.discard(self)
            if self.first_line is not None:
                self.first_line.close()
            if self.is_websocket:
                super().connection_lost(exc)

    return Bounded


def _http_response(socket: ServerConnection, path: str, http_handler: HttpHandler | None) -> Response | None:
    """Answer a plain HTTP request; None for the control path, whose websocket handshake proceeds."""
    if path == CONTROL_PATH:
        return None
    found = http_handler(path) if http_handler is not None else None
    status, kind, body = found or (404, "text/plain", b"not found\n")
    response = socket.respond(http.HTTPStatus(status), "")
    response.body = body
    del response.headers["Content-Type"], response.headers["Content-Length"]
    response.headers["Content-Type"] = kind
    response.headers["Content-Length"] = str(len(body))
    return response


async def admit(connection: Connection, admission: Admission, lab: str, incarnation: int) -> Peer:
    """Wait for a peer's `Hello` and admit it, or refuse it with the reason.

    Raises:
        ProtocolError: The peer was refused, and has been sent the reason.
    """
    wrong: asyncio.Future[Bad] = asyncio.get_running_loop().create_future()
    connection.max_message = MAX_FIRST_MESSAGE
    first = asyncio.ensure_future(connection.next_frame(HELLO_TIMEOUT))

    def on_bad(bad: Bad) -> None:
        # Only a malformed first frame counts; frames after `Hello` are handled by the connection.
        if not (wrong.done() or first.done() or connection.unread):
            wrong.set_result(bad)

    connection.on_bad_frame = on_bad
    try:
        either: list[asyncio.Future[Any]] = [first, wrong]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if wrong.done():
            raise wrong.result().error  # the connection has answered the peer already
        frame = _hello(first, connection)
    finally:
        first.cancel()
        connection.on_bad_frame = None
    try:
        peer = admission.admit(frame)
    except ProtocolError as error:
        connection.send_nowait(error_reply(error, frame.id))
        raise
    connection.max_message = MAX_MESSAGE
    if connection.on_admitted is not None:
        connection.on_admitted()
    connection.send_nowait(Welcome(VERSION, lab, incarnation))
    return peer


def _hello(first: asyncio.Future[Frame | None], connection: Connection) -> Frame:
    try:
        frame = first.result()
    except RequestTimeout:
        text = f"{connection.remote} did not authenticate within {HELLO_TIMEOUT:g} s"
        raise Malformed(text) from None
    if frame is None:
        raise Malformed(f"{connection.remote} closed the connection without authenticating")
    return frame


def _quiet_logger() -> Any:
    import logging

    # websockets logs every failed handshake as an error with a traceback; a port scan would fill the log.
    logger = logging.getLogger("websockets.server")
    logger.setLevel(logging.CRITICAL)
    return logger
