"""Test links that are taken down, and partitions, with real packets.

A ping every 10 ms, which prints the time of every answer, shows when packets stop and when they arrive again.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.lab.link import Direction
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm, shared_lab
from tests.integration.services import need

INTERVAL_S = 0.01
ATTEMPTS = 3
"""Times are measured on a machine that may have other work; what is wrong is wrong each time."""

lab = shared_lab(RING)
PAIR = "name: pair\ntopology: {type: line, n_nodes: 2}\n"


@pytest.fixture
def nm(home: Home, tmp_path: Path) -> Nm:
    """`nm` with the home of the lab that the tests share."""
    return Nm(home, tmp_path)


@pytest.fixture(autouse=True)
def as_declared(lab: Lab) -> Iterator[None]:
    """After each test, all links are up."""
    yield
    lab.heal()
    lab.reset_links()


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_packets_stop_within_a_tenth_of_a_second_and_come_back(labs: Labs, direction: Direction) -> None:
    need("ping")
    pair = labs.up(PAIR)

    def stopped() -> bool:
        with pinging(pair, 1, 2) as answers:
            asked = time.time()
            pair.link(1, 2).down(direction)
            time.sleep(0.3)
            up = time.time()
            pair.link(1, 2).up()
            time.sleep(0.3)
        last = max(each for each in answers() if each < up)
        first = min((each for each in answers() if each > up), default=up + 99)
        return last - asked < 0.1 and first - up < 0.5

    assert_once(stopped)


def test_routes_around_a_ring_move_within_a_second(lab: Lab) -> None:
    need("ping")

    def moved() -> bool:
        with pinging(lab, 1, 2) as answers:
            lab.link(1, 2).down()
            time.sleep(0.5)
            lab.link(1, 2).up()
            time.sleep(0.3)
        gaps = [after - before for before, after in itertools.pairwise(answers())]
        return max(gaps) < 1

    assert_once(moved)
    lab.link(1, 2).down()
    assert relays(lab, 1, 2) == 2
    lab.link(1, 2).up()
    assert relays(lab, 1, 2) == 0


def test_one_direction_is_routed_around_alone(lab: Lab, nm: Nm) -> None:
    need("ping")
    said = nm("link", "down", 1, 2, "--forward", "-o", "json")
    assert json.loads(said.out) == {"state": "up", "down": "forward", "reason": "1 → 2 is taken down"}
    # The request of 1 goes round and the answer comes straight back; of 2, the other way round.
    assert (relays(lab, 1, 2), relays(lab, 2, 1)) == (0, 2)
    [link, *_] = json.loads(nm("link", "show", 1, 2, "-o", "json").out)
    assert (link["state"], link["down"], link["forward"]) == ("up", "forward", {})
    assert nm("link", "reset", 1, 2).code == 0
    assert (relays(lab, 1, 2), relays(lab, 2, 1)) == (0, 0)


def test_a_partition_cuts_the_ring_until_it_is_healed(lab: Lab, nm: Nm) -> None:
    need("ping")
    said = nm("partition", "1,2|3-4", "-o", "json")
    assert json.loads(said.out) == {"down": [[1, 4], [2, 3]], "up": [], "connected": []}
    assert reached(lab) == {(1, 2), (3, 4)}
    assert lab.status().state == "ready"
    assert {(x.a, x.b): x.reason for x in lab.status().links if x.state != "up"} == {
        (1, 4): "partition",
        (2, 3): "partition",
    }
    lab.link(1, 4).down()
    assert "heal" in nm("link", "up", 2, 3).err
    assert nm("heal").code == 0
    assert reached(lab) == {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}
    assert [(x.a, x.b, x.reason) for x in lab.status().links if x.state != "up"] == [(1, 4, "taken down")]
    told = {event.name: event.detail for event in lab.events()}
    assert told["lab.partitioned"]["groups"] == "1,2|3,4"
    assert told["lab.healed"]["up"] == [[2, 3]] and told["lab.healed"]["cause"] == "operator"


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("partition", "1,2"), "partition.invalid"),
        (("partition", "1|"), "partition.invalid"),
        (("partition", "1,2|2,3"), "partition.twice"),
        (("partition", "1,1|2"), "partition.twice"),
        (("partition", "1|3"), "partition.no-links"),
        (("partition", "1|9"), "selector.invalid"),
        (("link", "down", 1, 3), "link.unknown"),
        (("link", "up", 1, 9), "selector.invalid"),
        (("link", "reset", 1), "usage.invalid"),
    ],
)
def test_mistakes_change_nothing(lab: Lab, nm: Nm, words: tuple[object, ...], id: str) -> None:
    said = nm(*words)
    assert said.code == 2 and f"[{id}]" in said.err
    assert all(link.state == "up" and not link.down for link in lab.status().links)


def test_links_between_processes_go_down_and_come_up(labs: Labs) -> None:
    """Each kind of link: a process per node, so that links are dialled and accepted."""
    need("ping")
    lab = labs.up(RING, processes="each")
    kinds = {link.kind for link in lab.status().links}
    assert "memory" not in kinds
    for _ in range(3):
        lab.partition([[1, 2], [3, 4]])
        assert reached(lab) == {(1, 2), (3, 4)}
        lab.heal()
        assert len(reached(lab)) == 6
    lab.link(1, 2).down("backward")
    assert (relays(lab, 1, 2), relays(lab, 2, 1)) == (2, 0)


# What the packets show.


@contextmanager
def pinging(lab: Lab, source: int, target: int) -> Iterator[Callable[[], list[float]]]:
    """Ping for as long as the body runs; what is given returns the times of the answers afterwards."""
    words = ["ping", "-n", "-D", "-i", str(INTERVAL_S), lab.node(target).address]
    command = lab._inner.command(source, words)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    times: list[float] = []
    first = ""
    try:
        assert process.stdout is not None
        process.stdout.readline()
        first = process.stdout.readline()  # traffic is under way
        yield lambda: times
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=10)
        answers = re.findall(r"^\[([0-9.]+)\] \d+ bytes from", first + out, re.MULTILINE)
        times += [float(each) for each in answers]


def relays(lab: Lab, source: int, target: int) -> int:
    """Return how many nodes relayed the answer to a ping."""
    said = lab.node(source).run(["ping", "-n", "-c", "1", "-W", "5", lab.node(target).address])
    found = re.search(r"ttl=(\d+)", said.stdout)
    assert found, said.stdout
    return 255 - int(found[1])


def reached(lab: Lab) -> set[tuple[int, int]]:
    """Return the pairs of nodes between which pings are answered."""
    found = set()
    for a, b in itertools.combinations([node.id for node in lab.nodes], 2):
        if lab.node(a).run(["ping", "-n", "-c", "1", "-W", "0.5", lab.node(b).address]).ok:
            found.add((a, b))
    return found


def assert_once(condition: Callable[[], bool]) -> None:
    assert any(condition() for _ in range(ATTEMPTS))
