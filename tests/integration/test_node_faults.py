"""Test nodes that are killed, stopped, started, paused and resumed, with real packets."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab, repair
from orchestrator.settings import load_controller
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.services import need
from tests.integration.test_link_faults import assert_once, pinging, reached, relays

lab = shared_lab(RING)

GROUP = "239.255.0.50"
RECEIVE = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((sys.argv[1], 7000))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                    socket.inet_aton(sys.argv[1]) + socket.inet_aton(sys.argv[2]))
    print("ready", flush=True)
    print(sock.recv(100).decode(), flush=True)
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[2]))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 32)
    sock.sendto(b"hello group", (sys.argv[1], 7000))
"""


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    """`nm` with the home of the lab that the tests share."""
    return Nm(home, tmp_path)


@pytest.fixture(autouse=True)
def all_run(lab: Lab) -> Iterator[None]:
    """After each test, all nodes run."""
    yield
    for node in lab.nodes:
        state = next(each.state for each in lab.status().nodes if each.id == node.id)
        if state == "stopped":
            node.start()
        elif state == "paused":
            node.unpause()


def test_routes_move_away_from_a_killed_node_within_a_second_and_it_comes_back(lab: Lab) -> None:
    need("ping")

    def moved() -> bool:
        """Kill both nodes on the two ways from 1 to 3, one after the other; the packets take one of them."""
        gaps: list[float] = []
        with pinging(lab, 1, 3) as answers:
            for node in (2, 4):
                lab.node(node).kill()
                time.sleep(0.3)
                lab.node(node).start()
                time.sleep(0.3)
        gaps += [after - before for before, after in itertools.pairwise(answers())]
        return max(gaps) < 1

    assert_once(moved)
    assert lab.status().state == "ready"
    assert len(reached(lab)) == 6
    assert {node.address for node in lab.nodes} == {f"10.0.0.{n}" for n in range(1, 5)}


def test_a_killed_node_ends_alone_with_its_programs_and_stays_stopped(lab: Lab, nm: Nm) -> None:
    with sleeping(lab, 2) as inside, sleeping(lab, 3) as other:
        said = nm("node", "kill", 2, "-o", "json")
        assert json.loads(said.out) == {"state": "stopped", "changed": [2], "already": []}
        assert inside.wait(timeout=5) == -signal.SIGKILL
        assert other.poll() is None
        assert "node 2 was already stopped" in nm("node", "kill", 2).err
        seen = lab.status()
        assert (seen.state, seen.nodes[1].state) == ("ready", "stopped")
        assert {(x.a, x.b, x.reason) for x in seen.links if x.state != "up"} == {
            (1, 2, "node 2 is stopped"),
            (2, 3, "node 2 is stopped"),
        }
        refused = nm("exec", 2, "--", "true")
        assert refused.code == 2 and "[node.stopped]" in refused.err and "nm node start 2" in refused.err
        both = nm("exec", "all,2", "--", "true")
        assert both.code == 2 and "[node.stopped]" in both.err
        rest = nm("exec", "all", "-o", "json", "--", "true")
        assert rest.code == 0 and "left out: node 2, which is stopped" in rest.err
        assert 2 not in {each["node"] for each in json.loads(rest.out)}
        # Neither another `nm up` nor a new host process starts it.
        assert "already up" in nm("up", RING).err
        assert lab.status().nodes[1].state == "stopped"
    started = nm("node", "start", 2)
    assert (started.code, started.err.strip()) == (0, "node 2 is ready")
    assert relays(lab, 1, 2) == 0
    assert [(each.name, each.detail["cause"]) for each in lab.events() if each.name in FAULTS][-2:] == [
        ("node.killed", "operator"),
        ("node.started", "operator"),
    ]


FAULTS = ("node.killed", "node.stopped", "node.started", "node.paused", "node.unpaused")


def test_a_stopped_nodes_programs_end_in_order(lab: Lab) -> None:
    trap = "trap 'echo asked; exit 7' TERM; echo there; while :; do sleep 0.05; done"
    with running(lab, 2, ["sh", "-c", trap]) as program:
        lab.node(2).stop()
        out, _ = program.communicate(timeout=5)
    assert (out, program.returncode) == ("asked\n", 7)


def test_a_paused_node_loses_packets_keeps_its_links_and_goes_on(lab: Lab) -> None:
    need("ping")
    count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
    with running(lab, 2, ["sh", "-c", count]) as program:
        lab.node(2).pause()
        seen = lab.status()
        assert (seen.state, seen.nodes[1].state) == ("ready", "paused")
        assert all(link.state == "up" for link in seen.links)
        assert not lab.node(1).run(["ping", "-c", "1", "-W", "0.5", lab.node(2).address]).ok
        assert lab.node(1).run(["ping", "-c", "1", "-W", "2", lab.node(4).address]).ok
        state = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"
        # A change of one of its links is applied when it goes on, and not waited for.
        lab.link(1, 2).down()
        lab.link(1, 2).up()
        lab.node(2).unpause()
        assert program.stdout is not None and program.stdout.readline()
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", lab.node(2).address]).ok
    assert lab.status().state == "ready"


def test_a_group_member_that_was_killed_receives_multicast_again(lab: Lab) -> None:
    with psycopg.connect(
        load_controller(lab._inner.directory / "run" / "controller.toml").db.conninfo()
    ) as sql:
        sql.execute(
            "INSERT INTO groups (group_id, label, src_node_id, group_ip) VALUES (41, 'x', 1, %s)", (GROUP,)
        )
        sql.execute("INSERT INTO group_members (group_id, node_id) VALUES (41, 3)")
    for _ in range(2):
        lab.node(3).kill()
        lab.node(3).start()
        assert delivered(lab)


def test_a_stopped_node_stays_stopped_when_its_host_process_is_restarted(labs: Labs) -> None:
    lab = labs.up(RING)
    lab.node(2).stop()
    lab.node(4).pause()
    host = lab._inner._reread().parts["host"]
    os.kill(host.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while lab._inner._reread().parts["host"] == host or lab.status().state != "ready":
        assert time.monotonic() < deadline, lab.status()
        time.sleep(0.1)
    assert [node.state for node in lab.status().nodes] == ["ready", "stopped", "ready", "paused"]
    lab.node(4).unpause()
    lab.node(2).start()
    assert len(reached(lab)) == 6


@pytest.mark.parametrize("again", ["start", "up"])
def test_a_start_that_fails_half_way_is_finished_by_the_next_one_or_by_up(
    labs: Labs, nm_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    lab, nm = labs.up(RING), Nm(nm_home, tmp_path)
    lab.node(2).kill()

    def fails(*_: object) -> None:
        raise NmError("it fails")

    with monkeypatch.context() as patch:
        patch.setattr(node_states, "record", fails)
        with pytest.raises(NmError, match="it fails"):
            lab.node(2).start()
    if again == "start":
        assert "node 2 runs already" in nm("node", "start", 2).err
    else:
        monkeypatch.setattr(repair, "GRACE_S", 1.0)
        labs.up(RING)
    assert [node.state for node in lab.status().nodes] == ["ready"] * 4
    assert len(reached(lab)) == 6


@pytest.mark.parametrize(
    ("words", "code", "id"),
    [
        (("node", "kill", 9), 2, "selector.invalid"),
        (("node", "unpause", 9), 2, "selector.invalid"),
        (("node", "kill"), 2, "usage.invalid"),
        (("node", "explode", 1), 2, "usage.invalid"),
    ],
)
def test_mistakes_change_nothing(lab: Lab, nm: Nm, words: tuple[object, ...], code: int, id: str) -> None:
    said = nm(*words)
    assert said.code == code and f"[{id}]" in said.err
    assert lab.status().state == "ready" and all(node.state == "ready" for node in lab.status().nodes)


def test_an_external_node_is_not_ours_to_stop(labs: Labs, nm_home: Home, tmp_path: Path) -> None:
    labs.up("name: pair\ntopology: {type: line, n_nodes: 2}\n", external=[2])
    said = Nm(nm_home, tmp_path)("node", "kill", 2)
    assert said.code == 2 and "[node.external]" in said.err


# What runs in nodes.


def running(lab: Lab, node: int, words: list[str]) -> Program:
    return Program(lab, node, words)


def sleeping(lab: Lab, node: int) -> Program:
    return Program(lab, node, ["sh", "-c", "echo there; exec sleep 60"])


class Program:
    """A program in a node that has printed its first line."""

    def __init__(self, lab: Lab, node: int, words: list[str]) -> None:
        command = lab._inner.command(node, words)
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> subprocess.Popen[str]:
        assert self._process.stdout is not None
        assert self._process.stdout.readline()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def delivered(lab: Lab) -> bool:
    """Whether node 3 receives what node 1 sends to the group."""
    words = [sys.executable, "-c", RECEIVE, GROUP, lab.node(3).address]
    with Program(lab, 3, words) as program:
        for _ in range(20):
            sent = lab.node(1).run([sys.executable, "-c", SEND, GROUP, lab.node(1).address])
            assert sent.ok, sent.stderr
            try:
                out, _ = program.communicate(timeout=0.3)
            except subprocess.TimeoutExpired:
                continue
            return out == "hello group\n"
    return False
