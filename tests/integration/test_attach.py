"""Programs that attach to their node in a real lab, and roles in processes of their own."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from nextmini_py import NotAttached, attach
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from tests.integration.conftest import RING, Nm, shared_lab

SCENARIO = Path(__file__).parent / "isolated"
ring = shared_lab(RING)

RECEIVE = """
import hashlib, sys, nextmini_py
with nextmini_py.attach() as node:
    assert node.node_id == 3, node
    node.wait_for_topology_ready(timeout_ms=20_000)
    messages = node.register_receiver_from_node(1)
    group, address, source = node.group_is_ready(timeout_ms=20_000, label="attached")
    node.join_group(group)
    session = node.receive_data(group, address, source, 8_000_000)
    assert messages.recv(timeout_ms=20_000).payload == b"hello"
    assert node.lossless_wait(session, timeout_ms=20_000)
    print(hashlib.sha256(node.get_data_buffer(session)).hexdigest())
"""

SEND = """
import sys, nextmini_py
data = open(sys.argv[1], "rb").read()
with nextmini_py.attach() as node:
    node.create_group("attached")
    group, address, _ = node.group_is_ready(timeout_ms=20_000)
    joined = (event for event in node.events(timeout_ms=20_000) if event.kind == "MemberChanged")
    assert next(joined).detail["node_id"] == 3
    node.compute_group_routes(group)
    node.send_to_node(3, b"hello")
    session = node.send_data(group, address, [3], data)
    assert node.lossless_wait(session, timeout_ms=20_000), node.lossless_result(session)
"""


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    return Nm(home, tmp_path)


def test_programs_of_nm_exec_send_messages_and_eight_megabytes_to_a_group(
    ring: Lab, nm: Nm, tmp_path: Path
) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(8_000_000))
    receiver = nm.start("exec", "-n", ring.name, 3, "--", sys.executable, "-c", RECEIVE)
    sent = nm("exec", "-n", ring.name, 1, "--", sys.executable, "-c", SEND, payload)
    out, err = receiver.communicate(timeout=60)
    assert sent.code == 0, (sent, err)
    assert out.strip() == hashlib.sha256(payload.read_bytes()).hexdigest(), err


def test_outside_the_node_nothing_can_attach(ring: Lab) -> None:
    with pytest.raises(NotAttached):
        attach()


def test_roles_run_in_processes_of_their_own_and_may_fork(ring: Lab, tmp_path: Path) -> None:
    outcome = ring.run_scenario(str(SCENARIO), results=tmp_path / "out")
    assert outcome.verdict == "pass", outcome
    processes = {row["pid"] for row in outcome.rows}
    assert len(processes) == 3


def test_a_role_that_crashes_ends_the_run_with_the_reason_and_nothing_else(ring: Lab, tmp_path: Path) -> None:
    outcome = ring.run_scenario(str(SCENARIO), params={"crash": True}, results=tmp_path / "out")
    assert outcome.verdict == "error", outcome
    assert "SIGABRT" in outcome.reason, outcome
    again = ring.run_scenario(str(SCENARIO), results=tmp_path / "again")
    assert again.verdict == "pass", again
