"""etcd in containers: the shipped scenario passes, and fails where it is told to expect a split brain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import resources
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs


@pytest.fixture(scope="module")
def lab(home: Home) -> Iterator[Lab]:
    labs = Labs(home)
    try:
        yield labs.up(resources.path("scenarios") / "etcd-partition" / "etcd.yaml", backend="docker")
    finally:
        labs.end()


def test_a_history_through_three_partitions_is_linearizable(lab: Lab, tmp_path: Path) -> None:
    outcome = lab.run_scenario("etcd-partition", results=tmp_path)
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures, outcome.checks)


def test_the_run_fails_when_a_split_brain_is_expected(lab: Lab, tmp_path: Path) -> None:
    params = {"expect": "split-brain", "duration": "5 s", "clients": 3}
    outcome = lab.run_scenario("etcd-partition", params=params, results=tmp_path)
    assert outcome.verdict == "fail"
    expected = next(each for each in outcome.checks if each.name == "the history is as expected")
    assert not expected.ok
