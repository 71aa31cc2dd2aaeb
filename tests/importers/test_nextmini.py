"""Test the import of Nextmini's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import importers, topology
from orchestrator.errors import ImportInvalid
from orchestrator.importers.draft import Imported

CONTROLLER = """\
port = 3000
protocol = "quic"
scheduler_type = "wrr"
new_key = 1

[topology]
type = "ring"
edges = [[1, 3]]

[topology.ring_config]
n_nodes = 4

[routing]
protocol = "shortest_path"

[[routes]]
route = [1, 2, 3]

[[routes]]
route = [[1, 2], [2, 3], [1, 4], [4, 3]]

[[routes]]
route = [[1, 2], [4, 3]]

[[link_rates]]
src_node_id = 1
dst_node_id = 2
rate = 1250000
bucket_size = 15000

[[link_rates]]
src_node_id = 2
dst_node_id = 4
rate = 1250000

[[flows]]
src_node_id = 1
dst_node_id = 2

[[nodes]]
node_id = 2
operating_mode = "max"

[db]
user = "pgusr"
"""
NODE = """\
controller_addr = "172.16.8.3:3000"
private_network_name = "a"
channel_capacity = 2000
feature = "concurrent"

[lossless_runtime_config]
default_block_size = 8500
ready_grace_ms = 1500
"""


def test_what_both_have_is_carried_over(tmp_path: Path) -> None:
    imported = _import(tmp_path, {"controller-config.toml": CONTROLLER, "config.toml": NODE})
    lab = topology.loads(imported.text)
    assert lab.generator is not None
    assert (lab.generator.type, len(lab.nodes), lab.routing) == ("ring", 4, "shortest_path")
    assert {(link.a, link.b) for link in lab.links} == {(1, 2), (1, 3), (1, 4), (2, 3), (3, 4)}
    assert lab.links[0].forward.rate_bps == 10_000_000  # bytes became bits
    assert lab.links[0].backward.is_plain
    assert [(route.src, route.dst, len(route.edges)) for route in lab.routes] == [(1, 3, 2), (1, 3, 4)]
    node = lab.nodes[3]
    assert (node.mtu, node.channel_capacity, node.ready_grace_ms) == (1400, 2000, 1500)
    assert [lab.nodes[number].operating_mode for number in (1, 2, 3, 4)] == [
        "normal",
        "max",
        "normal",
        "normal",
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('operating_mode = "max"', "operating_mode `max` of a node without `node_id` was left out"),
        ('node_id = 2\noperating_mode = "fast"', "operating_mode"),
        ("node_id = 2\noperating_mode = 3", "operating_mode"),
    ],
)
def test_modes_that_say_nothing_are_named(tmp_path: Path, entry: str, expected: str) -> None:
    text = f'[topology]\ntype = "ring"\n[topology.ring_config]\nn_nodes = 4\n[[nodes]]\n{entry}\n'
    imported = _import(tmp_path, {"controller.toml": text})
    assert any(expected in note for note in imported.notes), imported.notes
    assert all(node.operating_mode == "normal" for node in topology.loads(imported.text).nodes.values())


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    notes = _import(tmp_path, {"controller-config.toml": CONTROLLER, "config.toml": NODE}).notes
    for word in (
        "bucket_size of 1 → 2",
        "protocol `quic`",
        "scheduler_type `wrr`",
        "1 flows",
        "port, db left out",
        "no counterpart for new_key",
        "[[1, 2], [4, 3]] has no single start",
        "between 2 and 4 was left out",
        "config.toml: no counterpart for feature",
        "lossless_runtime_config: no counterpart for default_block_size",
    ):
        assert any(word in note for note in notes), word
    assert len(notes) == 10


@pytest.mark.parametrize(
    ("shape", "nodes", "links"),
    [
        ('topology = "full_mesh"', 0, 0),
        ('type = "fat_tree"\n[topology.fat_tree_config]\nk = 4', 36, 48),
        ('type = "torus"\n[topology.torus_config]\ndim = 2\nn = 3', 9, 18),
        ('type = "full_mesh"\nn_nodes = 4', 4, 6),
        ("n_nodes = 3\nedges = [[1, 2], [2, 1], [2, 3]]", 3, 2),
        ("n_nodes = 5", 5, 0),
    ],
)
def test_every_shape_of_theirs(shape: str, nodes: int, links: int, tmp_path: Path) -> None:
    text = shape if shape.startswith("topology") else f"[topology]\n{shape}\n"
    imported = _import(tmp_path, {"config.toml": text})
    if not nodes:
        assert any(note.startswith("still to be fixed by hand") for note in imported.notes)
        return
    lab = topology.loads(imported.text)
    assert (len(lab.nodes), len(lab.links), lab.routing) == (nodes, links, "none")


def test_nodes_with_files_of_their_own(tmp_path: Path) -> None:
    files = {
        "controller/config.toml": "[topology]\nn_nodes = 2\nedges = [[1, 2]]\n",
        "node1/config.toml": 'node_id = 1\nmtu = 1300\ncontroller_addr = "x"\n',
        "node2/config.toml": 'node_id = 2\ncontroller_addr = "x"\nenable_local_interface = false\n',
    }
    imported = _import(tmp_path, files)
    assert [node.mtu for node in topology.loads(imported.text).nodes.values()] == [1300, 1400]
    assert any("enable_local_interface" in note for note in imported.notes)
    assert imported.files == ("controller/config.toml", "node1/config.toml", "node2/config.toml")


def test_other_networks_are_kept(tmp_path: Path) -> None:
    text = 'base_addr = "10.5.0.0"\nnet_mask = "255.255.255.0"\n[topology]\nn_nodes = 2\n'
    assert topology.loads(_import(tmp_path, {"c.toml": text}).text).address(1) == "10.5.0.1"


@pytest.mark.parametrize(
    ("files", "id"),
    [
        ({}, "import.no-controller"),
        ({"Cargo.toml": "[package]\nname = 'x'\n"}, "import.no-controller"),
        ({"config.toml": "[topology\n"}, "toml.syntax"),
    ],
)
def test_a_folder_without_a_controllers_file_is_refused(
    files: dict[str, str], id: str, tmp_path: Path
) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _import(tmp_path, files)
    assert caught.value.problems[0].id == id


@pytest.mark.parametrize(
    ("controller", "node", "said"),
    [
        ('routing = "x"\n', "", "c.toml: routing is not"),
        ("routes = [[1, 2]]\n", "", "an entry of routes is not"),
        ("routes = [{route = 7}]\n", "", "routes: route is not"),
        ("routes = [{route = [[[1], 2]]}]\n", "", "no single start and end"),
        ("link_rates = 1\n", "", "link_rates is not"),
        ("flows = 1\n", "", "flows is not"),
        ("nodes = [1]\n", "", "an entry of nodes is not"),
        ('topology = {n_nodes = 2, edges = [[1, "2"]]}\n', "", "edges that are no two numbers"),
        ("topology = {type = [1], n_nodes = 2}\n", "", "topology: type is not"),
        ('topology = {type = "ring", ring_config = 1, n_nodes = 3}\n', "", "ring_config is not"),
        ('topology = {type = "ring", ring_config = {n_nodes = "3"}}\n', "", "ring_config: n_nodes is not"),
        ("", "lossless_runtime_config = 1\n", "lossless_runtime_config is not"),
        ("", "lossless_runtime_config = {ready_grace_ms = [1]}\n", "ready_grace_ms is not"),
        ("", 'node_id = "a"\n', "n.toml: node_id is not"),
        ("", "mtu = 2020-01-01\n", "mtu is not"),
        ("", "channel_capacity = [1]\n", "channel_capacity is not"),
    ],
)
def test_a_value_of_another_type_is_named_and_left_out(
    controller: str, node: str, said: str, tmp_path: Path
) -> None:
    shape = "" if controller.startswith("topology") else "\n[topology]\nn_nodes = 2\n"
    files = {
        "c.toml": "port = 3000\nbase_addr = '10.0.0.0'\n" + controller + shape,
        "m.toml": 'controller_addr = "x"\nnode_id = 1\n',
        "n.toml": 'controller_addr = "x"\n' + node,
    }
    notes = _import(tmp_path, files).notes
    assert any(said in note for note in notes), notes


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid, match="this is no folder"):
        importers.from_nextmini(str(tmp_path / "gone"))


def _import(folder: Path, files: dict[str, str]) -> Imported:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return importers.from_nextmini(str(folder))
