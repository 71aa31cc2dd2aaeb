"""Test duplication, reordering and corruption of packets on a real link, as `ping` sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs

PAIRS = """\
name: stages
seed: 7
n_nodes: 6
links:
  - {endpoints: [1, 2], forward: {duplicate: 20 %}}
  - {endpoints: [3, 4], forward: {reorder: 20 %, delay: 50 ms}}
  - {endpoints: [5, 6], forward: {corrupt: 20 %}}
  - {endpoints: [2, 3]}
  - {endpoints: [4, 5]}
"""

COUNT = 200


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    labs = Labs(Home(tmp_path_factory.mktemp("stages") / "nm"))
    try:
        yield labs.up(PAIRS)
    finally:
        labs.end()


def test_a_duplicated_packet_is_answered_twice(pairs: Lab) -> None:
    said = ping(pairs, 1, 2)
    assert 10 <= said.count("(DUP!)") <= 80  # 40 are expected
    assert f"{COUNT} received" in said


def test_later_packets_overtake_a_reordered_one(pairs: Lab) -> None:
    said = ping(pairs, 3, 4)
    order = [int(number) for number in re.findall(r"icmp_seq=(\d+)", said)]
    late = sum(later < earlier for earlier, later in pairwise(order))
    assert 10 <= late <= 80
    assert len(order) >= COUNT - 1  # the last one may have no other to overtake it


def test_a_corrupted_packet_fails_its_checksum(pairs: Lab) -> None:
    received = re.search(r"(\d+) received", ping(pairs, 5, 6))
    assert received is not None
    assert COUNT - 80 <= int(received[1]) <= COUNT - 10


def ping(lab: Lab, source: int, target: int) -> str:
    """Send `COUNT` pings from a node to its neighbour; return what `ping` says."""
    command = ["ping", "-c", str(COUNT), "-i", "0.01", "-W", "1", lab.node(target).address]
    return lab.node(source).run(command, timeout=60).stdout
