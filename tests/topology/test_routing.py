"""Test how routes come about: metrics, several paths, the user's function, and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.topology.writing import dump

RING = "topology: {type: ring, n_nodes: 4}\n"


def problems(text: str, folder: Path | None = None) -> list[tuple[str, str, int | None]]:
    name = str(folder / "lab.yaml") if folder else "lab.yaml"
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(RING + text, name)
    return [
        (problem.id, problem.message, problem.place.line if problem.place else None)
        for problem in caught.value.problems
    ]


@pytest.mark.parametrize("weight", ["0", "-1", "0.0001", "1e7", ".nan", ".inf", "heavy", "true"])
def test_a_weight_that_is_none_is_refused_with_its_place(weight: str) -> None:
    found = problems(f"routes:\n  - {{from: 1, to: 3, path: [1, 2, 3], weight: {weight}}}\n")
    assert [(id.startswith("topology."), line) for id, _, line in found] == [(True, 3)], found


def test_weights_and_routing_are_written_as_they_were_read() -> None:
    text = (
        RING + "routing: {metric: delay, paths: 3, disjoint: edges}\n"
        "routes: [{from: 1, to: 3, path: [1, 2, 3], weight: 2.5}, {from: 1, to: 3, path: [1, 4, 3]}]\n"
    )
    lab = topology.loads(text)
    assert (lab.metric, lab.paths, lab.disjoint, lab.routes[0].weight) == ("delay", 3, True, 2.5)
    again = topology.loads(dump(lab))
    assert (again.metric, again.paths, again.disjoint, again.routes) == ("delay", 3, True, lab.routes)


@pytest.mark.parametrize(
    ("routing", "id"),
    [
        ("{protocol: none, paths: 2}", "topology.routing-protocol"),
        ("{protocol: none, metric: delay}", "topology.routing-protocol"),
        ("{disjoint: edges}", "topology.routing-paths"),
        ("{paths: 0}", "topology.range"),
        ("{paths: 65}", "topology.range"),
        ("{metric: colour}", "topology.choice"),
    ],
)
def test_what_does_not_go_together_is_refused(routing: str, id: str) -> None:
    found = problems(f"routing: {routing}\n")
    assert len(found) == 1 and found[0][2] == 2, found
    assert found[0][0] == id or id.endswith(("range", "choice")), found


FUNCTION = """
from itertools import permutations

def both_ways(topology):
    n = len(topology.nodes)
    for a, b in permutations(topology.nodes, 2):
        yield [((a - 1 + i) % n) + 1 for i in range((b - a) % n + 1)]
    yield {"from": 1, "to": 3, "path": [1, 4, 3], "weight": 2}

def wrong(topology):
    return [[1, 2, 3], [1, 3]]

def broken(topology):
    return [topology.colour]

def rubbish(topology):
    return [[1, 2], 7]

def leaves(topology):
    raise SystemExit(3)

value = 5
"""


def test_a_function_computes_the_routes(tmp_path: Path) -> None:
    (tmp_path / "ways.py").write_text(FUNCTION)
    lab = topology.loads(RING + "routing: {function: 'ways.py:both_ways'}\n", str(tmp_path / "lab.yaml"))
    assert len(lab.routes) == 13
    assert [(route.path, route.weight) for route in lab.routes if (route.src, route.dst) == (1, 3)] == [
        ((1, 2, 3), 1.0),
        ((1, 4, 3), 2.0),
    ]
    # What is written has the routes and not the function: it means the same anywhere.
    again = topology.loads(dump(lab))
    assert again.routes == lab.routes and again.function == lab.function == "ways.py:both_ways"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ways.py:wrong", "uses the link 1–3"),
        ("ways.py:broken", "AttributeError"),
        ("ways.py:rubbish", "route 2 of the function is int"),
        ("ways.py:leaves", "SystemExit: 3"),
        ("ways.py:value", "has no function `value`"),
        ("ways.py:missing", "has no function `missing`"),
        ("other.py:f", "there is no file"),
        ("ways", "names no function"),
    ],
)
def test_a_function_that_fails_is_named_with_its_place(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "ways.py").write_text(FUNCTION)
    ((_, message, line),) = problems(f"routing:\n  function: '{name}'\n", tmp_path)
    assert words in message and line == 3, message


def test_the_line_that_failed_is_shown(tmp_path: Path) -> None:
    (tmp_path / "ways.py").write_text(FUNCTION)
    with pytest.raises(TopologyInvalid) as caught:
        topology.loads(RING + "routing: {function: 'ways.py:broken'}\n", str(tmp_path / "lab.yaml"))
    (problem,) = caught.value.problems
    assert problem.found == "ways.py, line 14: return [topology.colour]"
