"""The IPv6 addresses of nodes: from the name or as stated, none where there can be none, bad ones refused."""

from __future__ import annotations

import ipaddress

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.plan import build

RING = "topology: {type: ring, n_nodes: 3}\n"


def test_the_prefix_follows_from_the_name_and_nothing_else() -> None:
    first = topology.loads(f"name: demo\nseed: 1\n{RING}")
    again = topology.loads(f"name: demo\nseed: 2\nipv6: true\n{RING}")
    other = topology.loads(f"name: other\n{RING}")
    assert first.ipv6 == again.ipv6 == "fded:4c3d:8a17::/48"
    assert other.ipv6 != first.ipv6
    assert ipaddress.IPv6Network(other.ipv6).subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert [first.address6(node) for node in first.nodes] == [f"fded:4c3d:8a17::{n}" for n in (1, 2, 3)]


def test_a_stated_prefix_is_kept_and_written() -> None:
    stated = topology.loads(f"ipv6: fd12:3456:789a:1::/64\nnodes: {{2: {{mtu: 1279}}}}\n{RING}")
    assert [stated.address6(node) for node in stated.nodes] == [
        "fd12:3456:789a:1::1",
        None,  # RFC 8200: no IPv6 with an MTU below 1280
        "fd12:3456:789a:1::3",
    ]
    assert topology.loads(topology.dump(stated)) == stated


def test_without_ipv6_nothing_mentions_it() -> None:
    plain = topology.loads(f"ipv6: false\n{RING}")
    assert plain.ipv6 == ""
    assert plain.address6(1) is None
    assert topology.loads(topology.dump(plain)) == plain
    planned = build(plain, lab="x", backend="docker", run_id="r", home="/h", controller_port=1)
    assert [entry.address for entry in planned.hosts] == ["127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert not any("ipv6" in name for service in planned.services for name in service.sysctls)


def test_every_name_has_the_ipv4_address_first() -> None:
    planned = build(topology.loads(RING), lab="x", backend="native", run_id="r", home="/h", controller_port=1)
    of_node_2 = [entry.address for entry in planned.hosts if "node-2" in entry.names]
    assert of_node_2 == ["10.0.0.2", planned.topology.address6(2)]


@pytest.mark.parametrize(
    ("written", "id", "hint"),
    [
        ("3", "topology.type", None),
        ("fd12::", "topology.type", None),
        ("10.0.0.0/16", "topology.type", None),
        ("fd12:3456::1/48", "topology.ipv6", "write `fd12:3456::/48`"),
        ("fd12:3456::/112", "topology.ipv6", "take a prefix of 8 to 96 bits"),
        ("ff02::/64", "topology.ipv6", "take a unique local prefix such as `fd12:3456:789a::/48` (RFC 4193)"),
        ("fe80::/64", "topology.ipv6", "take a unique local prefix such as `fd12:3456:789a::/48` (RFC 4193)"),
    ],
)
def test_a_prefix_without_room_for_nodes_is_refused(written: str, id: str, hint: str | None) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(f'{RING}ipv6: "{written}"\n' if ":" in written else f"{RING}ipv6: {written}\n")
    [problem] = caught.value.problems
    assert problem.id == id
    assert problem.place is not None
    assert problem.place.line == 2
    if hint is not None:
        assert problem.hint == hint
