"""Test the tests of a lab in real labs: `nm test`, `Lab.test` and `tests:` of a scenario."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.lab import Lab
from orchestrator.results import RunOutcome

from .conftest import Here

RING = """\
name: ring
topology: {type: ring, n_nodes: 4}
defaults: {link: {rate: 100 Mbit, delay: 20 ms}}
nodes: {1: {name: web}}
"""
TESTS = """\
tests:
  - {name: reach, reach: all}
  - {name: route, route: [web, 2, 3]}
  - {name: other route, route: [web, 4, 3]}
  - {name: delay, from: 2, to: web, delay: {min: 20 ms, max: 30 ms}, packets: 20, wait: 10 s}
  - {name: hang, command: sleep 100, node: 1, timeout: 500 ms}
"""
SERVED = """\
tests:
  - {name: port, tcp: 8000, from: "2-3", to: web, wait: 10 s}
  - {name: page, http: "http://web:8000/", from: 4}
  - {name: no page, http: "http://web:8000/none", from: 4, status: 404}
  - {name: nothing there, tcp: 8001, from: 2, to: web}
  - {name: rate, throughput: {min: 60 Mbit, max: 110 Mbit}, from: 1, to: 2, duration: 1 s, wait: 20 s}
  - {name: loss, from: 2, to: 3, loss: {min: 10 %, max: 50 %}, packets: 300}
"""


def test_nm_test_brings_a_lab_up_and_takes_it_down(here: Here, tmp_path: Path) -> None:
    (tmp_path / "ring.yaml").write_text(RING + TESTS)
    said = here("test", "ring.yaml", "--backend", "native", "--junit", "out/junit.xml", "-o", "json")
    assert said.code == 1, said.err
    found = {each["name"]: each for each in said.json}
    assert [name for name, each in found.items() if each["ok"]] == ["reach", "route", "delay"]
    assert found["reach"]["detail"].startswith("12 of 12 pairs answered, the slowest in ")
    assert found["other route"]["detail"] == "packets take 1 → 2 → 3, 1 → 4 → 3 is expected"
    assert found["hang"]["detail"] == "it did not end within its timeout of 0.5 s"
    assert 0.5 <= found["hang"]["seconds"] < 10
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()[0]
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["other route", "hang"]
    assert here("labs", "-o", "json").json == []


@pytest.mark.lab(RING + SERVED, backend="native")
def test_a_lab_that_is_up_is_tested_and_a_scenario_counts_its_tests(
    lab: Lab, run_scenario: Callable[..., RunOutcome], tmp_path: Path
) -> None:
    serve = "python3 -m http.server 8000 >/dev/null 2>&1 &"
    assert lab.node(1).run(["sh", "-c", f"cd {tmp_path} && {serve}"]).ok
    lab.link(2, 3).set(loss="30 %")
    results = lab.test()
    assert [(each.name, each.ok) for each in results] == [
        ("port", True),
        ("page", True),
        ("no page", True),
        ("nothing there", False),
        ("rate", True),
        ("loss", True),
    ], results
    assert results[3].detail == "node 2 to port 8001 of node 1: connection refused"

    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "roles.py").write_text("def one(ctx):\n    ctx.report(x=1)\n")
    (folder / "scenario.yaml").write_text(
        "roles: {one: {nodes: 2}}\nchecks: [{name: reported, rows: one, where: x == 1}]\n"
        "tests: [{name: port, tcp: 8000, from: 2, to: web}, {name: gone, tcp: 8001, from: 2, to: web}]\n"
    )
    run = run_scenario(folder, check=False)
    assert run.verdict == "fail"
    assert [(each.name, each.ok) for each in run.checks] == [
        ("reported", True),
        ("port", True),
        ("gone", False),
    ]
    # The tests of a scenario can be run without its roles.
    assert [(each.name, each.ok) for each in lab.test(folder)] == [("port", True), ("gone", False)]
