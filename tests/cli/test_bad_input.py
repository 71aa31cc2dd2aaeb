"""Test errors in files and options: id, place, what was found, hint.

The whole text of complaints is in `tests/golden`; here stand the facts that scripts hold on to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Nm

RING = "name: ring\ntopology: {type: ring, n_nodes: 4}\n"

TOPOLOGIES = {
    "odd k": (
        "name: x\ntopology: {type: fat_tree, k: 3}\n",
        "topology.generator",
        (2, 31),
        "3",
        "`2` or `4`",
    ),
    "duplicate link": (
        "name: x\nn_nodes: 3\nlinks:\n  - {endpoints: [1, 2]}\n  - {endpoints: [2, 1]}\n",
        "topology.duplicate-link",
        (5, 17),
        "[2, 1]",
        "`forward` and `backward`",
    ),
    "impossible unit": (
        RING + "defaults: {link: {rate: 10 parsecs}}\n",
        "topology.unit",
        (3, 25),
        "10 parsecs",
        "`Mbit`",
    ),
    "seed that is no number": ("seed: lucky\n" + RING, "topology.type", (1, 7), "lucky", "`seed: 7`"),
    "subnet too small": (
        "subnet: 10.1.0.0/29\ntopology: {type: ring, n_nodes: 9}\n",
        "topology.subnet-too-small",
        (1, 9),
        "9",
        "`subnet: 10.1.0.0/28`",
    ),
    "two nodes of one name": (
        RING + "nodes:\n  1: {name: trainer}\n  3: {name: Trainer}\n",
        "topology.duplicate-name",
        (5, 13),
        "Trainer",
        "a name of its own",
    ),
    "route over a link that is not there": (
        RING + "routes:\n  - {from: 1, to: 3, path: [1, 3]}\n",
        "topology.route-link",
        (4, 32),
        "1 → 3",
        "linked to `2`, `4`",
    ),
    "route that does not reach": (
        RING + "routes:\n  - {from: 1, to: 3, path: [1, 2]}\n",
        "topology.route-reach",
        (4, 32),
        "2",
        "end with `3`",
    ),
    "edges that do not reach": (
        RING + "routes:\n  - {from: 1, to: 3, edges: [[1, 2]]}\n",
        "topology.route-reach",
        (4, 29),
        "1 → 2",
        "on to node 3",
    ),
    "route that starts elsewhere": (
        RING + "routes:\n  - {from: 1, to: 3, path: [2, 3]}\n",
        "topology.route-start",
        (4, 29),
        "2",
        "begin with `1`",
    ),
    "lab outside its folder": ("name: ../x\nn_nodes: 2\n", "topology.form", (1, 7), "../x", "folders"),
    "shell in a name": (
        RING + "nodes:\n  1: {name: 'a; rm -rf /'}\n",
        "topology.form",
        (4, 13),
        "a; rm -rf /",
        "host name",
    ),
    "SQL in a name": (
        RING + 'nodes:\n  1: {name: "a\'); DROP TABLE nodes;--"}\n',
        "topology.form",
        (4, 13),
        "a'); DROP TABLE nodes;--",
        "host name",
    ),
    "YAML in a name": (
        RING + 'nodes:\n  1: {name: "a: b\\n  privileged: true"}\n',
        "topology.form",
        (4, 13),
        "a: b\\n  privileged: true",
        "host name",
    ),
    "TOML in a name": (
        RING + "nodes:\n  1: {name: 'a\"]'}\n",
        "topology.form",
        (4, 13),
        'a"]',
        "host name",
    ),
}

SCENARIO = "name: mine\nsummary: a test\n"
WORKER = "roles:\n  worker: {nodes: all}\n"

SCENARIOS = {
    "no roles": (SCENARIO, "scenario.no-roles", (1, 1), None, "roles: {worker"),
    "unknown role": (
        SCENARIO + WORKER + "checks:\n  - {name: c, rows: wroker, where: 'true', count: all}\n",
        "scenario.unknown-role",
        (6, 21),
        "wroker",
        "`worker`",
    ),
    "role without a function": (
        SCENARIO + "roles:\n  wroker: {nodes: all}\n",
        "scenario.role-function",
        (4, 19),
        "wroker",
        "`worker`",
    ),
    "check that does not parse": (
        SCENARIO
        + WORKER
        + "checks:\n  - name: c\n    rows: worker\n    where: state = 'complete'\n    count: all\n",
        "scenario.expression",
        (8, 12),
        "state = 'complete'",
        "`==`",
    ),
    "default of the wrong type": (
        SCENARIO + WORKER + "params:\n  size: {type: size, default: 3 apples}\n",
        "scenario.param",
        (6, 31),
        "3 apples",
        "`KB`",
    ),
    "scenario outside its folder": (
        "name: ../x\nsummary: s\n" + WORKER,
        "scenario.form",
        (1, 7),
        "../x",
        "results folders",
    ),
}


def assert_says(
    problem: dict[str, Any], id: str, place: tuple[int, int], found: str | None, hint: str
) -> None:
    assert problem["id"] == id, problem
    assert (problem["place"]["line"], problem["place"]["column"]) == place, problem
    assert found is None or problem["found"] == found, problem
    assert hint in problem["hint"], problem


@pytest.mark.parametrize("case", TOPOLOGIES)
def test_a_topology_that_is_wrong(nm: Nm, tmp_path: Path, case: str) -> None:
    text, id, place, found, hint = TOPOLOGIES[case]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    for words in (("validate", file), ("up", file, "--backend", "native")):
        said = nm(*words, "-o", "json")
        assert said.code == 2
        (problem,) = said.error["problems"]
        assert problem["place"]["file"] == str(file)
        assert_says(problem, id, place, found, hint)


@pytest.mark.parametrize("case", SCENARIOS)
def test_a_scenario_that_is_wrong(nm: Nm, tmp_path: Path, case: str) -> None:
    text, id, place, found, hint = SCENARIOS[case]
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(text)
    (folder / "roles.py").write_text("def worker(ctx):\n    pass\n")
    said = nm("run", "scenario", folder, "-o", "json")
    assert said.code == 2
    (problem,) = said.error["problems"]
    assert problem["place"]["file"] == str(folder / "scenario.yaml")
    assert_says(problem, id, place, found, hint)


def test_a_file_that_is_not_there(nm: Nm, tmp_path: Path) -> None:
    (tmp_path / "ring.yaml").write_text(RING)
    error = nm("up", tmp_path / "rnig.yaml", "-o", "json").error
    (problem,) = error["problems"]
    assert (problem["id"], problem["place"]["file"]) == ("file.missing", str(tmp_path / "rnig.yaml"))
    assert f"`{tmp_path / 'ring.yaml'}`" in problem["hint"]


def test_set_on_an_unknown_key(nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "ring.yaml"
    file.write_text(RING)
    said = nm("up", file, "--set", "defaults.link.dealy=5 ms", "-o", "json")
    assert said.code == 2
    (problem,) = said.error["problems"]
    assert problem["id"] == "topology.unknown-key"
    assert problem["place"] == {"file": "--set defaults.link.dealy=5 ms", "line": None, "column": None}
    assert problem["hint"] == "did you mean `delay`?"
