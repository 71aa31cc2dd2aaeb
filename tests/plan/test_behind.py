"""Test what the plan says of networks behind nodes, and of ways out."""

from __future__ import annotations

import pytest

from orchestrator import plan, topology
from orchestrator.errors import UsageError

LINE = topology.loads(
    "name: line\n"
    "topology: {type: line, n_nodes: 3}\n"
    "nodes:\n"
    "  2: {prefixes: [192.168.60.0/24], sysctls: {net.ipv4.ip_forward: 0}}\n"
    "  3: {prefixes: [192.168.50.0/24, 172.28.5.0/25]}\n"
)


def test_every_node_knows_the_networks_behind_all_nodes() -> None:
    table = ("192.168.60.0/24 via 2", "192.168.50.0/24 via 3", "172.28.5.0/25 via 3")
    assert {node.prefixes for node in plan.build(LINE).nodes} == {table}


def test_a_node_with_networks_behind_it_forwards_unless_its_sysctls_say_otherwise() -> None:
    found = [node.sysctls.get("net.ipv4.ip_forward") for node in plan.build(LINE).nodes]
    assert found == [None, "0", "1"]


def test_the_subnet_of_containers_may_not_overlap_a_network_behind_a_node() -> None:
    with pytest.raises(UsageError, match=r"overlaps 172\.28\.5\.0/25, a prefix of node 3") as refused:
        plan.build(LINE, backend="docker", subnet="172.28.5.0/24")
    assert refused.value.id == "subnet.overlap"


def test_the_nodes_of_a_lab_with_an_uplink_send_what_is_outside_to_it() -> None:
    text = "name: ways\ntopology: {type: line, n_nodes: 2}\nnodes: {2: {uplink: {interface: eth1}}}\n"
    planned = plan.build(topology.loads(text))
    assert [node.uplink for node in planned.nodes] == ["elsewhere", "here"]
    assert [node.sysctls for node in planned.nodes] == [{}, {"net.ipv4.ip_forward": "1"}]
    assert {node.uplink for node in plan.build(LINE).nodes} == {"none"}
    with pytest.raises(UsageError, match="node 2 cannot be external: it has an uplink"):
        plan.build(topology.loads(text), external=[2])


def test_a_containers_way_out_is_the_network_of_its_engine() -> None:
    """Only a node with an uplink is told the machine's addresses, which it refuses to forward to."""
    text = "name: ways\ntopology: {type: line, n_nodes: 2}\nnodes: {2: {uplink: true}}\n"
    planned = plan.build(topology.loads(text), backend="docker", machine=["203.0.113.1", "198.51.100.7"])
    stated = [
        {key: each.environment[key] for key in ("NM_UPLINK", "NM_MACHINE") if key in each.environment}
        for each in planned.services
        if each.name.startswith("node")
    ]
    assert stated == [
        {"NM_UPLINK": "elsewhere"},
        {"NM_UPLINK": "here", "NM_MACHINE": "198.51.100.7,203.0.113.1"},
    ]
    named = topology.loads(text.replace("true", "{interface: eth1}"))
    with pytest.raises(UsageError, match="which docker has no way to"):
        plan.build(named, backend="docker")


def test_the_network_of_an_external_node_keeps_its_own_way_to_the_outside() -> None:
    file = topology.loads("name: out\ntopology: {type: line, n_nodes: 3}\nnodes: {1: {uplink: true}}")
    planned = plan.build(file, external=[3])
    assert [node.uplink for node in planned.nodes] == ["here", "elsewhere", "none"]
