"""Test control connections, in memory and over sockets."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect as raw_connect
from websockets.exceptions import ConnectionClosed

from orchestrator.backoff import Backoff
from orchestrator.errors import ControllerUnreachable
from orchestrator.protocol import (
    MAX_MESSAGE,
    Admission,
    PeerError,
    ProtocolError,
    Role,
    UnknownType,
    decode_frames,
    node_token,
)
from orchestrator.protocol.messages import Ack, Error, Hello, JoinGroup, LinkState, NodeTopologyReady
from orchestrator.transport import (
    Connection,
    Disconnected,
    RequestTimeout,
    Server,
    admit,
    connect,
    memory_pair,
    reconnecting,
    serve,
)
from orchestrator.transport.pipes import MemoryPipe

TOKEN = node_token("key", 1)


async def test_frames_arrive_in_order_and_in_few_messages() -> None:
    one, other = memory_pair()
    sent: list[int] = []
    pipe_send = one._pipe.send

    async def counting(data: bytes) -> None:
        sent.append(len(decode_frames(data)))
        await pipe_send(data)

    one._pipe.send = counting  # type: ignore[method-assign]  # looks at the batches on their way
    for number in range(1, 501):
        one.send_nowait(LinkState(number, True), node=number)
    frames = [await other.next_frame(1) for _ in range(500)]
    assert [frame.node for frame in frames if frame] == list(range(1, 501))
    assert len(sent) <= 2
    await one.close()
    assert await other.next_frame(1) is None


async def test_a_request_gets_its_own_reply() -> None:
    one, other = memory_pair()
    waiting = [asyncio.create_task(one.request(JoinGroup(n), node=1, within=1)) for n in range(3)]
    frames = [await other.next_frame(1) for _ in range(3)]
    for frame in reversed(frames):
        assert frame is not None and isinstance(frame.message, JoinGroup)
        other.ack(frame, frame.message.group_id)
    replies = [await each for each in waiting]
    assert [reply.value for reply in replies if isinstance(reply, Ack)] == [0, 1, 2]
    await one.close()


async def test_a_refused_request_raises_the_peers_error() -> None:
    one, other = memory_pair()
    waiting = asyncio.create_task(one.request(JoinGroup(7), within=1))
    frame = await other.next_frame(1)
    assert frame is not None
    other.refuse(frame, ProtocolError("there is no group 7", id="group.unknown", hint="create it"))
    with pytest.raises(PeerError, match="no group 7") as caught:
        await waiting
    assert (caught.value.id, caught.value.hint) == ("group.unknown", "create it")
    await other.close()


async def test_a_request_without_an_answer_ends_in_time() -> None:
    one, other = memory_pair()
    with pytest.raises(RequestTimeout, match="JoinGroup"):
        await one.request(JoinGroup(1), within=0.02)
    await other.close()
    with pytest.raises(Disconnected):
        await one.request(JoinGroup(1), within=1)


async def test_requests_under_way_fail_when_the_connection_ends() -> None:
    one, other = memory_pair()
    waiting = asyncio.create_task(one.request(JoinGroup(1), within=5))
    assert await other.next_frame(1)
    await other.close()
    with pytest.raises(Disconnected):
        await waiting


async def test_a_wrong_frame_is_answered_and_the_rest_is_read() -> None:
    one, other = memory_pair()
    await one._pipe.send(b"\x95\x01\x07\x03\xaaMakeCoffee\x80" + b"\x95\x01\x00\x03\xb1NodeTopologyReady\x80")
    frame = await other.next_frame(1)
    assert frame is not None and isinstance(frame.message, NodeTopologyReady)
    answer = await one.next_frame(1)
    assert answer is not None and isinstance(answer.message, Error)
    assert (answer.message.re, answer.message.error) == (7, UnknownType.id)
    await one.close()


async def test_a_peer_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.transport.connection.MAX_PENDING", 10_000)
    one, _ = memory_pair()
    stuck = asyncio.Event()

    async def never(data: bytes) -> None:
        await stuck.wait()

    one._pipe.send = never  # type: ignore[method-assign]  # a socket whose other end stopped reading
    for _ in range(1000):
        one.send_nowait(LinkState(1, True, "x" * 50))
    assert one.ended is not None and "does not read" in one.ended
    await asyncio.wait_for(one.wait_closed(), 8)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    admission = Admission("key", "operator-token")

    async def handle(connection: Connection) -> None:
        try:
            await admit(connection, admission, "ring", 3)
        except ProtocolError:
            return
        async for frame in connection:
            connection.ack(frame, "seen")

    def http(path: str) -> tuple[int, str, bytes] | None:
        return (200, "application/json", b"{}") if path == "/healthz" else None

    server = await serve(handle, "127.0.0.1", 0, http_handler=http)
    yield server
    await server.close()


def url(server: Server) -> str:
    host, port = server.address
    return f"ws://{host}:{port}/control"


async def test_a_peer_with_the_right_token_is_admitted(server: Server) -> None:
    async with await connect(url(server), TOKEN, Role.NODE, node=1) as connection:
        assert connection.welcome is not None
        assert (connection.welcome.lab, connection.welcome.incarnation) == ("ring", 3)
        reply = await connection.request(JoinGroup(1), within=1)
        assert isinstance(reply, Ack) and reply.value == "seen"


@pytest.mark.parametrize(
    ("role", "token"),
    [("node", "operator-token"), ("node", ""), ("controller", ""), ("agent", ""), ("x", "é")],
)
async def test_a_wrong_token_or_role_is_refused(server: Server, role: str, token: str) -> None:
    with pytest.raises(PeerError) as caught:
        await connect(url(server), token, role)
    assert caught.value.id == "control.token"


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b"\x95\x02\x01\x00\xa5Hello\x80", "protocol.version"),
        (b"garbage", "protocol.malformed"),
        (b"", "protocol.malformed"),
        ("text", "protocol.malformed"),
        (b"\x95\x01\x01\x00\xa5Hello\x80", "protocol.body"),
        (b"\x95\x01\x01\x00\xb1NodeTopologyReady\x80", "protocol.malformed"),
        (b"\x95\x01\x01", "protocol.truncated"),
        (bytes(MAX_MESSAGE + 1), "protocol.too-large"),
    ],
)
async def test_a_wrong_first_message_is_answered_and_the_server_stays_up(
    server: Server, first: bytes | str, error: str
) -> None:
    async with raw_connect(url(server), proxy=None) as socket:
        await socket.send(first)
        answer = await asyncio.wait_for(socket.recv(), 2)
        assert isinstance(answer, bytes)
        [frame] = decode_frames(answer)
        assert isinstance(frame.message, Error) and frame.message.error == error
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 2)
    await (await connect(url(server), TOKEN, "node", node=1)).close()


async def test_another_protocol_version_in_hello_is_refused_by_name(server: Server) -> None:
    from orchestrator.protocol import Frame, encode

    async with raw_connect(url(server), proxy=None) as socket:
        await socket.send(encode(Frame(Hello("node-token", 9, "node"), 0, 4)))
        answer = await asyncio.wait_for(socket.recv(), 2)
        assert isinstance(answer, bytes)
        [frame] = decode_frames(answer)
        assert isinstance(frame.message, Error)
        assert (frame.message.re, frame.message.error) == (4, "protocol.version")


async def test_http_is_answered_on_the_same_port(server: Server) -> None:
    host, port = server.address

    def get(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=2) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    assert await asyncio.to_thread(get, "/healthz") == (200, b"{}")
    assert (await asyncio.to_thread(get, "/other"))[0] == 404


async def test_nobody_there_is_said_so_in_time() -> None:
    with pytest.raises(ControllerUnreachable, match="no controller answer"):
        await connect("ws://127.0.0.1:9/control", "t", Role.NODE, within=1)


async def test_reconnecting_comes_back_when_the_server_does(server: Server) -> None:
    seen: list[Connection] = []
    async for connection in reconnecting(url(server), TOKEN, Role.NODE, node=1, backoff=Backoff(0.01)):
        seen.append(connection)
        if len(seen) == 2:
            break
        await connection.close()
    assert seen[0] is not seen[1]


async def test_reconnecting_does_not_insist_when_it_is_refused(server: Server) -> None:
    with pytest.raises(PeerError):
        async for _ in reconnecting(url(server), "wrong", Role.NODE):
            raise AssertionError("let in")


async def test_unauthenticated_connections_are_bounded_and_do_not_block_later_peers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.transport.server.MAX_UNAUTHENTICATED", 20)
    known = [await connect(url(server), TOKEN, "node", node=1) for _ in range(25)]  # these are none
    sockets = [await asyncio.open_connection(*server.address) for _ in range(40)]
    ended = [asyncio.create_task(reader.read()) for reader, _ in sockets]
    done, _ = await asyncio.wait(ended, timeout=1)
    assert len(done) == 20
    for _, writer in sockets:
        writer.close()
    await asyncio.wait(ended)
    known += [await connect(url(server), TOKEN, "node", node=1)]
    for connection in known:
        await connection.close()


async def test_an_unauthenticated_peer_may_not_send_much(server: Server) -> None:
    async with raw_connect(url(server), proxy=None) as socket:
        await socket.send(bytes(20_000))
        answer = await asyncio.wait_for(socket.recv(), 2)
        assert isinstance(answer, bytes)
        [frame] = decode_frames(answer)
        assert isinstance(frame.message, Error) and frame.message.error == "protocol.too-large"


async def test_a_reader_that_is_behind_holds_back_its_peer_and_still_gets_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.transport.connection.UNREAD_BYTES", 1000)
    one, other = map(Connection, MemoryPipe.pair(2))
    for number in range(5000):
        one.send_nowait(LinkState(1, True, "x" * 500), node=number)
    while other._unread_bytes < 1000:  # noqa: ASYNC110  # nobody is told of this
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert other.unread < 5000 and one.pending_bytes > 0
    asking = asyncio.create_task(other.request(JoinGroup(7), within=5))
    question = await one.next_frame(5)
    assert question is not None
    one.ack(question, "yes")
    reply = await asking
    assert isinstance(reply, Ack) and reply.value == "yes"
    assert [(await other.next_frame(1)).node for _ in range(5000)] == list(range(5000))  # type: ignore[union-attr]
    await one.close()


async def test_a_connection_whose_reader_fails_ends_by_name() -> None:
    one, other = memory_pair()

    async def broken() -> bytes:
        raise RuntimeError("broken")

    other._pipe.recv = broken  # type: ignore[method-assign]  # a fault of ours
    one.send_nowait(LinkState(1, True))
    async with asyncio.timeout(5):
        while await other.next_frame() is not None:
            pass
    assert other.ended == "internal error: RuntimeError"
    await one.close()
