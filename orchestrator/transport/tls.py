"""TLS of control connections: version 1.3 alone, with the lab's own certificate authority and no other.

A client trusts the authority that it was given, and checks that the certificate is for the host of its URL.
The server asks for no certificate of a client: tokens authenticate it, as without TLS.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

from orchestrator.errors import ControllerUnreachable, StartFailed

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "HANDSHAKE",
    "NO_TLS_HERE",
    "TLS_ONLY",
    "accept",
    "client_context",
    "first_byte",
    "server_context",
    "tls_failure",
]

HANDSHAKE = 0x16
"""The first byte of a TLS connection: the content type `handshake` of a record (RFC 8446, section 5.1)."""

SHUTDOWN_S = 2.0
"""Seconds for a peer to confirm the end of the TLS connection; as for the end of the websocket."""


def _bad_request(text: str) -> bytes:
    head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()


TLS_ONLY = _bad_request("this port takes TLS only: use wss:// or https://\n")
"""Sent to a client that does not begin with TLS."""

NO_TLS_HERE = _bad_request("this port takes no TLS: use ws:// or http://\n")
"""Sent to a client that begins with TLS at a port without it; it reports a record of a wrong version."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server with this certificate.

    Raises:
        StartFailed: A file is missing, or they do not belong together (`controller.certificate`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # no client resumes a session: connections are few and long
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartFailed(
            f"the controller's certificate cannot be used: {error.strerror or error}",
            id="controller.certificate",
            found=f"{certificate}, {key}",
            expected="a certificate and its key, PEM",
            hint="`nm down`, then `nm up` makes new ones",
        ) from None
    return context


def client_context(authority: str) -> ssl.SSLContext:
    """Return the context of a client that trusts one certificate authority, given as PEM text.

    Raises:
        ControllerUnreachable: The text is no certificate (`controller.tls`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=authority)
    except (ValueError, ssl.SSLError) as error:
        raise ControllerUnreachable(
            f"the certificate authority of the controller cannot be read: {error}",
            id="controller.tls",
            found=authority[:40] or "nothing",
            expected="a certificate in PEM form",
        ) from None
    return context


# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_ISSUER = {18, 19, 20, 21}
_NOT_YET_VALID = {9}
_EXPIRED = {10}
_NAME = {62, 64}


def tls_failure(url: str, error: ssl.SSLError) -> ControllerUnreachable:
    """Return the error for a handshake that failed at the client."""
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or str(error)
        for codes, text in (
            (_ISSUER, "the lab's certificate authority did not issue its certificate"),
            (_EXPIRED, "its certificate has expired"),
            (_NOT_YET_VALID, "its certificate is not valid yet"),
            (_NAME, f"its certificate is not for {host}"),
        ):
            if error.verify_code in codes:
                reason = text
    elif error.reason == "WRONG_VERSION_NUMBER":
        reason = "it does not answer with TLS; without, its address begins with `ws://`"
    else:
        reason = error.reason or str(error)
    text = f"the TLS handshake with the controller at {url} failed: {reason}"
    return ControllerUnreachable(text, id="controller.tls")


async def first_byte(transport: asyncio.Transport) -> int | None:
    """Wait for the first byte of a connection, and leave it there; None at its end.

    Nothing reads the transport meanwhile.

    Raises:
        OSError: The connection is broken, or no file descriptor is left.
    """
    import socket

    # The event loop does not let anybody wait at the transport's own descriptor.
    descriptor = os.dup(transport.get_extra_info("socket").fileno())
    with socket.socket(fileno=descriptor) as sock:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _arrived, readable)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        found = sock.recv(1, socket.MSG_PEEK)
    return found[0] if found else None


def _arrived(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


async def accept(
    transport: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext, limit_s: float
) -> asyncio.Transport | None:
    """Make the server's side of the handshake; None if it failed, and the connection is closed.

    The protocol may be given data before this returns.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.start_tls(
            transport,
            protocol,
            context,
            server_side=True,
            ssl_handshake_timeout=limit_s,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
    except OSError:  # among them all failures of TLS
        return None
