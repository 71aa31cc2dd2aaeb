"""Run the given examples unmodified, with real processes, controller and Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nextmini_py import Dataplane
from orchestrator.store.embedded import EmbeddedPostgres
from tests.nextmini_py.conftest import WAIT_MS
from tests.nextmini_py.real_lab import RealLab
from tests.postgres import new_database, postgres

__all__ = ["postgres"]

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
SITTER = """
import signal, sys, nextmini_py
dp = nextmini_py.Dataplane(sys.argv[1])
print("in", flush=True)
signal.pause()
"""


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> dict[str, str | int]:
    return {**postgres.parameters, "database": new_database(postgres)}


@pytest.fixture
def lab(tmp_path: Path, database: dict[str, str | int]) -> Iterator[RealLab]:
    with RealLab(tmp_path, database, [(1, 2), (2, 3)]) as found:
        yield found


def outputs(lab: RealLab, examples: dict[int, str]) -> dict[int, str]:
    """Run an example as each node, all at once, and return what they printed."""
    with ExitStack() as stack:
        children = {
            node: stack.enter_context(
                lab.program("-m", "tests.nextmini_py.run_seed", SEEDS / example, lab.settings(node))
            )
            for node, example in examples.items()
        }
        printed = {node: child.communicate(timeout=90)[0] for node, child in children.items()}
    assert {node: child.returncode for node, child in children.items()} == dict.fromkeys(examples, 0)
    return printed


def test_start(lab: RealLab) -> None:
    assert outputs(lab, {2: "start.py"}) == {2: "2\n"}


def test_unicast(tmp_path: Path, database: dict[str, str | int]) -> None:
    with RealLab(tmp_path, database, [(1, 2)]) as lab:
        printed = outputs(lab, {1: "unicast.py", 2: "unicast.py"})
    assert printed == {1: "timed out\n", 2: "192.168.0.1 40000 5\n"}


def test_multicast_source(lab: RealLab) -> None:
    with Dataplane(lab.settings(2)) as two, Dataplane(lab.settings(3)) as three:
        assert outputs(lab, {1: "multicast_source.py"}) == {1: ""}
        for node in (two, three):
            group = node.group_is_ready(timeout_ms=WAIT_MS, label="training-run")
            assert group is not None
            assert node.wait_for_group_routes(group[0], 1, timeout_ms=WAIT_MS)


def test_lossless(lab: RealLab) -> None:
    examples = {1: "lossless_source.py", 2: "lossless_receiver.py", 3: "lossless_receiver.py"}
    text = repr(b"...serialized payload...") + "\n"
    assert outputs(lab, examples) == {1: "True\n", 2: text, 3: text}


def test_a_killed_controller_comes_back_and_a_transfer_does_not_notice(
    tmp_path: Path, database: dict[str, str | int]
) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(RealLab(tmp_path, database, [(1, 2), (2, 3)], rate_bps=50_000_000))
        nodes = {node: stack.enter_context(Dataplane(lab.settings(node))) for node in lab.nodes}
        for dataplane in nodes.values():
            assert dataplane.wait_for_topology_ready(timeout_ms=WAIT_MS)
        nodes[1].create_group("weights")
        group_id, group_ip, _ = nodes[1].group_is_ready(timeout_ms=WAIT_MS) or (0, "", 0)
        for node in (2, 3):
            nodes[node].join_group(group_id)
        nodes[1].compute_group_routes(group_id, [2, 3])
        data = os.urandom(15_000_000)
        receiving = {node: nodes[node].receive_data(group_id, group_ip, 1, len(data)) for node in (2, 3)}
        sending = nodes[1].send_data(group_id, group_ip, [2, 3], data)
        wait_for(nodes[1], "SessionPeer")
        lab.kill()
        wait_for(nodes[1], "Controller", connected=False)
        assert nodes[1].lossless_result(sending).state == "active", "the kill came in the middle"
        lab.start()
        assert nodes[1].lossless_wait(sending, timeout_ms=WAIT_MS)
        for node, session in receiving.items():
            assert nodes[node].lossless_wait(session, timeout_ms=WAIT_MS)
            assert bytes(nodes[node].get_data_buffer(session)) == data
        # The controller is of use again, and knows what it knew.
        nodes[3].leave_group(group_id)
        nodes[1].create_group("weights")
        assert nodes[1].group_is_ready(timeout_ms=WAIT_MS) == (group_id, group_ip, 1)
        nodes[1].create_group("more")
        assert nodes[3].group_is_ready(timeout_ms=WAIT_MS, label="more") is not None


def test_a_killed_neighbour_is_named_and_its_external_node_can_be_reused(lab: RealLab) -> None:
    with ExitStack() as stack:
        nodes = {node: stack.enter_context(Dataplane(lab.settings(node))) for node in (1, 2)}
        with lab.program("-c", SITTER, lab.settings(3)) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "in\n"
            assert nodes[1].wait_for_topology_ready(timeout_ms=WAIT_MS)
            session = nodes[1].send_data(0, "10.0.0.3", [3], b"x" * 1000)
            child.kill()
        assert nodes[1].lossless_wait(session, timeout_ms=WAIT_MS) is False
        entry = nodes[1].lossless_result(session).receivers[3]
        assert entry.state == "failed"
        assert "node 3" in entry.reason
        again = stack.enter_context(Dataplane(lab.settings(3)))
        receiver = again.register_receiver_from_node(1)
        assert again.wait_for_topology_ready(timeout_ms=WAIT_MS)
        nodes[1].send_to_node(3, b"welcome back")
        delivery = receiver.recv(timeout_ms=WAIT_MS)
        assert delivery is not None
        assert delivery.payload == b"welcome back"


def wait_for(dataplane: Dataplane, kind: str, **detail: object) -> None:
    """Wait for an event."""
    for event in dataplane.events(timeout_ms=WAIT_MS):
        if event.kind == kind and detail.items() <= event.detail.items():
            return
    raise AssertionError(f"no {kind} came")
