"""Test the pytest plugin in a session of its own: real labs, two workers, one failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

RESET = """
import pytest

pytestmark = pytest.mark.lab("ring.yaml", backend="native")

def test_the_lab_is_left_changed(lab, worker_id):
    assert lab.name == f"ring-{worker_id}-1"
    lab.link(1, 2).down()
    lab.partition("1,2|3,4")
    lab.node(3).pause()
    lab.node(4).kill()

def test_it_is_reset(lab, worker_id):
    assert lab.name == f"ring-{worker_id}-1"
    status = lab.status()
    assert {node.state for node in status.nodes} == {"ready"}
    assert {link.state for link in status.links} == {"up"}
    assert lab.node(1).run(["ping", "-c", "1", "-W", "3", "node-3"]).ok

def test_a_scenario_passes(run_scenario):
    assert run_scenario("pingall").verdict == "pass"

def test_a_scenario_fails(run_scenario):
    run_scenario("two")

def test_a_scenario_that_fails_is_not_checked(run_scenario):
    assert run_scenario("two", check=False).verdict == "fail"
"""
OTHER = """
import pytest

@pytest.mark.lab("topology: {type: line, n_nodes: 2}\\nname: line\\n", backend="native")
def test_a_lab_of_another_worker(lab, worker_id):
    assert lab.name == f"line-{worker_id}-1"
    assert lab.node(1).run(["ping", "-c", "1", "-W", "3", "node-2"]).ok
"""


def test_labs_are_shared_reset_and_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_reset=RESET, test_other=OTHER)
    folder = pytester.path / "two"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(
        "roles: {one: {nodes: 1}}\nchecks: [{name: is two, where: x == 2, count: all}]\n"
    )
    (folder / "roles.py").write_text("def one(ctx):\n    ctx.log('about to report')\n    ctx.report(x=1)\n")
    result = pytester.runpytest_subprocess(
        "-n", "2", "--dist", "loadfile", "--strict-markers", "-p", "no:cacheprovider", timeout=110
    )
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_a_scenario_fails*",
            "*scenario two: fail*",
            "*✗ is two: 0 of 1 rows; node 1: x is 1*",
            "*results in */results/*-two-*",
            "*- lab ring-gw?-1 -*",
            "ready on the native backend, in *",
            "*- log controller.log of lab ring-gw?-1 -*",
            "*- run two-* -*",
            "*- log * of run two-* -*",
            "*about to report*",
        ]
    )
    (results,) = set(re.findall(r"results in (\S+-two-\S+)", result.stdout.str()))
    assert Path(results, "run.json").is_file()
