"""Test networks behind nodes: `prefixes` in the topology file.

The network behind node 3 of a line is a bridge in that node, and a machine of the test's own on the bridge.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from tests.integration.conftest import Nm, shared_lab
from tests.integration.machines import Machine, machine
from tests.integration.services import checked, need, serve

TOPOLOGY = """\
name: behind
topology: {type: line, n_nodes: 4}
nodes:
  3: {prefixes: [192.168.50.0/24, 172.20.0.0/16]}
"""
FILE = random.Random("behind a node").randbytes(2_000_000)
LIMIT_S = 30.0

lab = shared_lab(TOPOLOGY)


@pytest.fixture(scope="module")
def behind(lab: Lab) -> Iterator[Machine]:
    """A machine at 192.168.50.2, on a bridge in node 3 that is 192.168.50.1."""
    need("ping", "curl")
    with machine() as made:
        for command in (
            "ip link add br0 type bridge",
            "ip address add 192.168.50.1/24 dev br0",
            f"ip link add port0 type veth peer name eth0 netns {made.pid}",
            "ip link set port0 master br0 up",
            "ip link set br0 up",
        ):
            checked(lab.node(3).run(command.split(), timeout=LIMIT_S))
        made.run("ip", "address", "add", "192.168.50.2/24", "dev", "eth0")
        made.run("ip", "link", "set", "eth0", "up")
        made.run("ip", "route", "add", "default", "via", "192.168.50.1")
        yield made


def fetched(lab: Lab, node: int, url: str) -> str:
    """Return the digest of what a node fetches."""
    command = f"curl -sS --fail --max-time 20 {url} | sha256sum"
    return checked(lab.node(node).run(["sh", "-c", command], timeout=LIMIT_S)).split()[0]


def test_nodes_and_what_is_behind_one_reach_each_other(lab: Lab, behind: Machine, tmp_path: Path) -> None:
    for node in (1, 2, 3, 4):
        checked(lab.node(node).run(["ping", "-c", "1", "-w", "5", "192.168.50.2"], timeout=LIMIT_S))
        behind.run("ping", "-c", "1", "-w", "5", f"10.0.0.{node}")
    (tmp_path / "file").write_bytes(FILE)
    wanted = hashlib.sha256(FILE).hexdigest()
    with behind.serving(tmp_path, "192.168.50.2", 8000):
        assert fetched(lab, 1, "http://192.168.50.2:8000/file") == wanted
    server = ["python3", "-m", "http.server", "-d", tmp_path, "8001"]
    serve(lab.node(1), server, tmp_path / "log").wait_listening(8001)
    behind.run("curl", "-sS", "--fail", "-o", tmp_path / "got", "http://10.0.0.1:8001/file")
    assert (tmp_path / "got").read_bytes() == FILE


LISTENER = """
import socket
server = socket.create_server(("10.0.0.4", 7000))
print(server.accept()[1][0], flush=True)
"""


def test_the_source_of_a_packet_from_behind_a_node_is_unchanged(
    lab: Lab, behind: Machine, tmp_path: Path
) -> None:
    listener = serve(lab.node(4), ["python3", "-c", LISTENER], tmp_path / "log").wait_listening(7000)
    behind.run("python3", "-c", "import socket; socket.create_connection(('10.0.0.4', 7000), 5)")
    assert listener.wait_end(LIMIT_S) == "192.168.50.2\n"


def test_an_address_that_is_not_there_is_answered_by_the_node_in_front(lab: Lab) -> None:
    """Nobody made an interface for 172.20.0.0/16 in node 3, so its kernel refuses the packet."""
    answer = lab.node(1).run(["ping", "-c", "1", "-w", "5", "172.20.0.9"], timeout=LIMIT_S)
    assert not answer.ok
    assert "From 10.0.0.3" in answer.stdout and "Unreachable" in answer.stdout


def test_the_networks_are_shown(lab: Lab, home: Home) -> None:
    """By `nm inspect` and `nm status`, by the REST API with the IPv6 addresses, and by SQL."""
    nm = Nm(home, home.path)
    behind = ["192.168.50.0/24", "172.20.0.0/16"]
    details = nm("inspect", "-n", "behind", "-o", "json").json
    assert [node["prefixes"] for node in details["nodes"]] == [[], [], behind, []]
    assert ", ".join(behind) in nm("status", "-n", "behind").out.splitlines()[4]
    token = Path(details["token_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    nodes = requests.get(f"{details['api_url']}/nodes", headers=headers, timeout=LIMIT_S).json()
    assert [node["prefixes"] for node in nodes] == [[], [], behind, []]
    assert not any(node["uplink"] for node in nodes)
    assert [node["address6"] for node in nodes] == [node["address6"] for node in details["nodes"]]
    query = "SELECT prefixes[1]::text, uplink FROM nodes WHERE node_id IN (1, 3) ORDER BY node_id"
    assert nm("sql", "-n", "behind", "-c", query, "--", "-At").out.splitlines() == ["|f", f"{behind[0]}|f"]
