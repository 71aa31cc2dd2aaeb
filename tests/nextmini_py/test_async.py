"""Test the asynchronous variants of blocking calls, and their cancellation."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from nextmini_py import Dataplane, NodeClosed, UnknownGroup
from tests.nextmini_py.conftest import LINE, WAIT_MS, Opener, make_group


async def test_messages_are_awaited(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    waiting = asyncio.create_task(receiver.recv_async())
    await asyncio.sleep(0)
    assert not waiting.done()
    nodes[1].send_to_node(2, b"hello")
    delivery = await asyncio.wait_for(waiting, 20)
    assert delivery is not None
    assert delivery.payload == b"hello"


async def test_a_cancelled_wait_has_taken_nothing(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    got: list[int] = []
    for number in range(50):
        waiting = asyncio.create_task(receiver.recv_async())
        await asyncio.sleep(0)
        nodes[1].send_to_node(2, bytes([number]))
        for _ in range(number % 4):  # cancelled before, while and after the loop hears of the message
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            delivery = await waiting
        except asyncio.CancelledError:
            continue
        got += [delivery.payload[0]] if delivery else []
    while len(got) < 50:
        batch = await receiver.recv_batch_async(timeout_ms=WAIT_MS)
        assert batch
        got += [delivery.payload[0] for delivery in batch]
    assert got == list(range(50))


async def test_a_wait_ends_with_its_time(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    assert await receiver.recv_async(timeout_ms=20) is None
    assert await receiver.recv_batch_async(timeout_ms=20) == []
    assert await nodes[1].group_is_ready_async(timeout_ms=20) is None


async def test_the_loop_goes_on_while_many_wait(nodes: dict[int, Dataplane]) -> None:
    receivers = [nodes[2].register_receiver_from_node(1, dst_port=1000 + n) for n in range(20)]
    waiting = [asyncio.create_task(receiver.recv_async(WAIT_MS)) for receiver in receivers]
    for number in reversed(range(20)):
        await asyncio.to_thread(nodes[1].send_to_node, 2, bytes([number]), None, 1000 + number)
    found = await asyncio.gather(*waiting)
    assert [delivery.payload[0] for delivery in found if delivery] == list(range(20))


async def test_a_whole_transfer_is_awaited(open_nodes: Opener) -> None:
    nodes = await asyncio.to_thread(open_nodes)
    assert await nodes[1].wait_for_topology_ready_async(timeout_ms=WAIT_MS)
    await nodes[1].create_group_async("group")
    group_id, group_ip, source = await nodes[1].group_is_ready_async(timeout_ms=WAIT_MS) or (0, "", 0)
    for node in (2, 3):
        await nodes[node].join_group_async(group_id)
        assert await nodes[node].wait_for_local_membership_async(group_id, timeout_ms=WAIT_MS)
    assert await nodes[1].compute_group_routes_async(group_id, [2, 3]) == LINE
    assert await nodes[1].wait_for_group_routes_async(group_id, source, timeout_ms=WAIT_MS)
    data = os.urandom(2_000_000)
    receiving = [
        await nodes[node].receive_data_async(group_id, group_ip, source, len(data)) for node in (2, 3)
    ]
    sending = nodes[1].send_data(group_id, group_ip, [2, 3], data)
    waits = [
        nodes[1].lossless_wait_async(sending, timeout_ms=WAIT_MS),
        nodes[2].lossless_wait_async(receiving[0], timeout_ms=WAIT_MS),
        nodes[3].lossless_wait_async(receiving[1], timeout_ms=WAIT_MS),
    ]
    assert await asyncio.gather(*waits) == [True, True, True]
    assert bytes(nodes[3].get_data_buffer(receiving[1])) == data


async def test_a_cancelled_wait_does_not_stop_a_transfer(nodes: dict[int, Dataplane]) -> None:
    session = nodes[2].receive_data(0, "10.0.0.2", 1, 1000)
    waiting = asyncio.create_task(nodes[2].lossless_wait_async(session))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    nodes[1].send_data(0, "10.0.0.2", [2], bytes(1000))
    assert await nodes[2].lossless_wait_async(session, timeout_ms=WAIT_MS)


async def test_events_are_awaited(nodes: dict[int, Dataplane]) -> None:
    waiting = asyncio.create_task(_first(nodes[2], "LocalMemberJoined"))
    await asyncio.to_thread(make_group, nodes)
    assert await asyncio.wait_for(waiting, 20) == {"group_id": 1}
    nodes[2].close()
    assert [event.kind async for event in nodes[2].events_async()][-1:] != ["Unknown"]


async def test_closing_ends_a_wait(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    waits = [
        asyncio.create_task(receiver.recv_async()),
        asyncio.create_task(nodes[2].wait_for_local_membership_async(5)),
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(nodes[2].close)
    for wait in waits:
        with pytest.raises(NodeClosed):
            await asyncio.wait_for(wait, 20)


async def test_a_refusal_is_raised_where_it_is_awaited(nodes: dict[int, Dataplane]) -> None:
    with pytest.raises(UnknownGroup):
        await nodes[1].join_group_async(9, timeout_ms=10)


def test_two_loops_in_two_threads_wait_for_one_dataplane(nodes: dict[int, Dataplane]) -> None:
    receivers = [nodes[2].register_receiver_from_node(1, dst_port=port) for port in (1000, 1001)]
    found: dict[int, bytes] = {}

    async def receive(index: int) -> None:
        delivery = await receivers[index].recv_async(timeout_ms=WAIT_MS)
        found[index] = delivery.payload if delivery else b""

    threads = [threading.Thread(target=lambda n=n: asyncio.run(receive(n))) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for index in (0, 1):
        nodes[1].send_to_node(2, bytes([index]), dst_port=1000 + index)
    for thread in threads:
        thread.join()
    assert found == {0: b"\0", 1: b"\1"}


async def _first(dataplane: Dataplane, kind: str) -> dict[str, object]:
    async for event in dataplane.events_async():
        if event.kind == kind:
            return event.detail
    raise AssertionError(f"no {kind} came")
