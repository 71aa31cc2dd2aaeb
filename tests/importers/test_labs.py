"""Test the import of labs: containerlab and netlab files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import importers, topology
from orchestrator.errors import ImportInvalid
from orchestrator.importers.draft import Imported
from tests.importers.samples import CONTAINERLAB, NETLAB


def test_a_containerlab_file(tmp_path: Path) -> None:
    imported = _containerlab(tmp_path, CONTAINERLAB)
    lab = topology.loads(imported.text)
    assert lab.name == "srl02"
    assert [node.name for node in lab.nodes.values()] == ["srl1", "srl2", "client"]
    assert lab.nodes[1].labels == {"kind": "nokia_srlinux", "rack": "r-1"}
    assert lab.nodes[2].labels == {"kind": "nokia_srlinux", "group": "spine"}
    assert [(link.a, link.b, link.forward.mtu) for link in lab.links] == [(1, 2, 1500), (2, 3, None)]


def test_what_containerlab_has_and_a_topology_has_not_is_named(tmp_path: Path) -> None:
    assert _containerlab(tmp_path, CONTAINERLAB).notes == (
        "`mgmt` of the file",
        "image `ghcr.io/nokia/srlinux` (kind `nokia_srlinux`): srl1, srl2",
        "`startup-config` of nodes: srl1",
        "`type` of kinds: nokia_srlinux",
        "image `alpine` (kind `linux`): client",
        "`exec` of nodes: client",
        "links to `host`: srl1",
        "links of the type `macvlan`: line 18",
    )


def test_kinds_of_groups_and_defaults_are_inherited(tmp_path: Path) -> None:
    text = """topology:
  defaults: {kind: linux}
  groups: {spine: {kind: ceos}}
  kinds: {ceos: {image: "ceos:4"}}
  nodes: {a: {group: spine}, b: }
"""
    imported = _containerlab(tmp_path, text)
    lab = topology.loads(imported.text)
    assert [node.labels["kind"] for node in lab.nodes.values()] == ["ceos", "linux"]
    assert "image `ceos:4` (kind `ceos`): a" in imported.notes


@pytest.mark.parametrize(
    ("text", "id", "line"),
    [
        ("a: 1\n", "import.format", 0),
        ("topology: {nodes: [a]}\n", "import.type", 1),
        ("topology:\n  nodes: {}\n", "import.empty", 2),
        ('topology:\n  nodes: {a: }\n  links:\n  - endpoints: ["a:1", "z:1"]\n', "import.unknown-node", 4),
        ('topology:\n  nodes: {a: }\n  links:\n  - endpoints: ["a:1"]\n', "import.endpoints", 4),
        ("topology:\n  nodes: {a: }\n  links: [3]\n", "import.type", 3),
        ("topology:\n  nodes: {a: }\n  nodes: {b: }\n", "yaml.duplicate-key", 3),
        ("topology: [\n", "yaml.syntax", 1),
    ],
)
def test_a_bad_containerlab_file_is_refused_with_its_place(
    text: str, id: str, line: int, tmp_path: Path
) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _containerlab(tmp_path, text)
    problem = caught.value.problems[0]
    assert problem.id == id
    assert problem.place is not None and problem.place.line == line


def test_a_netlab_file(tmp_path: Path) -> None:
    imported = _netlab(tmp_path, NETLAB)
    lab = topology.loads(imported.text)
    assert [node.name for node in lab.nodes.values()] == ["r1", "r2", "c-3", "h", "lan-1"]
    assert lab.nodes[1].labels == {"group": "core", "device": "frr"}
    links = {(link.a, link.b): link for link in lab.links}
    assert links.keys() == {(1, 2), (1, 3), (1, 4), (2, 4), (2, 5), (3, 5), (4, 5), (3, 4)}
    there, back = links[1, 4].forward, links[1, 4].backward
    assert (there.rate_bps, there.loss, there.delay_us) == (100_000_000, 0.01, 10_000)
    assert (back.rate_bps, back.loss, back.delay_us) == (100_000_000, 0.01, None)
    slow = links[2, 4].forward
    assert (slow.rate_bps, slow.delay_us, slow.mtu) == (512_000, 20_000, 1400)
    # netem draws from 17 to 23 ms alike.
    assert slow.jitter_us == pytest.approx(3_000 / 3**0.5, abs=1)
    assert slow.jitter_distribution == "uniform"


def test_what_netlab_has_and_a_topology_has_not_is_named(tmp_path: Path) -> None:
    assert _netlab(tmp_path, NETLAB).notes == (
        "`bgp.as` of groups: core",
        "device `frr`: r1, c-3, h",
        "device `eos`: r2",
        "`id` of nodes: r2",
        "`module` of the file",
        "`ipv4` of links: h",
        "links with one end: h",
        "names of groups of links: more",
    )


def test_impairments_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    imported = _netlab(tmp_path, "nodes: [a, b]\nlinks:\n- {a: , b: , tc: {jitter: 5, loss: 1, delay: x}}\n")
    link = topology.loads(imported.text).links[0].forward
    assert (link.jitter_us, link.loss) == (None, 0.01)
    assert any("do not go together" in note for note in imported.notes)
    assert "`tc.delay` of links (`x`): a–b" in imported.notes


@pytest.mark.parametrize(
    ("text", "id", "line"),
    [
        ("links: []\n", "import.format", 0),
        ("nodes: []\n", "import.empty", 1),
        ("nodes: [a]\nlinks:\n- a-b\n", "import.unknown-node", 3),
        ("nodes: [a, a]\n", "import.duplicate-node", 1),
        ("nodes: 3\n", "import.type", 1),
        ("nodes: [a, {device: x}]\n", "import.type", 1),
    ],
)
def test_a_bad_netlab_file_is_refused_with_its_place(text: str, id: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _netlab(tmp_path, text)
    problem = caught.value.problems[0]
    assert problem.id == id
    assert problem.place is not None and problem.place.line == line


def _containerlab(folder: Path, text: str) -> Imported:
    (folder / "x.clab.yml").write_text(text)
    return importers.from_containerlab(folder / "x.clab.yml")


def _netlab(folder: Path, text: str) -> Imported:
    (folder / "topology.yml").write_text(text)
    return importers.from_netlab(folder / "topology.yml")
