"""Connect to the controller, authenticate, and reconnect after a loss."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator

from orchestrator import __version__
from orchestrator.backoff import Backoff
from orchestrator.errors import ControllerUnreachable
from orchestrator.protocol import MAX_MESSAGE, VERSION, PeerError, Role, WrongVersion, peer_error
from orchestrator.protocol.messages import Error, Hello, Welcome
from orchestrator.transport.connection import Connection
from orchestrator.transport.errors import Disconnected, RequestTimeout
from orchestrator.transport.pipes import WebSocketPipe
from orchestrator.transport.tls import client_context, tls_failure

__all__ = ["PING_INTERVAL", "PING_TIMEOUT", "connect", "introduce", "reconnecting"]

PING_INTERVAL = 10.0
"""Seconds between pings. The end of a process is detected by its socket at once; pings detect the rest."""

PING_TIMEOUT = 20.0
"""Seconds to wait for a pong; a process that is stopped or starved for less is not given up."""

MAX_BODY = 300
"""Characters that are shown of an HTTP answer: a sentence of the controller, or the begin of another page."""

_FATAL = {"control.token", "control.refused", "protocol.version"}


async def connect(
    url: str,
    token: str,
    role: Role | str,
    *,
    software: str = f"nm {__version__}",
    process: int = 0,
    node: int = 0,
    within: float = 5.0,
    authority: str = "",
) -> Connection:
    """Connect to a controller and introduce oneself.

    Args:
        url: Such as `ws://127.0.0.1:3000/control`; with TLS it begins with `wss://`.
        token: The operators' secret, or the node's.
        role: `node`, `agent` or `operator`.
        software: Name and version, for the controller's log.
        process: The number of this process, when it has nodes.
        node: The node whose token it is, 0 for an operator.
        within: Seconds for all of it.
        authority: With TLS: the certificate authority that issued the controller's certificate, PEM text.

    Raises:
        ControllerUnreachable: Nothing answered there in time, or not with TLS as expected (`controller.tls`).
        PeerError: The controller refuses us, with the id `control.token` or `protocol.version`.
    """
    from websockets.asyncio.client import connect as dial
    from websockets.exceptions import InvalidStatus, WebSocketException

    tls = client_context(authority) if url.startswith("wss://") else None
    # No proxy: the controller is on loopback or in the lab's own network, and an address from the
    # environment must not be able to send our token elsewhere.
    try:
        async with asyncio.timeout(within):
            socket = await dial(
                url,
                ssl=tls,
                max_size=2 * MAX_MESSAGE,
                compression=None,
                ping_interval=PING_INTERVAL,
                ping_timeout=PING_TIMEOUT,
                open_timeout=None,
                close_timeout=2,
                proxy=None,
            )
            connection = Connection(WebSocketPipe(socket))
            try:
                await introduce(connection, token, role, software=software, process=process, node=node)
            except BaseException:
                await connection.close("introduction failed", grace=0)
                raise
    except TimeoutError:
        raise ControllerUnreachable(f"no controller answered at {url} within {within:g} s") from None
    except ssl.SSLError as error:
        raise tls_failure(url, error) from None
    except InvalidStatus as error:
        # A controller that takes TLS only says so here.
        said = (error.response.body or b"").decode(errors="replace").strip()[:MAX_BODY]
        raise ControllerUnreachable(f"no controller answers at {url}: {error}: {said}") from None
    except (OSError, WebSocketException, Disconnected) as error:
        raise ControllerUnreachable(f"no controller answers at {url}: {error}") from None
    return connection


async def introduce(
    connection: Connection,
    token: str,
    role: Role | str,
    *,
    software: str = "",
    process: int = 0,
    node: int = 0,
) -> None:
    """Send `Hello` on a new connection, and wait for `Welcome`.

    Raises:
        PeerError: The controller refuses us.
        Disconnected: The connection ended instead.
    """
    connection.send_nowait(Hello(token, VERSION, str(role), software, process), node=node)
    frame = await connection.next_frame()
    if frame is None:
        raise Disconnected(connection.ended or "the connection ended")
    if isinstance(frame.message, Error):
        raise peer_error(frame.message)
    if not isinstance(frame.message, Welcome):
        raise WrongVersion(f"the controller answered the hello with {frame.message.type}")
    connection.welcome = frame.message


async def reconnecting(
    url: str,
    token: str,
    role: Role | str,
    *,
    software: str = f"nm {__version__}",
    process: int = 0,
    node: int = 0,
    backoff: Backoff | None = None,
    authority: str = "",
) -> AsyncGenerator[Connection]:
    """Yield a connection, and a new one each time the last has ended.

    Args:
        url: As for `connect`.
        token: As for `connect`.
        role: As for `connect`.
        software: As for `connect`.
        process: As for `connect`.
        node: As for `connect`.
        backoff: How long to wait between attempts.
        authority: As for `connect`.

    Raises:
        PeerError: The controller refuses us; waiting would not help.
    """
    backoff = backoff or Backoff()
    while True:
        try:
            connection = await connect(
                url, token, role, software=software, process=process, node=node, authority=authority
            )
        except (ControllerUnreachable, RequestTimeout, PeerError) as error:
            if isinstance(error, PeerError) and error.id in _FATAL:
                raise
            await asyncio.sleep(backoff.next_delay())
            continue
        backoff.reset()
        try:
            yield connection
        finally:
            await connection.close(grace=0.5)
        await asyncio.sleep(backoff.next_delay())
