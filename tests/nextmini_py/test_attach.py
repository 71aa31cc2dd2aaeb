"""Programs in other processes that use a node of this one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

import nextmini_py
from nextmini_py import Dataplane, InvalidArgument, NodeClosed, NotAttached, UnknownSession, host
from tests.nextmini_py.conftest import WAIT_MS, Opener, make_group

SIZE = 8_000_000

Attach = Callable[[int], nextmini_py.AttachedDataplane]


@pytest.fixture
def names(nodes: dict[int, Dataplane]) -> dict[int, str]:
    """The three nodes serve programs, each under a name of its own, since they share this network."""
    made = {number: f"nm-test-{secrets.token_hex(6)}" for number in nodes}
    for number, name in made.items():
        host.serve_programs(nodes[number], name=name)
    return made


@pytest.fixture
def attach(names: dict[int, str]) -> Iterator[Attach]:
    """Attaches to a node."""
    with ExitStack() as stack:
        yield lambda number: stack.enter_context(nextmini_py.attach(names[number]))


def program(text: str, name: str) -> subprocess.Popen[str]:
    """A program of another process, which finds the node by the environment."""
    environment = {**os.environ, "NM_ATTACH": name}
    text = f"import nextmini_py, os, sys\nnode = nextmini_py.attach()\n{text}"
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for a change that nothing announces."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def can_register(node: Dataplane, source: int) -> bool:
    """Whether nobody receives a flow."""
    try:
        node.register_receiver_from_node(source).close()
    except InvalidArgument:
        return False
    return True


def test_it_is_the_node_it_runs_in(nodes: dict[int, Dataplane], attach: Attach) -> None:
    attached = attach(2)
    assert attached.node_id == 2
    assert attached.get_network_info() == nodes[2].get_network_info()
    assert attached.wait_for_topology_ready(timeout_ms=WAIT_MS)
    ours, theirs = nodes[2].statistics(), attached.statistics()
    assert ours.keys() == theirs.keys()
    assert [link["remote"] for link in theirs["links"]] == [1, 3]
    assert "node 2 from @nm-test" in repr(attached)


def test_messages_both_ways_and_in_order(nodes: dict[int, Dataplane], attach: Attach) -> None:
    first, last = attach(1), attach(3)
    receiver = last.register_receiver_from_node(1)
    assert receiver.recv(timeout_ms=0) is None
    payloads = [bytes([number]) * (number * 100 + 1) for number in range(100)]
    for number, payload in enumerate(payloads):
        assert first.send_to_node(3, payload) == number
    got = [receiver.recv(timeout_ms=WAIT_MS) for _ in range(10)]
    while len(got) < len(payloads):
        batch = receiver.recv_batch(limit=7, timeout_ms=WAIT_MS)
        assert 1 <= len(batch) <= 7
        got += batch
    assert [each.payload for each in got if each is not None] == payloads
    assert got[0] is not None
    assert (got[0].src_ip, got[0].message_id) == (nodes[1].get_network_info()["user_space_address"], 0)
    assert receiver.dropped == 0
    with pytest.raises(nextmini_py.MessageTooLarge) as found:
        first.send_to_node(3, bytes(nextmini_py.MAX_MESSAGE + 1))
    assert found.value.largest == nextmini_py.MAX_MESSAGE
    receiver.close()
    with pytest.raises(NodeClosed):
        receiver.recv(timeout_ms=0)
    assert can_register(nodes[3], 1)


def test_a_group_and_a_lossless_transfer_to_it(nodes: dict[int, Dataplane], attach: Attach) -> None:
    data = os.urandom(SIZE)
    all_nodes = {number: attach(number) for number in (1, 2, 3)}
    group_id, group_ip = make_group(dict(all_nodes))
    assert [event.kind for event in all_nodes[3].events(timeout_ms=0)].count("LocalMemberJoined") == 1
    taken = {number: all_nodes[number].receive_data(group_id, group_ip, 1, len(data)) for number in (2, 3)}
    session = all_nodes[1].send_data(group_id, group_ip, [2, 3], data)
    assert all_nodes[1].lossless_wait(session, timeout_ms=WAIT_MS)
    for number, received in taken.items():
        assert all_nodes[number].lossless_wait(received, timeout_ms=WAIT_MS)
        view = all_nodes[number].get_data_buffer(received)
        assert hashlib.sha256(view).digest() == hashlib.sha256(data).digest()
    result = all_nodes[1].lossless_result(session)
    assert result.complete and set(result.receivers) == {2, 3}
    with pytest.raises(nextmini_py.NoData):
        all_nodes[2].get_data_buffer(taken[2])
    with pytest.raises(UnknownSession):
        all_nodes[3].lossless_result(10_000)


def test_a_membership_ends_with_the_last_program_that_joined(
    nodes: dict[int, Dataplane], attach: Attach
) -> None:
    first, second, source = attach(2), attach(2), attach(1)
    group_id, _group_ip = make_group({1: source, 2: first}, members=(2,))
    second.join_group(group_id)

    def is_member() -> bool:
        return nodes[2].wait_for_local_membership(group_id, timeout_ms=0)

    first.leave_group(group_id)
    assert is_member(), "the second program has joined too"
    first.leave_group(group_id)
    assert is_member(), "a program ends no membership but its own"
    second.close()
    eventually(lambda: not is_member(), "the membership ends with the last program")


def test_the_bytes_of_all_programs_of_a_node_are_limited(nodes: dict[int, Dataplane], attach: Attach) -> None:
    near, far = attach(1), attach(2)
    address = nodes[2].get_network_info()["user_space_address"]
    with pytest.raises(InvalidArgument, match="4 GiB") as found:
        far.receive_data(0, address, 1, (4 << 30) + 1)
    assert found.value.id == "attach.limit"
    received = far.receive_data(0, address, 1, 1000)
    near.send_data(0, address, [2], bytes(1000))
    assert far.lossless_wait(received, timeout_ms=WAIT_MS)
    for consume in (False, False, True):
        assert bytes(far.get_data_buffer(received, consume=consume)) == bytes(1000)
    with pytest.raises(nextmini_py.NoData):
        far.get_data_buffer(received)


def test_async_calls_wait_for_what_happens_at_the_node(nodes: dict[int, Dataplane], attach: Attach) -> None:
    near, far = attach(1), attach(2)
    receiver = far.register_receiver_from_node(1)

    async def talk() -> None:
        waiting = asyncio.create_task(receiver.recv_async(timeout_ms=WAIT_MS))
        never = asyncio.create_task(receiver_of_3.recv_async(timeout_ms=WAIT_MS))
        await asyncio.sleep(0.05)
        near.send_to_node(2, b"hello")
        found = await waiting
        assert found is not None and found.payload == b"hello"
        await near.create_group_async("async")
        ready = await near.group_is_ready_async(timeout_ms=WAIT_MS)
        assert ready is not None
        for number in range(8):  # each answer is a thing of its own to wait for, and is gone after its wait
            await near.create_group_async(f"more-{number}")
        await far.join_group_async(ready[0])
        assert await far.wait_for_local_membership_async(ready[0], timeout_ms=WAIT_MS)
        never.cancel()
        with suppress(asyncio.CancelledError):
            await never

    receiver_of_3 = far.register_receiver_from_node(3)
    asyncio.run(talk())


def test_what_a_killed_program_opened_is_closed(nodes: dict[int, Dataplane], names: dict[int, str]) -> None:
    """Even if a child that it forked lives on and has a copy of the connection."""
    started = program(
        "receiver = node.register_receiver_from_node(1)\n"
        "session = node.receive_data(0, node.get_network_info()['user_space_address'], 1, 1000)\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        node.statistics()\n"
        "    except nextmini_py.NodeClosed as error:\n"
        "        os.write(1, error.id.encode() + b'\\n')\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        # Two processes write: whole lines, each in one call.
        "os.write(1, b'%d\\n' % session)\n"
        "os.wait()\n",
        names[2],
    )
    assert started.stdin is not None and started.stdout is not None
    lines = {started.stdout.readline().strip() for _ in range(2)}
    assert "attach.forked" in lines
    session = int(next(line for line in lines if line != "attach.forked"))
    assert not can_register(nodes[2], 1)
    assert not nodes[2].lossless_wait(session, timeout_ms=0)
    started.send_signal(signal.SIGKILL)
    eventually(lambda: can_register(nodes[2], 1), "the receiver of the killed program is closed")
    with suppress(NodeClosed):
        assert not nodes[2].lossless_wait(session, timeout_ms=WAIT_MS)
    assert nodes[2].lossless_result(session).reason, "cancelled"
    started.stdin.close()
    started.wait()
    started.stdout.close()


def test_programs_have_events_and_transfers_of_their_own(nodes: dict[int, Dataplane], attach: Attach) -> None:
    one, other = attach(1), attach(1)
    nodes[1].create_group("events")
    for each in (one, other, nodes[1]):
        kinds = [event.kind for event in each.events(timeout_ms=500)]
        assert "GroupCreated" in kinds
    address = nodes[1].get_network_info()["user_space_address"]
    session = one.receive_data(0, address, 2, 100)
    with pytest.raises(UnknownSession):
        other.lossless_cancel(session)
    one.lossless_cancel(session)
    assert one.lossless_result(session).reason


def test_a_closed_node_ends_the_waits_of_its_programs(nodes: dict[int, Dataplane], attach: Attach) -> None:
    attached = attach(2)
    receiver = attached.register_receiver_from_node(1)
    import threading

    threading.Timer(0.2, nodes[2].close).start()
    with pytest.raises(NodeClosed):
        receiver.recv(timeout_ms=WAIT_MS)
    assert attached.closed
    with pytest.raises(NodeClosed):
        attached.statistics()
    attached.close()
    with pytest.raises(NotAttached) as found:
        nextmini_py.attach(attached.config_path.removeprefix("@"))
    assert "nm exec" in str(found.value.hint)


def test_other_users_are_refused(names: dict[int, str], open_nodes: Opener) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    started = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, nextmini_py\n"
            "nextmini_py.attach\n"
            "os.setresuid(65534, 65534, 65534)\n"
            "try:\n"
            f"    nextmini_py.attach({names[1]!r})\n"
            "except nextmini_py.NotAttached as error:\n"
            "    print(error.id)\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert started.stdout.strip() == "attach.refused"


def test_a_program_that_breaks_the_protocol_harms_nobody(
    nodes: dict[int, Dataplane], names: dict[int, str], attach: Attach
) -> None:
    import socket

    good = attach(1)
    for garbage in (b"\xff" * 64, b"\x03\0\0\0\0\0\0\0\xc1\xc1\xc1", b"\x03"):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect("\0" + names[1])
            raw.sendall(garbage)
            raw.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert raw.recv(1) == b""
    with ExitStack() as many:
        for _ in range(100):
            raw = many.enter_context(socket.socket(socket.AF_UNIX))
            raw.connect("\0" + names[1])
        with pytest.raises(NotAttached):
            nextmini_py.attach(names[1])
        assert good.statistics()["node_id"] == 1
        things = [good.register_receiver_from_node(2, src_port=port, dst_port=9) for port in range(1, 513)]
        with pytest.raises(InvalidArgument, match="512 receivers"):
            good.register_receiver_from_node(3)
        del things
        assert can_register(nodes[1], 2)
    eventually(lambda: _attaches(names[1]), "the other connections are closed")


def _attaches(name: str) -> bool:
    try:
        nextmini_py.attach(name).close()
    except NotAttached:
        return False
    return True
