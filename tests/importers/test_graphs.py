"""Test the import of graphs: GraphML and tables of links."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import importers, topology
from orchestrator.errors import ImportInvalid
from orchestrator.importers.draft import Imported
from orchestrator.importers.units import distance_delay, line_rate
from tests.importers.samples import CSV, GRAPHML


def test_a_graph_of_the_topology_zoo(tmp_path: Path) -> None:
    imported = _graphml(tmp_path, GRAPHML)
    lab = topology.loads(imported.text)
    assert lab.name == "four-cities"
    assert [node.name for node in lab.nodes.values()] == ["New-York", "Sao-Paulo", "New-York-2", "node-4"]
    assert lab.nodes[1].labels == {"country": "United-States"}
    links = {(link.a, link.b): link.forward for link in lab.links}
    assert links.keys() == {(1, 2), (2, 3), (1, 4)}
    assert links[1, 2].rate_bps == 10_000_000_000
    assert links[2, 3].rate_bps == 155_520_000
    assert "# São Paulo, -23.5475 -46.6361" in imported.text
    assert "# 東京" in imported.text


def test_delay_is_that_of_light_in_fiber_over_the_distance(tmp_path: Path) -> None:
    forward = topology.loads(_graphml(tmp_path, GRAPHML).text).links[0].forward
    # 7,686 km between the two cities, at 200 km each millisecond.
    assert forward.delay_us == pytest.approx(7_686_000 / 199.862, rel=0.005)
    # A quarter of the equator, by the Earth's mean radius.
    assert distance_delay((0, 0), (0, 90)).us == pytest.approx(10_007_557 / 199.8616, rel=1e-4)
    assert distance_delay((50, 8), (50, 8)).us == 0


def test_distances_can_be_left_out(tmp_path: Path) -> None:
    imported = _graphml(tmp_path, GRAPHML, delay_from_distance=False)
    assert all(link.forward.delay_us is None for link in topology.loads(imported.text).links)
    assert any("was not asked for" in note for note in imported.remarks)


def test_what_a_graph_has_and_a_topology_has_not_is_named(tmp_path: Path) -> None:
    imported = _graphml(tmp_path, GRAPHML)
    assert imported.notes == (
        "links beside another one of the same nodes; the first was taken: New-York-2–Sao-Paulo",
        "links from a node to itself: New-York-2",
        "`LinkLabel` that names no rate: dark fibre (New-York–node-4)",
    )
    for sentence in (*imported.notes, *imported.remarks):
        assert f"#   - {sentence}\n" in imported.text


def test_directed_edges_are_directions_of_links(tmp_path: Path) -> None:
    text = """<graphml><key id="r" for="edge" attr.name="rate"/><graph edgedefault="directed">
    <node id="a"/><node id="b"/><node id="c"/>
    <edge source="a" target="b"><data key="r">20 Mbit</data></edge>
    <edge source="b" target="a"><data key="r">2 Mbit</data></edge>
    <edge source="b" target="c"/></graph></graphml>"""
    imported = _graphml(tmp_path, text)
    link = topology.loads(imported.text).links[0]
    assert (link.forward.rate_bps, link.backward.rate_bps) == (20_000_000, 2_000_000)
    assert imported.remarks == ("links that stand in one direction only carry packets both ways: b→c",)


def test_keys_of_links_defaults_and_labels_of_yed(tmp_path: Path) -> None:
    text = """<g:graphml xmlns:g="x" xmlns:y="y"><g:key id="d" for="edge" attr.name="delay">
    <g:default>7 ms</g:default></g:key><g:key id="l" for="edge" attr.name="loss"/>
    <g:graph edgedefault="undirected">
    <g:node id="n0"><g:data key="z">
    <y:ShapeNode><y:NodeLabel>Core 1</y:NodeLabel></y:ShapeNode></g:data></g:node>
    <g:node id="n1"/><g:node id="n2"/>
    <g:edge source="n0" target="n1"><g:data key="d">3 ms</g:data></g:edge>
    <g:edge source="n1" target="n2"><g:data key="l">12</g:data></g:edge></g:graph></g:graphml>"""
    imported = _graphml(tmp_path, text)
    lab = topology.loads(imported.text)
    assert lab.nodes[1].name == "Core-1"
    assert [link.forward.delay_us for link in lab.links] == [3_000, 7_000]
    assert imported.notes == ("`loss` of edges that is no value of a link (`12`): n1–n2",)


BOMB = """<!DOCTYPE graphml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<graphml><graph><node id="&b;"/></graph></graphml>"""
OUTSIDE = """<!DOCTYPE graphml [<!ENTITY x SYSTEM "file:///etc/hostname">]>
<graphml><graph><node id="a"><data key="label">&x;</data></node></graph></graphml>"""


@pytest.mark.parametrize(
    ("text", "id", "place"),
    [
        ("", "import.xml", "g.graphml:1:1"),
        ("<graphml>\n  <graph>\n  </grap>\n", "import.xml", "g.graphml:3:5"),
        ("<gexf/>", "import.format", "g.graphml:1:1"),
        ("<graphml><graph/></graphml>", "import.empty", "g.graphml"),
        (BOMB, "import.xml-entities", "g.graphml:1:31"),
        (OUTSIDE, "import.xml-entities", "g.graphml:1:60"),
        (
            '<graphml><graph>\n<node id="a"/>\n<edge source="a" target="z"/></graph></graphml>',
            "import.unknown-node",
            "g.graphml:3:1",
        ),
        (
            '<graphml><graph><node id="a"/>\n<node id="a"/></graph></graphml>',
            "import.duplicate-node",
            "g.graphml:2:1",
        ),
        (
            '<graphml><graph><node id="a"/>\n<edge source="a"/></graph></graphml>',
            "import.no-ends",
            "g.graphml:2:1",
        ),
    ],
)
def test_a_bad_graph_is_refused_with_its_place(text: str, id: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _graphml(tmp_path, text)
    problem = caught.value.problems[0]
    assert problem.id == id
    assert str(problem.place).endswith(place)


@pytest.mark.parametrize(
    ("label", "bps"),
    [
        ("10 Gbps", 10**10),
        ("2.5Gbit/s", 2_500_000_000),
        ("155 Mb/s", 155_000_000),
        ("STM-16", 2_488_320_000),
        ("OC48c", 2_488_320_000),
        ("T3", 44_736_000),
        ("GigE", 10**9),
        ("64 kbit/sec", 64_000),
        ("dark fibre", None),
        ("OC-99999", None),
        ("10", None),
        ("0 Mbps", None),
        ("< 10 Gbps", None),
    ],
)
def test_labels_that_name_rates(label: str, bps: int | None) -> None:
    rate = line_rate(label)
    assert (rate.bps if rate else None) == bps


def test_a_table_of_links(tmp_path: Path) -> None:
    lab = topology.loads(_csv(tmp_path, CSV).text)
    assert (len(lab.nodes), lab.name) == (3, "links")
    first, second = lab.links
    assert (first.a, first.b, second.a, second.b) == (1, 2, 1, 3)
    assert (first.forward.rate_bps, first.forward.delay_us, first.forward.loss) == (100_000_000, 5_000, 0.001)
    assert (second.forward.loss_burst, second.backward.rate_bps) == (5, 1_000_000_000)
    # The table says 3 → 1, which is the direction backward of the link 1–3.
    assert (second.backward.jitter_us, second.forward.jitter_us) == (2_000, None)


def test_a_table_with_names_and_other_signs_between_cells(tmp_path: Path) -> None:
    lab = topology.loads(_csv(tmp_path, "source;target;delay\nBerlin;München;6 ms\nBerlin;host;1 ms\n").text)
    assert [node.name for node in lab.nodes.values()] == ["Berlin", "Munchen", "n-host"]
    assert [link.forward.delay_us for link in lab.links] == [6_000, 1_000]


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("", "the table has no links", "links.csv"),
        ("a,b\n", "the table has no links", "links.csv"),
        ("x,y\n1,2\n", "names no columns for the ends", "links.csv:1:1"),
        ("a,b,latency\n1,2,3 ms\n", "no key of a link is called `latency`", "links.csv:1:5"),
        ("a,b,trace\n1,2,x.csv\n", "no key of a link is called `trace`", "links.csv:1:5"),
        ("a,b,a\n1,2,3\n", "the column `a` stands twice", "links.csv:1:5"),
        ("a,b,rate\n1,2\n", "the line has 2 cells", "links.csv:2:1"),
        ("a,b,rate\n1,2,10\n", "rate is `10`, but it needs a unit", "links.csv:2:5"),
        ('a,b,rate,delay\n1,2,"10 Mbit",5\n', "delay is `5`, but it needs a unit", "links.csv:2:15"),
        ("a,b,rate\n1,,1 Mbit\n", "the column `b` is empty", "links.csv:2:3"),
        ('a,b\n"1"x,2\n', "the line is no CSV", "links.csv:2:1"),
        ("a,b,jitter\n1,2,3 ms\n", "a jitter of 3 ms is larger than the delay", "links.csv:2:1"),
        (
            'a,b,delay,jitter\n1,2,9 ms,"{std: 1 ms, distribution: x.csv}"\n',
            "file of delays",
            "links.csv:2:10",
        ),
    ],
)
def test_a_bad_table_is_refused_with_its_place(text: str, words: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _csv(tmp_path, text)
    problem = caught.value.problems[0]
    assert words in problem.message
    assert str(problem.place).endswith(place)


def test_every_line_of_a_table_is_checked_before_anything_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImportInvalid) as caught:
        _csv(tmp_path, "a,b,rate\n1,2,x\n1,3,1 Mbit\n1,4,y\n")
    assert [problem.place.line for problem in caught.value.problems if problem.place] == [2, 4]


def _graphml(folder: Path, text: str, delay_from_distance: bool = True) -> Imported:
    (folder / "g.graphml").write_text(text)
    return importers.from_graphml(folder / "g.graphml", delay_from_distance=delay_from_distance)


def _csv(folder: Path, text: str) -> Imported:
    (folder / "links.csv").write_text(text)
    return importers.from_csv(folder / "links.csv")
