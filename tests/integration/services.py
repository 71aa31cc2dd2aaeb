"""Start programs in the nodes of a lab as a user does, and wait for them.

A service is an ordinary process in its node's network; it ends with the lab. What has to be waited for is
looked up in the kernel's tables, with a limit.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import procfs
from orchestrator.lab import Lab, Node
from orchestrator.lab.commands import Completed
from orchestrator.topology import Topology

PACKAGES = {
    "curl": "curl",
    "etcd": "etcd-server",
    "iperf3": "iperf3",
    "nft": "nftables",
    "pasta": "passt",
    "ping": "iputils-ping",
    "psql": "postgresql-client",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "scp": "openssh-client",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "traceroute": "traceroute",
}
"""Debian's package of each program that tests run."""

SHAPES = {
    "full_mesh": "{type: full_mesh, n_nodes: 5}",
    "ring": "{type: ring, n_nodes: 6}",
    "star": "{type: star, n_nodes: 5}",
    "line": "{type: line, n_nodes: 5}",
    "tree": "{type: tree, n_nodes: 10, arity: 3}",
    "fat_tree": "{type: fat_tree, k: 4}",
    "torus": "{type: torus, dim: 2, n: 4}",
    "random": "{type: random, n_nodes: 12, degree: 3}",
}
"""A topology of every generator."""

INITIAL_TTL = 255
"""What the namespaces of native nodes begin with, so that wide labs are reached."""

START_S = 20.0
"""How long a service may take to listen, on a machine with other work."""

_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def need(*programs: str) -> None:
    """Skip the test if a program is not installed; the reason names Debian's packages."""
    packages = sorted({PACKAGES[each] for each in programs if find(each) is None})
    if packages:
        pytest.skip(f"not installed: {', '.join(packages)} (apt-get install -y {' '.join(packages)})")


def find(program: str) -> str | None:
    """Return where a program is, also one that only root has on the path."""
    return shutil.which(program, path=_SYSTEM_PATH)


def checked(done: Completed) -> str:
    """Return what a command printed; it must have ended well."""
    assert done.ok, f"exit code {done.exit_code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Service:
    """A program that runs in the background of a node."""

    pid: int
    log: Path

    def wait_listening(self, port: int) -> Service:
        """Wait until somebody in its network takes connections or datagrams at a port."""
        deadline = time.monotonic() + START_S
        while not self._listens(port):
            assert self.runs(), f"the service ended:\n{self._said()}"
            assert time.monotonic() < deadline, f"nothing listens:\n{self._said()}"
            time.sleep(0.01)
        return self

    def wait_saying(self, words: str) -> Service:
        """Wait until it has printed something: a server may listen before it serves."""
        deadline = time.monotonic() + START_S
        while words not in self._said():
            assert self.runs(), f"the service ended:\n{self._said()}"
            assert time.monotonic() < deadline, f"it does not say `{words}`:\n{self._said()}"
            time.sleep(0.01)
        return self

    def runs(self) -> bool:
        """Whether it has not ended; one that only waits to be collected has."""
        found = procfs.stat(self.pid)
        return found is not None and found.runs

    def wait_end(self, limit_s: float) -> str:
        """Wait until it ends by itself; return what it printed."""
        deadline = time.monotonic() + limit_s
        while self.runs():
            assert time.monotonic() < deadline, f"the service goes on:\n{self._said()}"
            time.sleep(0.01)
        return self._said()

    def _said(self) -> str:
        return self.log.read_text(errors="replace")

    def _listens(self, port: int) -> bool:
        """Look through its network's sockets; a TCP socket that listens is in the state 0A."""
        found = False
        for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07")):
            try:
                lines = Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue
            sockets = (line.split() for line in lines)
            found |= any(each[1].endswith(f":{port:04X}") and each[3] == state for each in sockets)
        return found


def serve(node: Node, argv: Sequence[object], log: Path) -> Service:
    """Start a program in the background of a node."""
    words = shlex.join(map(str, argv))
    script = f"exec {words} </dev/null >{shlex.quote(str(log))} 2>&1 & echo $!"
    started = node.run(["sh", "-c", script], timeout=START_S)
    return Service(int(checked(started)), log)


def shape(name: str, link: str = "") -> str:
    """Return the text of a topology file for a generator of `SHAPES`, each link with the given settings."""
    defaults = f"defaults:\n  link: {{{link}}}\n" if link else ""
    return f"name: {name.replace('_', '-')}\nseed: 7\ntopology: {SHAPES[name]}\n{defaults}"


def distances(topology: Topology, start: int) -> dict[int, int]:
    """Return how many links away each node is: the slow and obvious search in breadth."""
    beside: dict[int, list[int]] = {node: [] for node in topology.nodes}
    for link in topology.links:
        beside[link.a].append(link.b)
        beside[link.b].append(link.a)
    found = {start: 0}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for node in beside[here]:
            if node not in found:
                found[node] = found[here] + 1
                waiting.append(node)
    return found


def assert_shortest_paths_to(lab: Lab, target: int) -> None:
    """Let every node ping one; each relay on the way back takes one from the answer's first TTL."""
    nodes = [node.id for node in lab.nodes if node.id != target]
    words = ["ping", "-n", "-c", "1", "-W", "10", lab.node(target).address]
    answers = [checked(done) for done in lab.run_in_all(words, nodes, timeout=60)]
    found = [re.search(r"ttl=(\d+)", each) for each in answers]
    assert all(found), answers
    hops = {node: INITIAL_TTL + 1 - int(each[1]) for node, each in zip(nodes, found, strict=True) if each}
    assert hops == {node: far for node, far in distances(lab.topology, target).items() if node != target}


def far_apart(topology: Topology) -> tuple[int, int, int]:
    """Return two nodes as far from each other as any, and one in between or beside them."""
    start, far = max(
        ((a, b) for a in topology.nodes for b in topology.nodes if a < b),
        key=lambda pair: (distances(topology, pair[0])[pair[1]], -pair[0], -pair[1]),
    )
    return start, far, next(node for node in sorted(topology.nodes) if node not in (start, far))


@dataclass(frozen=True)
class Place:
    """A lab and three of its nodes for programs to run in.

    Attributes:
        lab: The lab.
        client: One node.
        server: A node as far away from it as any is.
        third: Another one.
        hops: Links between client and server.
        folder: Where programs may write.
    """

    lab: Lab
    client: Node
    server: Node
    third: Node
    hops: int
    folder: Path


def place(lab: Lab, folder: Path) -> Place:
    """Choose the nodes of a lab that programs run in."""
    topology = lab.topology
    client, server, third = far_apart(topology)
    hops = distances(topology, client)[server]
    return Place(lab, lab.node(client), lab.node(server), lab.node(third), hops, folder)
