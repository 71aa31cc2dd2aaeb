"""Test control connections and HTTP over TLS, and everything that can be wrong with a handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backoff import Backoff
from orchestrator.errors import ControllerUnreachable, StartFailed
from orchestrator.plan import Certificates
from orchestrator.plan.certificates import make_certificates
from orchestrator.protocol import Admission, Role, node_token
from orchestrator.transport import Connection, Server, admit, connect, reconnecting, serve, server_context
from orchestrator.transport.tls import first_byte

TOKEN = node_token("key", 1)
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return made(HOST)


async def test_a_client_with_the_authority_is_admitted(certificates: Certificates, tmp_path: Path) -> None:
    async with serving(certificates, tmp_path) as server:
        connection = await dial(server, certificates.authority)
        assert connection.welcome is not None
        await connection.close()


async def test_only_version_1_3_is_spoken(certificates: Certificates, tmp_path: Path) -> None:
    async with serving(certificates, tmp_path) as server:
        context = trusting(certificates)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*server.address, ssl=context)
        _, writer = await asyncio.open_connection(*server.address, ssl=trusting(certificates))
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await closed(writer)


async def test_a_loop_that_begins_to_read_after_a_pause_takes_no_bytes_of_the_handshake(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the event loop of Python 3.11.2, which is in the images."""

    def add_reader(transport: Any, descriptor: int, callback: Any, *given: Any) -> None:
        if not transport._closing:
            transport._loop._add_reader(descriptor, callback, *given)

    monkeypatch.setattr("asyncio.selector_events._SelectorTransport._add_reader", add_reader)
    async with serving(certificates, tmp_path) as server:
        await (await dial(server, certificates.authority)).close()
        with pytest.raises(ControllerUnreachable, match="this port takes TLS only"):
            await connect(url(server).replace("wss", "ws"), TOKEN, Role.NODE, node=1, within=5)


async def test_http_is_answered_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    async with serving(certificates, tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.address, ssl=trusting(certificates))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"fine")
        await closed(writer)


@pytest.mark.parametrize(
    ("host", "validity", "trusted", "reason"),
    [
        (HOST, timedelta(days=1), "another", "did not issue its certificate"),
        (HOST, timedelta(minutes=-1), "own", "its certificate has expired"),
        ("elsewhere.example", timedelta(days=1), "own", f"its certificate is not for {HOST}"),
    ],
)
async def test_a_wrong_certificate_is_refused_by_its_reason(
    certificates: Certificates, tmp_path: Path, host: str, validity: timedelta, trusted: str, reason: str
) -> None:
    wrong = made(host, validity)
    async with serving(wrong, tmp_path) as server:
        with pytest.raises(ControllerUnreachable, match=reason) as caught:
            await dial(server, wrong.authority if trusted == "own" else certificates.authority)
        assert caught.value.id == "controller.tls"


async def test_an_authority_that_is_no_certificate_is_reported(
    certificates: Certificates, tmp_path: Path
) -> None:
    async with serving(certificates, tmp_path) as server:
        for text in ("", "rubbish"):
            with pytest.raises(ControllerUnreachable, match="cannot be read") as caught:
                await dial(server, text)
            assert caught.value.id == "controller.tls"


async def test_a_client_without_tls_is_told_so_at_once(certificates: Certificates, tmp_path: Path) -> None:
    async with serving(certificates, tmp_path) as server:
        host, port = server.address
        with pytest.raises(ControllerUnreachable, match="this port takes TLS only"):
            await connect(f"ws://{host}:{port}/control", TOKEN, Role.NODE, node=1, within=5)
        answer = await answer_to(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 400 ") and b"https://" in answer


async def test_a_client_with_tls_at_a_port_without_is_told_so_at_once(
    certificates: Certificates, tmp_path: Path
) -> None:
    async with serving(None, tmp_path) as server:
        with pytest.raises(ControllerUnreachable, match="does not answer with TLS") as caught:
            await dial(server, certificates.authority)
        assert caught.value.id == "controller.tls"


async def test_rubbish_is_answered_or_closed_and_the_server_goes_on(
    certificates: Certificates, tmp_path: Path
) -> None:
    async with serving(certificates, tmp_path) as server:
        assert b"400 Bad Request" in await answer_to(server, b"\x00\xff" * 50_000)
        # A record of the type `handshake` with rubbish in it, and one with a length that TLS does not have.
        for record in (b"\x16\x03\x01\x00\x20" + b"\xff" * 32, b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000):
            assert not (await answer_to(server, record)).startswith(b"HTTP")
        await (await dial(server, certificates.authority)).close()


async def test_a_handshake_that_stops_halfway_ends_by_the_limit(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no byte, with one, and with half of the client's first message."""
    monkeypatch.setattr("orchestrator.transport.server.HELLO_TIMEOUT", 0.2)
    hello = client_hello(certificates)
    async with serving(certificates, tmp_path) as server:
        for sent in (b"", hello[:1], hello[: len(hello) // 2]):
            assert await answer_to(server, sent, end=False) == b""
        await (await dial(server, certificates.authority)).close()


async def test_a_secured_client_that_says_nothing_ends_by_the_limit(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.transport.server.HELLO_TIMEOUT", 0.2)
    async with serving(certificates, tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.address, ssl=trusting(certificates))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await closed(writer)


async def test_open_handshakes_are_bounded_and_their_places_come_back(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.transport.server.MAX_UNAUTHENTICATED", 20)
    hello = client_hello(certificates)
    async with serving(certificates, tmp_path) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(20)]
        for number, (_, writer) in enumerate(held):
            writer.write(hello[: number * 10])
        with pytest.raises(ControllerUnreachable):
            await dial(server, certificates.authority)
        for _, writer in held:
            await closed(writer)
        async for connection in reconnecting(
            url(server), TOKEN, Role.NODE, node=1, backoff=Backoff(0.01), authority=certificates.authority
        ):
            await connection.close()
            break


async def test_a_client_comes_back_to_a_server_that_was_started_again(
    certificates: Certificates, tmp_path: Path
) -> None:
    met = 0
    async with serving(certificates, tmp_path) as server:
        port = server.address[1]
        again = reconnecting(
            url(server), TOKEN, Role.NODE, node=1, backoff=Backoff(0.01), authority=certificates.authority
        )
        async for _ in again:
            met += 1
            break
    async with serving(certificates, tmp_path, port):
        async for connection in again:
            met += connection.welcome is not None
            break
    await again.aclose()
    assert met == 2


async def test_the_server_ends_while_handshakes_are_open(certificates: Certificates, tmp_path: Path) -> None:
    async with serving(certificates, tmp_path) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(3)]
        held[1][1].write(client_hello(certificates)[:20])
        async with asyncio.timeout(5):
            await server.close()
        for _, writer in held:
            await closed(writer)


async def test_the_first_byte_stays_in_the_socket() -> None:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()

    class Once(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            arrived.set_result(data)

    transport, _ = await loop.create_connection(Once, sock=ours)
    transport.pause_reading()
    waiting = asyncio.create_task(first_byte(transport))
    theirs.sendall(b"ab")
    assert await asyncio.wait_for(waiting, 5) == ord("a")
    transport.resume_reading()
    assert await asyncio.wait_for(arrived, 5) == b"ab"
    transport.pause_reading()
    theirs.close()
    assert await asyncio.wait_for(first_byte(transport), 5) is None
    transport.close()


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "a.crt").write_text(certificates.certificate)
    (tmp_path / "a.key").write_text(made(HOST).key)
    for key in ("a.key", "missing.key"):
        with pytest.raises(StartFailed) as caught:
            server_context(tmp_path / "a.crt", tmp_path / key)
        assert caught.value.id == "controller.certificate"


def made(host: str, validity: timedelta = timedelta(days=1)) -> Certificates:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    return make_certificates("test", [host], validity=validity)


def trusting(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates.authority)
    return context


def client_hello(certificates: Certificates) -> bytes:
    """Return the first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(certificates).wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@asynccontextmanager
async def serving(certificates: Certificates | None, folder: Path, port: int = 0) -> AsyncIterator[Server]:
    """Serve with a certificate, or without TLS; every peer is admitted that has a right token."""
    context = None
    if certificates is not None:
        (folder / "server.crt").write_text(certificates.certificate)
        (folder / "server.key").write_text(certificates.key)
        context = server_context(folder / "server.crt", folder / "server.key")

    async def handle(connection: Connection) -> None:
        await admit(connection, Admission("key", "operator"), "lab", 1)
        async for _ in connection:
            pass

    server = await serve(
        handle, HOST, port, http_handler=lambda _path: (200, "text/plain", b"fine"), tls=context
    )
    try:
        yield server
    finally:
        await server.close()


def url(server: Server) -> str:
    host, port = server.address
    return f"wss://{host}:{port}/control"


async def dial(server: Server, authority: str) -> Connection:
    return await connect(url(server), TOKEN, Role.NODE, node=1, within=5, authority=authority)


async def answer_to(server: Server, data: bytes, *, end: bool = True) -> bytes:
    """Send bytes without TLS and return all that comes back; a connection that is reset ends as well."""
    reader, writer = await asyncio.open_connection(*server.address)
    found = b""
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        while part := await asyncio.wait_for(reader.read(1000), 5):
            found += part
    except ConnectionError:
        pass
    await closed(writer)
    return found


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):  # the other end was quicker
        await writer.wait_closed()
