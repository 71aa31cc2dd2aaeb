"""Test opening and closing a node, and messages between nodes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nextmini_py import (
    MAX_MESSAGE,
    ConfigError,
    ControllerUnreachable,
    Dataplane,
    InvalidArgument,
    MessageTooLarge,
    NodeClosed,
    PacketBuilder,
    PacketView,
    TokenRefused,
    UnknownNode,
)
from orchestrator.protocol import messages as m
from orchestrator.protocol import node_token
from tests.nextmini_py.conftest import WAIT_MS, Opener
from tests.nextmini_py.fake_controller import NODE_KEY, FakeController


def test_a_node_says_who_it_is_and_where(nodes: dict[int, Dataplane], controller: FakeController) -> None:
    info = nodes[2].get_network_info()
    assert nodes[2].node_id == 2
    assert info["node_id"] == "2"
    assert info["controller_addr"] == f"ws://127.0.0.1:{controller.port}/control"
    assert info["local_address"] == "10.0.0.2"
    assert info["user_space_address"] == "192.168.0.2"
    assert all(isinstance(value, str) for value in info.values())


def test_a_message_goes_over_two_hops_whole(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[3].register_receiver_from_node(src_node_id=1, src_port=40000, dst_port=50000)
    builder = PacketBuilder()
    builder.write(b"hello ")
    builder.write(b"there")
    assert nodes[1].send_to_node(3, builder.freeze(), src_port=40000, dst_port=50000) == 0
    delivery = receiver.recv(timeout_ms=WAIT_MS)
    assert delivery is not None
    assert delivery.payload == b"hello there"
    assert bytes(delivery.frozen_payload) == b"hello there"
    assert (delivery.src_ip, delivery.dst_ip) == ("192.168.0.1", "192.168.0.3")
    assert (delivery.src_port, delivery.dst_port, delivery.message_id) == (40000, 50000, 0)


def test_ports_default_to_the_client_and_server_ports(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    nodes[1].send_to_node(2, PacketView(b"x"))
    delivery = receiver.recv(timeout_ms=WAIT_MS)
    assert delivery is not None
    assert (delivery.src_port, delivery.dst_port) == (45535, 8888)


def test_the_largest_message_arrives_and_a_larger_one_is_refused_at_once(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[3].register_receiver_from_node(1)
    largest = os.urandom(MAX_MESSAGE)
    nodes[1].send_to_node(3, largest)
    delivery = receiver.recv(timeout_ms=WAIT_MS)
    assert delivery is not None
    assert delivery.payload == largest
    with pytest.raises(MessageTooLarge) as raised:
        nodes[1].send_to_node(3, bytes(MAX_MESSAGE + 1))
    assert raised.value.largest == MAX_MESSAGE


def test_a_node_that_is_not_there_is_named(nodes: dict[int, Dataplane]) -> None:
    with pytest.raises(UnknownNode, match="77"):
        nodes[1].send_to_node(77, b"x")


def test_a_flow_has_one_receiver_until_it_is_closed(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    with pytest.raises(InvalidArgument):
        nodes[2].register_receiver_from_node(1)
    receiver.close()
    receiver.close()
    with pytest.raises(NodeClosed):
        receiver.recv(timeout_ms=0)
    with nodes[2].register_receiver_from_node(1) as again:
        nodes[1].send_to_node(2, b"x")
        assert again.recv(timeout_ms=WAIT_MS) is not None


def test_a_full_queue_counts_what_it_dropped(open_nodes: Opener) -> None:
    nodes = open_nodes(1, 2, 3, extra="channel_capacity = 5\n")
    receiver = nodes[2].register_receiver_from_node(1)
    assert nodes[1].wait_for_topology_ready(timeout_ms=WAIT_MS)
    for number in range(8):
        nodes[1].send_to_node(2, bytes([number]))
    got = [delivery.payload[0] for delivery in receiver.recv_batch(timeout_ms=WAIT_MS)]
    while len(got) + receiver.dropped < 8:
        got += [delivery.payload[0] for delivery in receiver.recv_batch(timeout_ms=WAIT_MS)]
    assert got[:5] == [0, 1, 2, 3, 4]


def test_with_back_pressure_nothing_is_dropped_for_a_program_that_reads(open_nodes: Opener) -> None:
    nodes = open_nodes(1, 2, 3, extra="channel_capacity = 2\nchannel_backpressure = true\n")
    receiver = nodes[2].register_receiver_from_node(1)
    assert nodes[1].wait_for_topology_ready(timeout_ms=WAIT_MS)
    sender = threading.Thread(target=lambda: [nodes[1].send_to_node(2, bytes([n])) for n in range(100)])
    sender.start()
    got: list[int] = []
    while len(got) < 100:
        delivery = receiver.recv(timeout_ms=WAIT_MS)
        assert delivery is not None
        got.append(delivery.payload[0])
    sender.join()
    assert got == list(range(100))
    assert receiver.dropped == 0


def test_waits_end_with_their_time(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[2].register_receiver_from_node(1)
    start = time.monotonic()
    assert receiver.recv(timeout_ms=30) is None
    assert receiver.recv_batch(timeout_ms=30) == []
    assert nodes[1].group_is_ready(timeout_ms=30) is None
    assert nodes[1].wait_for_local_membership(4, timeout_ms=30) is False
    assert nodes[1].wait_for_group_routes(4, 1, timeout_ms=30) is False
    assert time.monotonic() - start < 10


def test_a_node_alone_is_not_ready(open_nodes: Opener) -> None:
    (node,) = open_nodes(1).values()
    assert node.wait_for_topology_ready(timeout_ms=50) is False


def test_closing_ends_waits_tells_the_controller_and_is_final(
    nodes: dict[int, Dataplane], controller: FakeController
) -> None:
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            nodes[1].group_is_ready()
        except NodeClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    nodes[1].close()
    nodes[1].close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert [str(error) for error in raised] == ["the dataplane of node 1 is closed"]
    assert controller.wait_for(m.Goodbye, node=1)
    with pytest.raises(NodeClosed):
        nodes[1].send_to_node(2, b"x")
    with pytest.raises(NodeClosed):
        nodes[1].statistics()
    assert "closed" in repr(nodes[1])


def test_neighbours_of_a_closed_node_hear_of_it(nodes: dict[int, Dataplane]) -> None:
    list(nodes[1].events(timeout_ms=0))
    nodes[2].close()
    down = next(event for event in nodes[1].events(timeout_ms=WAIT_MS) if event.kind == "LinkState")
    assert (down.detail["remote_node_id"], down.detail["up"]) == (2, False)


def test_statistics_count_what_was_sent(nodes: dict[int, Dataplane]) -> None:
    receiver = nodes[3].register_receiver_from_node(1)
    nodes[1].send_to_node(3, bytes(100))
    assert receiver.recv(timeout_ms=WAIT_MS) is not None
    (link,) = nodes[1].statistics()["links"]
    assert (link["remote"], link["state"], link["tx_packets"]) == (2, "up", 1)
    assert link["tx_bytes"] == 100 + 28
    assert [link["remote"] for link in nodes[2].statistics()["links"]] == [1, 3]


def test_a_typo_in_the_file_stops_the_opening(controller: FakeController, tmp_path: Path) -> None:
    path = controller.settings(1, tmp_path, extra="mtuu = 9000\n")
    with pytest.raises(ConfigError) as raised:
        Dataplane(path)
    assert (raised.value.key, raised.value.nearest) == ("mtuu", "mtu")


def test_a_wrong_token_is_told_by_name(controller: FakeController, tmp_path: Path) -> None:
    path = controller.settings(1, tmp_path)
    path.write_text(path.read_text().replace(node_token(NODE_KEY, 1), node_token(NODE_KEY, 2)))
    with pytest.raises(TokenRefused) as raised:
        Dataplane(path)
    assert raised.value.id == "control.token"


def test_a_controller_that_is_not_there_is_told_after_the_configured_time(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "node-1.toml"
    path.write_text(
        f'node_id = 1\ncontroller_addr = "127.0.0.1:{port}"\ncontroller_connect_timeout_ms = 300\n'
    )
    start = time.monotonic()
    with pytest.raises(ControllerUnreachable, match="within 300 ms"):
        Dataplane(path)
    assert 0.3 <= time.monotonic() - start < 10


def test_one_external_node_has_one_process(nodes: dict[int, Dataplane]) -> None:
    with pytest.raises(Exception, match="already in this process"):
        Dataplane(nodes[1].config_path)


def test_ctrl_c_ends_a_wait(controller: FakeController, tmp_path: Path) -> None:
    program = (
        "import sys, nextmini_py\n"
        "dp = nextmini_py.Dataplane(sys.argv[1])\n"
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    dp.wait_for_topology_ready()\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    path = controller.settings(1, tmp_path)
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "waiting\n"
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.wait(timeout=10) == 0
        finally:
            child.kill()
    assert controller.wait_for(m.Goodbye, node=1), "a program that ends says goodbye"


REQUESTED = """
import os, resource, sys
from nextmini_py import Dataplane, host

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]  # as in a process of many nodes
with Dataplane(sys.argv[1]):
    host.wait_for_agent_request()
    print("requested", flush=True)
    host.wait_for_agent_request()
"""


def test_a_process_is_told_that_an_agent_is_wanted(controller: FakeController, tmp_path: Path) -> None:
    command = [sys.executable, "-c", REQUESTED, str(controller.settings(1, tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert controller.wait_for(m.StartUp, 1)
            assert process.poll() is None
            controller.say(1, m.AgentWanted())
            assert process.communicate(timeout=20)[0] == "requested\n"
        finally:
            process.kill()
    assert process.returncode == 0
