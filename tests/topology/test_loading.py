"""Test loading of topology files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.topology import Link, Topology

RING = "topology: {type: ring, n_nodes: 4}\n"


def test_a_plain_ring() -> None:
    ring = _loads(RING, "ring.yaml")
    assert (ring.name, ring.seed, ring.routing, ring.routes) == ("ring", 1, "shortest_path", ())
    assert [node.name for node in ring.nodes.values()] == ["node-1", "node-2", "node-3", "node-4"]
    assert [(link.a, link.b) for link in ring.links] == [(1, 2), (1, 4), (2, 3), (3, 4)]
    assert all(link.forward == link.backward == PLAIN for link in ring.links)
    assert (ring.address(3), ring.base_addr, ring.net_mask) == ("10.0.0.3", "10.0.0.0", "255.255.0.0")
    assert ring.neighbours(1) == (2, 4)
    assert ring.warnings == ()


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("n_nodes: 3", 3),
        ("nodes: {1: , 2: }", 2),
        ("links: [{endpoints: [1, 2]}, {endpoints: [3, 2]}]", 3),
        ("topology: {type: tree, n_nodes: 3}", 3),
        ("n_nodes: 6\n" + RING, 6),
    ],
)
def test_the_number_of_nodes(text: str, n: int) -> None:
    assert list(_loads(text).nodes) == list(range(1, n + 1))


def test_addresses_go_on_in_the_next_byte() -> None:
    big = _loads("n_nodes: 300")
    assert [big.address(node) for node in (254, 255, 256, 300)] == [
        "10.0.0.254",
        "10.0.0.255",
        "10.0.1.0",
        "10.0.1.44",
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("topologies/fat_tree_k4.yaml", "fat-tree-k4"),
        ("Ring.yml", "ring"),
        ("-.yaml", "lab"),
        ("ü.yaml", "lab"),
        ("a" * 60, "a" * 40),
    ],
)
def test_a_lab_without_a_name_is_called_after_its_file(file: str, name: str) -> None:
    assert _loads(RING, file).name == name


def test_defaults_give_way_to_groups_and_groups_to_nodes() -> None:
    read = _loads(
        RING + "defaults:\n"
        "  node: {mtu: 1400, labels: {a: d, b: d, c: d}, lossless: {ready_grace: 1 s, window: 1 MiB}}\n"
        "groups:\n"
        "  first:\n"
        "    nodes: 2-4\n"
        "    node: {mtu: 1300, labels: {b: first, c: first}, lossless: {ready_grace: 2 s}}\n"
        "  second: {nodes: 3-4, node: {mtu: 1200}}\n"
        "nodes: {4: {mtu: 1100, labels: {c: own}, channel_capacity: 5}}\n"
    )
    nodes = read.nodes
    assert [nodes[i].mtu for i in range(1, 5)] == [1400, 1300, 1200, 1100]
    assert nodes[1].labels == {"a": "d", "b": "d", "c": "d"}
    assert nodes[4].labels == {"a": "d", "b": "first", "c": "own"}
    assert (nodes[1].ready_grace_ms, nodes[2].ready_grace_ms) == (1000, 2000)
    assert nodes[2].window_bytes == 2**20
    assert (nodes[3].channel_capacity, nodes[4].channel_capacity) == (1000, 5)


def test_defaults_give_way_to_groups_and_groups_to_links() -> None:
    read = _loads(
        RING + "defaults: {link: {rate: 1 Gbit, delay: 5 ms}}\n"
        'groups: {edge: {nodes: "3-4", link: {delay: 20 ms}}}\n'
        "links:\n"
        "  - {endpoints: [1, 3], rate: 100 Mbit, delay: 5 ms, loss: 0.1 %}\n"
        "  - {endpoints: [2, 3], rate: none, delay: none}\n"
    )
    by_pair = {(link.a, link.b): link for link in read.links}
    assert by_pair[1, 2].forward == LinkSpec(rate_bps=10**9, delay_us=5_000)
    assert by_pair[1, 4].forward == LinkSpec(rate_bps=10**9, delay_us=20_000)
    assert by_pair[1, 3].backward == LinkSpec(rate_bps=10**8, delay_us=5_000, loss=0.001)
    assert by_pair[2, 3] == Link(a=2, b=3)


def test_directions_are_as_written_whatever_the_order_of_the_ends() -> None:
    text = (
        "n_nodes: 3\nlinks:\n"
        "  - endpoints: [3, 1]\n"
        "    delay: 5 ms\n"
        "    forward: {rate: 20 Mbit}\n"
        "    backward: {rate: 2 Mbit, delay: 1 ms}\n"
    )
    (link,) = _loads(text).links
    assert (link.a, link.b) == (1, 3)
    assert link.forward == LinkSpec(rate_bps=2_000_000, delay_us=1_000)  # 1 -> 3 is the written backward
    assert link.backward == LinkSpec(rate_bps=20_000_000, delay_us=5_000)


def test_a_limit_in_packets_replaces_one_in_bytes() -> None:
    read = _loads(
        RING + "defaults: {link: {limit: 64 KB}}\nlinks: [{endpoints: [1, 2], limit: 10 packets}]\n"
    )
    assert read.links[0].forward == LinkSpec(limit_packets=10)
    assert read.links[1].forward == LinkSpec(limit_bytes=64_000)


def test_links_and_routes_may_use_names() -> None:
    read = _loads(
        "nodes: {1: {name: a}, 2: {name: b}, 3: {name: c}}\n"
        "links: [{endpoints: [a, b]}, {endpoints: [node-2, 3]}]\n"
        "routes: [{from: a, to: c, path: [1, b, node-3]}]\n"
    )
    assert [(link.a, link.b) for link in read.links] == [(1, 2), (2, 3)]
    assert read.routes[0].path == (1, 2, 3)
    assert read.routes[0].edges == ((1, 2), (2, 3))


def test_an_entry_overrides_the_generators_link() -> None:
    read = _loads(RING + "links: [{endpoints: [2, 1], loss: 1 %}]")
    assert len(read.links) == 4
    assert read.links[0] == Link(a=1, b=2, forward=LinkSpec(loss=0.01), backward=LinkSpec(loss=0.01))


def test_links_may_be_down_from_the_start_in_both_directions_or_in_one() -> None:
    read = _loads(
        RING + "groups: {g: {nodes: 4, link: {down: true}}}\n"
        "links:\n"
        "  - {endpoints: [2, 1], forward: {down: true}}\n"
        "  - {endpoints: [2, 3], down: true}\n"
        "  - {endpoints: [3, 4], down: false}\n"
    )
    down = {(link.a, link.b): (link.forward_down, link.backward_down) for link in read.links}
    assert down == {(1, 2): (False, True), (1, 4): (True, True), (2, 3): (True, True), (3, 4): (False, False)}
    assert _loads(topology.dump(read)).links == read.links


def test_a_route_may_branch_and_join() -> None:
    read = _loads(RING + "routes: [{from: 1, to: 3, edges: [[1, 2], [2, 3], [1, 4], [4, 3]]}]")
    assert read.routes[0].path is None
    assert len(read.routes[0].edges) == 4


def test_generators_label_their_tiers_and_the_file_may_say_otherwise() -> None:
    read = _loads("topology: {type: star, n_nodes: 3}\nnodes: {2: {labels: {tier: special}}}")
    assert [node.labels["tier"] for node in read.nodes.values()] == ["hub", "special", "leaf"]


def test_parts_that_are_not_linked_are_worth_a_warning() -> None:
    read = _loads("n_nodes: 4\nlinks: [{endpoints: [1, 2]}]")
    assert [warning.message for warning in read.warnings] == ["nodes 3, 4 cannot be reached from node 1"]
    alone = _loads("n_nodes: 2")
    assert [warning.message for warning in alone.warnings] == ["node 2 cannot be reached from node 1"]


def test_options_override_the_file_and_are_named_in_errors() -> None:
    options = ["seed=9", "topology.n_nodes=5", "defaults.link.rate=10 Mbit", "nodes.1.name=x"]
    read = topology.loads(RING, "ring.yaml", options)
    assert (read.seed, len(read.nodes), read.nodes[1].name) == (9, 5, "x")
    assert read.links[0].forward.rate_bps == 10_000_000
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(RING, "ring.yaml", ["topology.k=4"])
    assert [str(problem.place) for problem in caught.value.problems] == ["--set topology.k=4"]


def test_private_keys_hold_anchors() -> None:
    read = _loads("x-slow: &slow {rate: 1 Mbit, delay: 9 ms}\n" + RING + "defaults: {link: *slow}\n")
    assert read.links[0].forward == LinkSpec(rate_bps=10**6, delay_us=9_000)


def test_the_order_of_the_file_does_not_matter() -> None:
    one = _loads(RING + "links: [{endpoints: [1, 3]}, {endpoints: [2, 4]}]\nseed: 3")
    other = _loads("seed: 3\nlinks: [{endpoints: [4, 2]}, {endpoints: [3, 1]}]\n" + RING)
    assert one == other


EXAMPLES = sorted(path for path in (Path(__file__).parents[2] / "topologies").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_and_says_what_it_teaches(path: Path, tmp_path: Path) -> None:
    read = topology.load(path)
    assert read.warnings == ()
    for name, text in topology.traces(read).items():
        (tmp_path / name).write_text(text)
    assert replace(topology.loads(topology.dump(read), str(tmp_path / path.name)), file=read.file) == read
    first, *rest = path.read_text().splitlines()
    assert first.startswith("# ")
    assert any(line.startswith(f"#     nm up topologies/{path.name}") for line in rest)
    assert f"`{path.name}`" in (path.parent / "README.md").read_text()


def test_there_are_enough_examples() -> None:
    assert len(EXAMPLES) >= 8
    ring = topology.load(EXAMPLES[0].parent / "ring.yaml")
    assert (ring.name, len(ring.nodes)) == ("ring", 4)
    assert all(link.forward.is_plain for link in ring.links)


def _loads(text: str, name: str = "topology.yaml") -> Topology:
    return topology.loads(text, name)


def test_jitter_and_bursts_have_a_short_and_a_full_form() -> None:
    read = _loads(
        RING + "defaults: {link: {delay: 20 ms, jitter: {std: 2 ms, distribution: pareto}}}\n"
        "links:\n"
        "  - {endpoints: [1, 2], jitter: 5 ms, loss: {mean: 1 %, burst: 5}}\n"
        "  - {endpoints: [2, 3], forward: {jitter: none, loss: {mean: 2 %}}}\n"
    )
    by_pair = {(link.a, link.b): link for link in read.links}
    short = LinkSpec(delay_us=20_000, jitter_us=5_000, loss=0.01, loss_burst=5.0)
    assert by_pair[1, 2].forward == by_pair[1, 2].backward == short
    assert by_pair[2, 3].forward == LinkSpec(delay_us=20_000, loss=0.02)
    full = LinkSpec(delay_us=20_000, jitter_us=2_000, jitter_distribution="pareto")
    assert by_pair[2, 3].backward == by_pair[1, 4].forward == full
