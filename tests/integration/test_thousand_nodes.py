"""Test a thousand nodes in one process: ping, names, commands, Python API."""

from __future__ import annotations

import pytest

from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs, require_backend
from tests.integration.conftest import Nm

SHAPES = {
    "ring": "{type: ring, n_nodes: 1000}",
    "fat-tree": "{type: fat_tree, k: 14}",
    "torus": "{type: torus, dim: 3, n: 10}",
    "random": "{type: random, n_nodes: 1000, degree: 4}",
}

# By name and eight at a time; what does not answer within five tries is printed.
PING_ALL = 'seq 2 "$0" | xargs -P 8 -I @ sh -c "ping -q -c 1 -w 5 node-@ >/dev/null 2>&1 || echo node-@"'


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_node_of_a_large_lab_can_be_reached(labs: Labs, nm: Nm, shape: str) -> None:
    require_backend("native", 1000)
    lab = labs.up(f"name: {shape}\ntopology: {SHAPES[shape]}\n", timeout=300)
    size = len(lab.nodes)
    assert size > 900
    silent = lab.node(1).run(["sh", "-c", PING_ALL, str(size)], timeout=200)
    assert (silent.exit_code, silent.stdout) == (0, "")
    ended = lab.run_in_all(["sh", "-c", "hostname -I"])
    assert [each.exit_code for each in ended] == [0] * size
    own = [[node.address, node.address6] for node in lab.nodes]
    assert [each.stdout.split() for each in ended] == own
    run = lab.run_scenario("unicast-echo", params={"count": 1, "wait": "10 s"}, timeout=200)
    assert run.verdict == "pass", run
    lab.down()
    assert leftovers(labs.home) == []


@pytest.mark.timeout(300)
def test_a_lab_wider_than_a_ttl_reaches_is_one_hop_and_says_so(labs: Labs, nm: Nm) -> None:
    lab = labs.up("name: wide\ntopology: {type: line, n_nodes: 300}\n", timeout=200)
    assert lab.node(1).run(["ping", "-c", "1", "-w", "10", "node-300"]).ok
    assert nm("inspect", "-n", "wide", "-o", "json").json["ttl_mode"] == "pipe"
    done = lab.node(1).run(["traceroute", "-n", "-w", "2", "-q", "1", "10.0.0.9"], timeout=20)
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["10.0.0.9"]
