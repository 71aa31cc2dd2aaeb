"""Test drawings of topologies."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from math import hypot
from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import UsageError
from orchestrator.topology import Topology
from orchestrator.topology.drawing.layout import place_nodes
from orchestrator.topology.random_shapes import waxman_points

EXAMPLES = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"
SHAPES = (
    "ring, n_nodes: 4",
    "ring, n_nodes: 40",
    "full_mesh, n_nodes: 9",
    "star, n_nodes: 20",
    "line, n_nodes: 5",
    "line, n_nodes: 40",
    "tree, n_nodes: 31, arity: 2",
    "tree, n_nodes: 31, arity: 5",
    "fat_tree, k: 4",
    "torus, dim: 1, n: 9",
    "torus, dim: 2, n: 5",
    "torus, dim: 3, n: 3",
    "random, n_nodes: 36, degree: 4",
    "dumbbell, left: 5, right: 1",
    "clos, leaves: 6, spines: 3, hosts: 4",
    "clos, leaves: 4, spines: 2",
    "waxman, n_nodes: 30",
    "barabasi_albert, n_nodes: 30",
)


@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_keep_their_distance(shape: str) -> None:
    """Circles have a radius of 0.23 units; below 0.75 their numbers would be hard to tell apart."""
    positions = list(place_nodes(_lab(shape)).values())
    nearest = min(
        hypot(ax - bx, ay - by) for i, (ax, ay) in enumerate(positions) for bx, by in positions[i + 1 :]
    )
    assert nearest > 0.75


def test_many_nodes_of_a_waxman_graph_are_drawn_where_the_generator_put_them() -> None:
    lab = topology.loads("seed: 3\ntopology: {type: waxman, n_nodes: 150, alpha: 0.05}")
    placed, points = place_nodes(lab), waxman_points(150, 3)
    ratios = {round(placed[node][0] / points[node][0], 6) for node in points}
    assert len(ratios) == 1


def test_parts_that_are_not_linked_stay_close() -> None:
    text = "n_nodes: 8\nlinks:\n"
    pairs = ((1, 2), (2, 3), (3, 1), (4, 5), (5, 6), (6, 4))
    text += "".join(f"  - endpoints: [{a}, {b}]\n" for a, b in pairs)
    positions = list(place_nodes(topology.loads(text)).values())
    pairwise = [hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(positions) for b in positions[i + 1 :]]
    assert min(pairwise) > 0.75
    assert max(pairwise) < 10


def test_a_large_graph_shows_its_shape() -> None:
    """A grid of 15 by 15 without a generator: linked nodes are near, the corners are far apart."""
    text, side = "n_nodes: 225\nlinks:\n", 15
    for node in range(1, side * side + 1):
        ends = [node + 1] if node % side else []
        ends += [node + side] if node + side <= side * side else []
        text += "".join(f"  - endpoints: [{node}, {end}]\n" for end in ends)
    lab = topology.loads(text)
    at = place_nodes(lab)
    assert at == place_nodes(lab)
    linked = sorted(hypot(at[x.a][0] - at[x.b][0], at[x.a][1] - at[x.b][1]) for x in lab.links)
    corners = [at[node] for node in (1, side, 225 - side + 1, 225)]
    apart = min(hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(corners) for b in corners[i + 1 :])
    assert apart > 6 * linked[len(linked) // 2]
    assert linked[-1] < 4 * linked[len(linked) // 2]


def test_leaves_of_one_node_in_a_large_graph_do_not_coincide() -> None:
    leaves = "".join(f"  - endpoints: [{1 + i % 3}, {i}]\n" for i in range(4, 151))
    core = "".join(f"  - endpoints: [{a}, {b}]\n" for a, b in ((1, 2), (2, 3), (1, 3)))
    positions = list(place_nodes(topology.loads(f"n_nodes: 150\nlinks:\n{core}{leaves}")).values())
    nearest = min(
        hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(positions) for b in positions[i + 1 :]
    )
    assert nearest > 0.05


@pytest.mark.parametrize(
    "shape",
    [
        "ring, n_nodes: 4",
        "fat_tree, k: 4",
        "torus, dim: 2, n: 4",
        "line, n_nodes: 9",
        "dumbbell, left: 4, right: 3",
    ],
)
def test_links_do_not_run_through_nodes(shape: str) -> None:
    lab = _lab(shape)
    root = ET.fromstring(topology.graph(lab))
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]
    for link, path in zip(lab.links, root.iter(f"{SVG}path"), strict=True):
        others = [circle for i, circle in enumerate(circles, 1) if i not in (link.a, link.b)]
        for x, y in _points(path.attrib["d"]):
            assert all(hypot(x - ox, y - oy) > 17 for ox, oy in others), (link.a, link.b)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_drawn_completely(path: Path) -> None:
    lab = topology.load(path)
    root = ET.fromstring(topology.graph(lab, "svg"))
    assert len(list(root.iter(f"{SVG}circle"))) == len(lab.nodes)
    assert len(list(root.iter(f"{SVG}path"))) == len(lab.links)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for circle in root.iter(f"{SVG}circle"):
        assert 17 <= float(circle.attrib["cx"]) <= width - 17
        assert 17 <= float(circle.attrib["cy"]) <= height - 17
    assert topology.graph(lab, "dot").count(" -- ") == len(lab.links)
    assert topology.graph(lab, "mermaid").count(" ---") == len(lab.links)


def test_a_picture_is_always_the_same() -> None:
    lab = _lab("random, n_nodes: 20, degree: 3")
    assert topology.graph(lab) == topology.graph(_lab("random, n_nodes: 20, degree: 3"))


def test_what_all_links_share_is_said_once() -> None:
    text = topology.graph(_lab("ring, n_nodes: 5", "defaults: {link: {rate: 1 Gbit, delay: 5 ms}}"))
    assert ">every link: 1 Gbit · 5 ms<" in text
    assert 'class="spec"' not in text


def test_a_link_of_its_own_has_its_own_words() -> None:
    text = topology.graph(
        _lab(
            "ring, n_nodes: 4", "links: [{endpoints: [1, 3], forward: {rate: 2 Mbit}, backward: {loss: 1 %}}]"
        )
    )
    assert ">1→3 2 Mbit<" in text
    assert ">3→1 1 %<" in text


def test_names_external_nodes_and_states_are_shown() -> None:
    lab = _lab("ring, n_nodes: 4", "nodes: {1: {name: trainer}, 4: {external: true}}")
    text = topology.graph(lab, states={2: "ready", 3: "unreachable"})
    assert ">trainer<" in text
    assert "node external" in text
    assert "#15803d" in text
    assert "#b91c1c" in text


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="no picture format `pnf`"):
        topology.graph(_lab("ring, n_nodes: 4"), "pnf")


def _lab(shape: str, more: str = "") -> Topology:
    return topology.loads(f"name: lab\ntopology: {{type: {shape}}}\n{more}")


def _points(path: str) -> list[tuple[float, float]]:
    """Return points along a straight line or a quadratic curve, its ends left out."""
    numbers = [float(word) for word in path.replace("M", " ").replace("L", " ").replace("Q", " ").split()]
    (x1, y1), (x2, y2) = numbers[:2], numbers[-2:]
    cx, cy = numbers[2:4] if len(numbers) == 6 else ((x1 + x2) / 2, (y1 + y2) / 2)
    steps = [i / 20 for i in range(1, 20)]
    return [
        (
            (1 - t) ** 2 * x1 + 2 * t * (1 - t) * cx + t * t * x2,
            (1 - t) ** 2 * y1 + 2 * t * (1 - t) * cy + t * t * y2,
        )
        for t in steps
    ]
