"""Lossless transfers: every listed receiver has every byte, or is named with the reason."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nextmini_py import Dataplane, InvalidArgument, NoData, PacketView, UnknownGroup, UnknownSession
from tests.nextmini_py.conftest import QUICK, WAIT_MS, Opener, make_group
from tests.nextmini_py.fake_controller import FakeController

RECEIVER = """
import sys, nextmini_py
path, group_id, group_ip, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
dp = nextmini_py.Dataplane(path)
dp.join_group(group_id)
session = dp.receive_data(group_id, group_ip, 1, size)
print("receiving", flush=True)
print(dp.lossless_wait(session), flush=True)
"""


SENDER = """
import json, sys, nextmini_py
path, life = sys.argv[1], int(sys.argv[2])
dp = nextmini_py.Dataplane(path)
dp.wait_for_topology_ready(timeout_ms=20_000)
sessions = {n: dp.send_data(0, f"10.0.0.{n}", [n], bytes([life, n]) * 50_000) for n in (2, 3)}
print(json.dumps({n: dp.lossless_wait(s, timeout_ms=20_000) for n, s in sessions.items()}), flush=True)
sys.stdin.read()
"""


def check(dataplane: Dataplane, session: int, data: bytes) -> None:
    assert dataplane.lossless_wait(session, timeout_ms=WAIT_MS)
    view = dataplane.get_data_buffer(session)
    assert hashlib.sha256(view).digest() == hashlib.sha256(data).digest()


def test_every_receiver_gets_every_byte(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    data = os.urandom(5_000_000)
    receiving = {node: nodes[node].receive_data(group_id, group_ip, 1, len(data)) for node in (2, 3)}
    sending = nodes[1].send_data(group_id, group_ip, [2, 3], data, chunk_size=100)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
    for node, session in receiving.items():
        check(nodes[node], session, data)
    result = nodes[1].lossless_result(sending)
    assert result.complete and result.state == "complete" and result.role == "sender"
    assert {node: (entry.state, entry.bytes) for node, entry in result.receivers.items()} == {
        2: ("complete", len(data)),
        3: ("complete", len(data)),
    }
    assert len(data) <= result.bytes_sent <= 1.03 * len(data), "one copy leaves the source"
    assert nodes[2].lossless_result(receiving[2]).receivers[2].bytes == len(data)
    assert pickle.loads(pickle.dumps(result)) == result


def test_the_receiver_may_come_second(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    data = os.urandom(100_000)
    sending = nodes[1].send_data(group_id, group_ip, [2], data)
    assert nodes[1].lossless_wait(sending, timeout_ms=30) is False, "nobody is there yet"
    assert nodes[1].lossless_result(sending).state in ("waiting", "active")
    check(nodes[2], nodes[2].receive_data(group_id, group_ip, 1, len(data)), data)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)


def test_one_node_can_be_sent_to_by_its_address(nodes: dict[int, Dataplane]) -> None:
    data = os.urandom(1_000_000)
    receiving = nodes[3].receive_data(0, "10.0.0.3", 1, len(data))
    sending = nodes[1].send_data(0, "10.0.0.3", [3], data)
    check(nodes[3], receiving, data)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)


def test_transfers_of_one_group_in_sequence_and_at_once_do_not_mix(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    payloads = [os.urandom(200_000 + number) for number in range(4)]
    receiving = [nodes[2].receive_data(group_id, group_ip, 1, len(data)) for data in payloads]
    sending = [nodes[1].send_data(group_id, group_ip, [2], data) for data in payloads]
    assert len(set(sending)) == len(set(receiving)) == 4
    for session, data in zip(receiving, payloads, strict=True):
        check(nodes[2], session, data)
    for session in sending:
        assert nodes[1].lossless_wait(session, timeout_ms=WAIT_MS)


def test_sub_views_and_arrays_are_sent_as_they_are(nodes: dict[int, Dataplane]) -> None:
    numpy = pytest.importorskip("numpy")
    weights = numpy.random.default_rng(7).random((300, 100), dtype="f4")
    for buffer, expected in (
        (PacketView(b"0123456789" * 10).slice(5, 25), b"56789" + b"0123456789" + b"01234"),
        (weights, weights.tobytes()),
    ):
        session = nodes[2].receive_data(0, "10.0.0.2", 1, len(expected))
        nodes[1].send_data(0, "10.0.0.2", [2], buffer)
        check(nodes[2], session, expected)


def test_a_sent_buffer_is_released_when_the_transfer_has_ended(nodes: dict[int, Dataplane]) -> None:
    data = bytearray(os.urandom(50_000))
    receiving = nodes[2].receive_data(0, "10.0.0.2", 1, len(data))
    sending = nodes[1].send_data(0, "10.0.0.2", [2], data)
    with pytest.raises(BufferError):
        data.append(0)
    check(nodes[2], receiving, bytes(data))
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
    gc.collect()
    data.append(0)


def test_what_arrived_is_kept_until_it_is_consumed(nodes: dict[int, Dataplane]) -> None:
    session = nodes[2].receive_data(0, "10.0.0.2", 1, 100)
    with pytest.raises(NoData, match="not complete"):
        nodes[2].get_data_buffer(session)
    sending = nodes[1].send_data(0, "10.0.0.2", [2], b"x" * 100)
    assert nodes[2].lossless_wait(session, timeout_ms=WAIT_MS)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
    first = nodes[2].get_data_buffer(session, consume=False)
    last = nodes[2].get_data_buffer(session)
    assert bytes(first) == bytes(last) == b"x" * 100
    with pytest.raises(NoData, match="consumed"):
        nodes[2].get_data_buffer(session)
    with pytest.raises(NoData, match="it sends"):
        nodes[1].get_data_buffer(sending)
    assert nodes[2].lossless_wait(session, timeout_ms=0), "asking again is the same"


def test_invalid_input_is_refused_at_once_and_by_name(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    send, receive = nodes[1].send_data, nodes[2].receive_data
    with pytest.raises(InvalidArgument, match="buffer is empty"):
        send(group_id, group_ip, [2], b"")
    with pytest.raises(InvalidArgument, match="no receivers"):
        send(group_id, group_ip, [], b"x")
    with pytest.raises(InvalidArgument, match="chunk size is zero"):
        send(group_id, group_ip, [2], b"x", chunk_size=0)
    with pytest.raises(UnknownGroup, match="group 9"):
        send(9, "239.255.0.9", [2], b"x")
    with pytest.raises(InvalidArgument, match="no bytes"):
        receive(group_id, group_ip, 1, 0)
    with pytest.raises(ValueError, match="not an IPv4 address"):
        receive(0, "somewhere", 1, 10)
    for call in (nodes[1].lossless_wait, nodes[1].lossless_result, nodes[1].get_data_buffer):
        with pytest.raises(UnknownSession):
            call(12345)
        with pytest.raises(KeyError):
            call(12345)


def test_an_address_that_is_not_the_groups_is_corrected_and_said(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    with pytest.warns(UserWarning, match=f"{group_ip} is used"):
        session = nodes[2].receive_data(group_id, "239.255.0.10", 1, 10)
    nodes[1].send_data(group_id, group_ip, [2], b"x" * 10)
    check(nodes[2], session, b"x" * 10)


def test_a_receiver_that_never_comes_is_named_and_the_other_completes(open_nodes: Opener) -> None:
    nodes = open_nodes(1, 2, 3, extra=QUICK)
    group_id, group_ip = make_group(nodes)
    data = os.urandom(300_000)
    receiving = nodes[2].receive_data(group_id, group_ip, 1, len(data))
    sending = nodes[1].send_data(group_id, group_ip, [2, 3], data)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS) is False
    check(nodes[2], receiving, data)
    result = nodes[1].lossless_result(sending)
    assert not result.complete
    assert result.receivers[2].state == "complete"
    assert result.receivers[3].state == "timed_out"
    assert "no receive call waited for it" in result.receivers[3].reason


def test_a_receive_call_waits_for_its_sender_as_long_as_the_settings_say(open_nodes: Opener) -> None:
    nodes = open_nodes(1, 2, 3, extra="[lossless_runtime_config]\nstart_timeout_ms = 200\n")
    group_id, group_ip = make_group(nodes)
    session = nodes[2].receive_data(group_id, group_ip, 1, 10)
    assert nodes[2].lossless_wait(session, timeout_ms=WAIT_MS) is False
    entry = nodes[2].lossless_result(session).receivers[2]
    assert (entry.state, entry.reason) == ("timed_out", "node 1 did not start within 200 ms")


def test_a_receiver_with_too_little_room_is_named_and_the_other_completes(
    nodes: dict[int, Dataplane],
) -> None:
    group_id, group_ip = make_group(nodes)
    data = os.urandom(100_000)
    enough = nodes[2].receive_data(group_id, group_ip, 1, len(data))
    little = nodes[3].receive_data(group_id, group_ip, 1, 10)
    sending = nodes[1].send_data(group_id, group_ip, [2, 3], data)
    check(nodes[2], enough, data)
    assert nodes[3].lossless_wait(little, timeout_ms=WAIT_MS) is False
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS) is False
    entry = nodes[1].lossless_result(sending).receivers[3]
    assert entry.state == "failed"
    assert "10 bytes" in entry.reason


def test_a_receive_call_that_is_cancelled_takes_nothing(nodes: dict[int, Dataplane]) -> None:
    session = nodes[2].receive_data(0, "10.0.0.2", 1, 1000)
    for _ in range(3):
        nodes[2].lossless_cancel(session)
    assert nodes[2].lossless_wait(session, timeout_ms=0) is False
    assert nodes[2].lossless_result(session).reason == "cancelled by the receiver"
    again = nodes[2].receive_data(0, "10.0.0.2", 1, 1000)
    assert again != session
    nodes[1].send_data(0, "10.0.0.2", [2], b"y" * 1000)
    check(nodes[2], again, b"y" * 1000)


def test_cancelling_releases_bytes_that_nobody_fetched(nodes: dict[int, Dataplane]) -> None:
    session = nodes[2].receive_data(0, "10.0.0.2", 1, 100)
    sending = nodes[1].send_data(0, "10.0.0.2", [2], b"x" * 100)
    assert nodes[2].lossless_wait(session, timeout_ms=WAIT_MS)
    nodes[2].lossless_cancel(session)
    with pytest.raises(NoData, match="cancelled"):
        nodes[2].get_data_buffer(session)
    assert nodes[2].lossless_result(session).complete, "what happened stays true"
    with pytest.raises(UnknownSession):
        nodes[2].lossless_cancel(session + 1)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
    nodes[1].close()
    nodes[1].lossless_cancel(sending)
    assert nodes[1].lossless_result(sending).complete, "also after the end"


def test_what_is_not_fetched_takes_no_later_transfer(nodes: dict[int, Dataplane]) -> None:
    payloads = [os.urandom(1000 + number) for number in range(3)]
    sessions = []
    for data in payloads:
        sessions.append(nodes[2].receive_data(0, "10.0.0.2", 1, 2000))
        sending = nodes[1].send_data(0, "10.0.0.2", [2], data)
        assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
    for session, data in zip(sessions, payloads, strict=True):
        check(nodes[2], session, data)


def test_thousands_of_transfers_are_quick_and_the_last_are_remembered(nodes: dict[int, Dataplane]) -> None:
    count = 5000
    first = last = 0
    for number in range(count):
        last = nodes[2].receive_data(0, "10.0.0.2", 1, 10)
        first = first or last
        sending = nodes[1].send_data(0, "10.0.0.2", [2], b"ten bytes!")
        assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS), number
        assert bytes(nodes[2].get_data_buffer(last)) == b"ten bytes!"
    assert nodes[2].lossless_result(last).complete
    with pytest.raises(UnknownSession):
        nodes[2].lossless_result(first)
    nodes[2].lossless_cancel(first)


def test_a_sender_that_was_killed_and_came_back_claims_nothing_of_its_previous_process(
    open_nodes: Opener, controller: FakeController, tmp_path: Path
) -> None:
    nodes = open_nodes(2, 3)
    path = controller.settings(1, tmp_path)
    for life in range(4):
        receiving = {node: nodes[node].receive_data(0, f"10.0.0.{node}", 1, 100_000) for node in (2, 3)}
        with subprocess.Popen(
            [sys.executable, "-c", SENDER, str(path), str(life)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            said = json.loads(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
        assert said == {"2": True, "3": True}
        for node, session in receiving.items():
            check(nodes[node], session, bytes([life, node]) * 50_000)


def test_a_receiver_that_leaves_is_named(nodes: dict[int, Dataplane]) -> None:
    group_id, group_ip = make_group(nodes)
    data = os.urandom(300_000)
    receiving = {node: nodes[node].receive_data(group_id, group_ip, 1, len(data)) for node in (2, 3)}
    nodes[3].leave_group(group_id)
    sending = nodes[1].send_data(group_id, group_ip, [2, 3], data)
    check(nodes[2], receiving[2], data)
    assert nodes[3].lossless_wait(receiving[3], timeout_ms=WAIT_MS) is False
    nodes[3].close()
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS) is False
    result = nodes[1].lossless_result(sending)
    assert result.receivers[2].state == "complete"
    assert result.receivers[3].state in ("left", "failed")


def test_a_receiver_that_is_killed_is_named_at_once(
    open_nodes: Opener, controller: FakeController, tmp_path: Path
) -> None:
    nodes = open_nodes(1, 2)
    with to_a_process(nodes, controller.settings(3, tmp_path), os.urandom(60_000_000)) as (child, sending):
        child.send_signal(signal.SIGKILL)
    assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS) is False
    entry = nodes[1].lossless_result(sending).receivers[3]
    assert entry.state == "failed"
    assert "unreachable" in entry.reason


def test_a_transfer_between_processes_goes_over_tcp(
    open_nodes: Opener, controller: FakeController, tmp_path: Path
) -> None:
    nodes = open_nodes(1, 2)
    with to_a_process(nodes, controller.settings(3, tmp_path), os.urandom(3_000_000)) as (child, sending):
        assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
        assert child.stdout is not None and child.stdout.readline() == "True\n"
        assert child.wait(timeout=20) == 0


@contextmanager
def to_a_process(
    nodes: dict[int, Dataplane], settings: Path, data: bytes
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Begin a transfer over node 2 to node 3, a process of its own; gives the process and the session."""
    nodes[1].create_group("group")
    group_id, group_ip, _ = nodes[1].group_is_ready(timeout_ms=WAIT_MS) or (0, "", 0)
    command = [sys.executable, "-c", RECEIVER, str(settings), str(group_id), group_ip, str(len(data))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "receiving\n"
        assert nodes[1].wait_for_topology_ready(timeout_ms=WAIT_MS)
        nodes[1].set_group_routes(group_id, [(1, 2), (2, 3)])
        yield child, nodes[1].send_data(group_id, group_ip, [3], data)
