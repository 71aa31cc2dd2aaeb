"""Test a lab of containers that grows and shrinks while it carries packets."""

from __future__ import annotations

import json
import subprocess

from orchestrator import topology
from orchestrator.testing.plugin import Labs
from orchestrator.topology import Topology


def test_containers_come_and_go_and_the_others_are_not_touched(labs: Labs) -> None:
    def started() -> dict[str, str]:
        """The containers of the lab with the time of their start."""
        ids = subprocess.run(
            ["docker", "ps", "-q", "--filter", f"label=nm.lab={lab.name}"], capture_output=True, text=True
        ).stdout.split()
        shown = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True).stdout)
        return {each["Name"].lstrip("/"): each["Id"] + each["State"]["StartedAt"] for each in shown}

    lab = labs.up(meant(4), backend="docker", timeout=180)
    before = started()
    pinging = subprocess.Popen(
        lab._inner.command(1, ["ping", "-q", "-i", "0.01", "-c", "600", "-W", "2", "10.0.0.3"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    applied = lab.apply(meant(6), timeout=120)
    assert [each.what for each in applied.changes if each.kind == "node"] == ["node 5", "node 6"]
    out, _ = pinging.communicate(timeout=60)
    assert "600 received, 0% packet loss" in out, out
    assert lab.status().state == "ready"
    for node, target in ((1, "node-5"), (6, "node-3"), (5, "node-2")):
        assert lab.node(node).run(["ping", "-c", "1", "-W", "2", target]).ok
    during = started()
    assert before.items() < during.items() and len(during) == len(before) + 2
    new = lab.add_node(name="extra", links={1: {"delay": "5 ms"}}, timeout=120)
    assert lab.node(3).run(["ping", "-c", "1", "-W", "2", "extra"]).ok
    lab.node(new).remove()
    lab.apply(meant(4))
    assert started() == before
    assert lab.status().state == "ready" and lab.node(1).run(["ping", "-c", "1", "10.0.0.4"]).ok


def meant(nodes: int) -> Topology:
    return topology.loads(
        f"name: grows-docker\ntopology: {{type: ring, n_nodes: {nodes}}}\n"
        "services:\n  s: {nodes: '1,4', image: 'nm-node:0.1.0', entrypoint: [sleep], command: ['1000']}\n",
        "grows.yaml",
    )
