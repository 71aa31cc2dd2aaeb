"""Test networks behind containers and ways out of them: `prefixes` and `uplink` on docker.

The outside is a network namespace of the test's own, connected to this machine, and so is the network behind
node 3. Nothing leaves them.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.deploy.docker.engine import Engine
from orchestrator.lab import Lab
from tests.integration.conftest import shared_lab
from tests.integration.machines import Machine, machine
from tests.integration.services import checked
from tests.integration.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root connects namespaces to the machine")

TOPOLOGY = """\
name: edges
topology: {type: line, n_nodes: 3}
nodes:
  1: {uplink: true}
  3: {prefixes: [192.168.50.0/24]}
"""
FILE = random.Random("outside of containers").randbytes(2_000_000)
SHA256 = hashlib.sha256(FILE).hexdigest()
NOTHING = hashlib.sha256(b"").hexdigest()
LIMIT_S = 30.0
SERVER, MACHINE = "203.0.113.9", "203.0.113.1"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server outside of this machine, which is 203.0.113.1 for it; both serve the file."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "file").write_bytes(FILE)
    here = Machine(os.getpid())
    near = f"nm{os.getpid()}"  # of the machine's own interfaces, so it needs a name of its own
    with machine() as server:
        here.run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", server.pid)
        here.run("ip", "address", "add", f"{MACHINE}/24", "dev", near)
        here.run("ip", "link", "set", near, "up")
        server.run("ip", "address", "add", f"{SERVER}/24", "dev", "eth0")
        server.run("ip", "link", "set", "eth0", "up")
        with server.serving(folder, SERVER, 8000), here.serving(folder, MACHINE, 8000):
            yield folder
        here.run("ip", "link", "delete", near)


lab = shared_lab(TOPOLOGY, backend="docker", timeout=180)


@pytest.fixture(autouse=True, scope="module")
def order(outside: Path, lab: Lab) -> None:
    """The lab starts after the outside: an uplink refuses the addresses that the machine has then."""


def fetch(lab: Lab, node: int, address: str) -> str:
    """Return the digest of what a node fetches; that of nothing where it fails."""
    command = f"curl -sS --fail --max-time 5 http://{address}:8000/file | sha256sum"
    return lab.node(node).run(["sh", "-c", command], timeout=LIMIT_S).stdout.split()[0]


def test_every_node_reaches_the_outside_through_the_emulated_links(lab: Lab) -> None:
    assert {node: fetch(lab, node, SERVER) for node in (1, 2, 3)} == dict.fromkeys((1, 2, 3), SHA256)
    traced = checked(lab.node(3).run(["traceroute", "-n", "-q", "1", "-w", "2", "-m", "3", SERVER]))
    assert [line.split()[1] for line in traced.splitlines()[1:3]] == ["10.0.0.2", "10.0.0.1"]


def test_the_machine_and_the_lab_s_other_containers_are_not_reached_over_an_uplink(lab: Lab) -> None:
    assert {node: fetch(lab, node, MACHINE) for node in (1, 3)} == dict.fromkeys((1, 3), NOTHING)
    shown = checked(lab.node(1).run(["nft", "list", "table", "ip", "nm_uplink"]))
    routes = checked(lab.node(1).run(["ip", "-4", "route", "show", "dev", "eth0", "scope", "link"]))
    network = routes.split()[0]
    [forwarded] = [line for line in shown.splitlines() if "reject" in line and network in line]
    assert "169.254.0.0/16" in forwarded and MACHINE in forwarded


def test_a_network_behind_a_container_is_reached_by_all(lab: Lab) -> None:
    facts = Engine().ask_now(lambda client: client.containers.get("nm-edges-node-3").attrs)
    front = Machine(facts["State"]["Pid"])
    with machine() as behind:
        front.run("ip", "link", "add", "port0", "type", "veth", "peer", "name", "eth0", "netns", behind.pid)
        front.run("ip", "address", "add", "192.168.50.1/24", "dev", "port0")
        front.run("ip", "link", "set", "port0", "up")
        behind.run("ip", "address", "add", "192.168.50.2/24", "dev", "eth0")
        behind.run("ip", "link", "set", "eth0", "up")
        behind.run("ip", "route", "add", "default", "via", "192.168.50.1")
        for node in (1, 2, 3):
            checked(lab.node(node).run(["ping", "-c", "1", "-w", "5", "192.168.50.2"], timeout=LIMIT_S))
            behind.run("ping", "-c", "1", "-w", "5", f"10.0.0.{node}")
    answer = lab.node(1).run(["ping", "-c", "1", "-w", "5", "192.168.50.9"], timeout=LIMIT_S)
    assert not answer.ok


def test_a_probe_of_containers_ends_with_the_one_that_probes(lab: Lab) -> None:
    """A whole one works; one whose container is killed fails when the node is back."""
    assert lab.link(2, 3).probe(time="300 ms").state == "finished"
    facts = lab.status().details()
    headers = {"Authorization": f"Bearer {Path(facts['token_file']).read_text().strip()}"}
    body = {"src": 2, "dst": 3, "time_ms": 60_000, "probe_bytes": 2**32}
    answer = requests.post(f"{facts['api_url']}/probes", json=body, headers=headers, timeout=20)
    number = int(answer.json()["id"])
    until(lambda: lab.probes(number - 1)[0].state == "running", LIMIT_S)
    killed = Engine().ask_now(lambda client: client.containers.get("nm-edges-node-2").attrs)
    os.kill(killed["State"]["Pid"], signal.SIGKILL)
    until(lambda: lab.probes(number - 1)[0].ended, LIMIT_S)
    assert lab.probes(number - 1)[0].reason == "node 2 was started again meanwhile"
    until(lambda: lab.status().state == "ready", LIMIT_S)
