"""Test invalid input to the controller of a running lab."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgpack
import pytest
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed

from orchestrator.lab import Lab
from orchestrator.protocol import MAX_MESSAGE, VERSION, Frame, PeerError, decode_frames, encode
from orchestrator.protocol.messages import Error, Hello
from orchestrator.settings import ControllerSettings, load_controller
from orchestrator.transport import connect

pytestmark = pytest.mark.lab("ring.yaml", backend="native")


@pytest.fixture
def settings(lab: Lab) -> ControllerSettings:
    return load_controller(lab.directory / "run" / "controller.toml")


def url(settings: ControllerSettings) -> str:
    return f"ws://127.0.0.1:{settings.port}/control"


def frame(version: int = VERSION, kind: object = "GetStatus", body: object = None) -> bytes:
    packed: bytes = msgpack.packb([version, 1, 0, kind, {} if body is None else body])
    return packed


async def test_a_wrong_token_is_refused_by_name(lab: Lab, settings: ControllerSettings) -> None:
    for role in ("node", "agent", "operator"):
        with pytest.raises(PeerError) as caught:
            await connect(url(settings), "wrong", role)
        assert caught.value.id == "control.token"
    assert lab.status().state == "ready"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (frame(version=VERSION + 1), "protocol.version"),
        (frame(kind="NoSuchThing"), "protocol.unknown-type"),
        (frame(kind=7), "protocol.malformed"),
        (frame(body=[1, 2]), "protocol.body"),
        (frame()[:-1], "protocol.truncated"),
        (b"\xc1\xff\x00", "protocol.malformed"),
        (b"", "protocol.malformed"),
        (bytes(MAX_MESSAGE + 1), "protocol.too-large"),
    ],
)
async def test_a_wrong_message_gets_an_error_and_the_controller_stays(
    lab: Lab, settings: ControllerSettings, data: bytes, error: str
) -> None:
    async with dial(url(settings), max_size=2 * MAX_MESSAGE, compression=None, proxy=None) as peer:
        await peer.send(_hello(settings.operator_token))
        await peer.recv()
        await peer.send(data)
        (answer,) = decode_frames(_bytes(await peer.recv()))
        assert isinstance(answer.message, Error)
        assert answer.message.error == error
        await peer.send(frame())
        (answer,) = decode_frames(_bytes(await peer.recv()))
        assert answer.message.type == "Status"
    assert lab.status().state == "ready"


async def test_a_message_that_is_far_too_large_ends_its_connection_alone(
    lab: Lab, settings: ControllerSettings
) -> None:
    # Not in a `with` block: the library cannot close in order what was reset in the middle of a message.
    peer = await dial(url(settings), max_size=None, compression=None, proxy=None, close_timeout=1)
    await peer.send(_hello(settings.operator_token))
    await peer.recv()
    with suppress(ConnectionClosed):  # it need not be read to its end
        await peer.send(bytes(3 * MAX_MESSAGE))
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(peer.recv(), 10)
    status = lab.status()
    assert status.state == "ready" and all(node.state == "ready" for node in status.nodes)


def _hello(token: str) -> bytes:
    return encode(Frame(Hello(token, VERSION, "operator"), id=1))


def _bytes(data: str | bytes) -> bytes:
    assert isinstance(data, bytes)
    return data
