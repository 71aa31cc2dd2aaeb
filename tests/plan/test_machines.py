"""Test host names and TCP buffer sizes."""

from __future__ import annotations

import pytest

from orchestrator import plan, topology
from orchestrator.plan.machines import MOST_BYTES, buffer_sysctls, hostname
from orchestrator.topology import Node


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("node-3", "node-3"),
        ("Web_Server", "Web-Server"),
        ("a" * 70, "a" * 63),
        ("trailing_", "trailing"),
    ],
)
def test_a_name_becomes_a_host_name(name: str, expected: str) -> None:
    assert hostname(Node(id=3, name=name)) == expected


def test_a_host_name_that_is_no_node_name_resolves_too() -> None:
    lab = topology.loads("n_nodes: 3\nlinks: []\nnodes: {1: {name: a_b}, 2: {name: c_d}, 3: {name: c-d}}")
    hosts = {entry.address: entry.names for entry in plan.build(lab).hosts}
    assert hosts["10.0.0.1"] == ("a_b", "node-1", "a-b")
    assert hosts["10.0.0.2"] == ("c_d", "node-2"), "another node has the name"


def most(text: str) -> int | None:
    """Return the bound of both buffers of a topology."""
    found = {value.split()[-1] for value in buffer_sysctls(topology.loads(text)).values()}
    return int(found.pop()) if found else None


def test_buffers_hold_the_fastest_rate_over_the_longest_round_trip() -> None:
    pair = "topology: {type: line, n_nodes: 2}\n"
    assert most(pair) is None
    assert most(pair + "defaults: {link: {rate: 100 Mbit, delay: 5 ms}}") is None, (
        "the kernel's own are enough"
    )
    assert most(pair + "defaults: {link: {rate: 1 Gbit, delay: 50 ms}}") == 4 * 12_500_000
    assert most(pair + "defaults: {link: {rate: 10 Gbit, delay: 50 ms}}") == MOST_BYTES
    assert most(pair + "defaults: {link: {delay: 1 ms}}") == 4 * 2_500_000, "no rate counts as 10 Gbit/s"
    one_way = "links: [{endpoints: [1, 2], rate: 1 Gbit, forward: {delay: 40 ms}}]"
    assert most(pair + one_way) == 4 * 5_000_000


def test_the_longest_path_counts_with_all_its_links_and_explicit_ones_too() -> None:
    links = "defaults: {link: {rate: 100 Mbit, delay: 10 ms}}\n"
    assert most("topology: {type: line, n_nodes: 11}\n" + links) == 4 * 2_500_000
    ring = "topology: {type: ring, n_nodes: 10}\n" + links
    assert most(ring) is None
    assert most(ring + "routes: [{from: 1, to: 2, path: [1, 10, 9, 8, 7, 6, 5, 4, 3, 2]}]") == 4 * 2_250_000
    assert most("topology: {type: line, n_nodes: 1000}\n" + links) == MOST_BYTES


def test_what_a_node_states_is_laid_over_the_buffers() -> None:
    text = (
        "topology: {type: line, n_nodes: 2}\ndefaults: {link: {rate: 1 Gbit, delay: 50 ms}}\n"
        "nodes: {1: {sysctls: {net.ipv4.tcp_rmem: 4096 131072 7000000}}}"
    )
    made = plan.build(topology.loads(text), backend="docker")
    first, second = (service.sysctls for service in made.services if service.name.startswith("node-"))
    assert first["net.ipv4.tcp_rmem"] == "4096 131072 7000000"
    assert second["net.ipv4.tcp_rmem"] == first["net.ipv4.tcp_wmem"].replace("16384", "131072")
