"""Test that messages of roles reach the controller in order and completely."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from orchestrator.node import link
from orchestrator.node.link import ControllerLink
from orchestrator.protocol import Admission, ProtocolError, node_token
from orchestrator.protocol.messages import AgentHello, ChangeLinks, Error, RoleReport, TimelineChange
from orchestrator.transport import Connection, admit, serve


class Taker:
    """A controller that takes rows only while it is told to."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.taking = asyncio.Event()

    async def handle(self, connection: Connection) -> None:
        await admit(connection, Admission("key", "operator"), "lab", 1)
        async for frame in connection:
            if isinstance(frame.message, RoleReport):
                await self.taking.wait()
                self.rows.append(frame.message.seq)
            connection.ack(frame)


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[ControllerLink, Taker]]:
    taker = Taker()
    server = await serve(taker.handle, "127.0.0.1", 0)
    host, port = server.address
    url = f"ws://{host}:{port}/control"
    token = node_token("key", 1)
    agent = ControllerLink(url, token, 1, lambda: AgentHello((1,)), lambda *_: None, lambda: None)
    running = asyncio.create_task(agent.run())
    try:
        await asyncio.wait_for(agent.welcomed.wait(), 10)
        yield agent, taker
    finally:
        running.cancel()
        await asyncio.wait([running])
        await server.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.005)


async def test_a_role_that_reports_without_end_waits_for_room_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "MAX_OUTBOX", 10)
    said: list[int] = []
    async with linked() as (agent, taker):

        def role() -> None:
            for number in range(1, 101):
                while not agent.has_room():
                    time.sleep(0.005)
                agent.post(RoleReport("run", 1, "sayer", number, {}), 1, True)
                said.append(number)

        thread = threading.Thread(target=role, daemon=True)
        thread.start()
        await until(lambda: len(said) == 10)
        await asyncio.to_thread(thread.join, 0.3)
        assert len(said) == 10, "it waits until there is room"
        taker.taking.set()
        await asyncio.wait_for(asyncio.to_thread(thread.join), 20)
        await until(lambda: len(taker.rows) == 100)
        assert taker.rows == list(range(1, 101))


async def test_a_change_of_links_that_the_controller_cannot_take_is_told_to_its_role() -> None:
    async def refuse(connection: Connection) -> None:
        await admit(connection, Admission("key", "operator"), "lab", 1)
        async for frame in connection:
            if isinstance(frame.message, ChangeLinks):
                connection.refuse(frame, ProtocolError("it cannot be read", id="control.malformed"))
            else:
                connection.ack(frame)

    server = await serve(refuse, "127.0.0.1", 0)
    host, port = server.address
    told: asyncio.Queue[tuple[ChangeLinks, Error]] = asyncio.Queue()
    agent = ControllerLink(
        f"ws://{host}:{port}/control",
        node_token("key", 1),
        1,
        lambda: AgentHello((1,)),
        lambda *_: None,
        lambda: None,
        lambda *refused: told.put_nowait(refused),
    )
    running = asyncio.create_task(agent.run())
    try:
        await asyncio.wait_for(agent.welcomed.wait(), 10)
        change = ChangeLinks("run", 1, 1, TimelineChange(0, "heal"))
        agent.post(change, 1, True)
        refused, error = await asyncio.wait_for(told.get(), 10)
        assert refused == change
        assert (error.error, error.message) == ("control.malformed", "it cannot be read")
    finally:
        running.cancel()
        await asyncio.wait([running])
        await server.close()


async def test_the_loop_itself_never_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_OUTBOX", 1)
    async with linked() as (agent, taker):
        for number in range(1, 6):
            agent.post(RoleReport("run", 1, "sayer", number, {}), 1, True)
        taker.taking.set()
        await until(lambda: len(taker.rows) == 5)


async def test_the_search_for_a_controller_ends_with_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asynchronous generator that is left to the end of its loop may be closed twice at once there."""
    closed = []

    async def connections(*_: object, **__: object) -> AsyncIterator[object]:
        try:
            yield SimpleNamespace(request=begun)
        finally:
            closed.append(True)

    async def begun(_greeting: object) -> None:
        running.cancel()
        await asyncio.sleep(60)

    monkeypatch.setattr(link, "reconnecting", connections)
    agent = ControllerLink("ws://nowhere", "t", 1, lambda: AgentHello((1,)), lambda *_: None, lambda: None)
    running = asyncio.create_task(agent.run())
    await asyncio.wait([running], timeout=10)
    assert running.cancelled() and closed == [True]
