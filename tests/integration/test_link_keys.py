"""Test that every key of a link reaches its nodes, from the file and live by a profile."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.impairment import LinkSpec
from orchestrator.testing.plugin import Labs
from orchestrator.topology import loads
from orchestrator.topology.profiles import PROFILES

FULL = """\
name: keys
n_nodes: 2
links:
  - endpoints: [1, 2]
    rate: 100 Mbit
    burst: 15 KB
    delay: 3 ms
    jitter: {std: 1 ms, distribution: [1, 2, 3, 4, 5, 6, 7, 8, 9, 16]}
    loss: {mean: 1 %, burst: 2}
    limit: 20 ms
    queue: {type: red, min: 30 KB, max: 90 KB, p: 10 %}
    ecn: true
    scheduler: {type: drr, by: dst_port, weights: {5201: 1, 5202: 4}}
    mtu: 1280
"""


def test_nodes_take_every_key_and_a_profile_replaces_them(labs: Labs) -> None:
    lab = labs.up(FULL)
    [link] = lab.status().links
    declared = loads(FULL).links[0].forward
    assert link.forward == link.backward == declared
    profile = PROFILES["dsl"]
    changed = lab.set_link(
        2, 1, profile.forward, backward=profile.backward, merge=False
    )  # 2 -> 1 is the downlink
    assert changed == {
        "forward": profile.spec("forward").to_wire(),
        "backward": profile.spec("backward").to_wire(),
    }
    lab.set_link(1, 2, LinkSpec(queue="codel"))
    [link] = lab.status().links
    assert link.forward == replace(profile.spec("backward"), queue="codel")
    assert link.backward == replace(profile.spec("forward"), queue="codel")
