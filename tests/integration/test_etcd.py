"""etcd under partitions: its history is linearizable, and stale reads are found where they are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator import resources
from orchestrator.lab import Lab
from orchestrator.results import RunOutcome
from orchestrator.testing.linearizability import Operation, check
from tests.integration.conftest import shared_lab
from tests.integration.services import need

lab = shared_lab(resources.path("scenarios") / "etcd-partition" / "etcd.yaml", backend="native")

SHORT = {"duration": "5 s", "clients": 3}
"""Through the first partition and a moment beyond; its checks of counts are made for the whole run."""


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    need("etcd")


def test_the_history_of_a_partition_is_linearizable_and_no_split_brain_is_found(
    lab: Lab, tmp_path: Path
) -> None:
    outcome = lab.run_scenario("etcd-partition", params={**SHORT, "expect": "split-brain"}, results=tmp_path)
    assert (outcome.verdict, found(outcome)) == ("fail", "linearizable")
    assert verdict_of(outcome, "the history is as expected") is False
    recorded = [row for row in outcome.rows if row["role"] == "client"]
    assert {row["node"] for row in recorded} == {1, 2, 3, 4, 5}
    assert any(row["outcome"] == "unknown" for row in recorded)
    history = [Operation.from_row(row) for row in recorded if row["outcome"] != "not sent"]
    assert len(history) > 100 and check(history).linearizable is True


def test_reads_that_may_be_stale_are_found_to_be(lab: Lab, tmp_path: Path) -> None:
    params = {**SHORT, "expect": "stale-reads", "reads": "serializable"}
    outcome = lab.run_scenario("etcd-partition", params=params, results=tmp_path)
    assert found(outcome) == "stale-reads"
    assert verdict_of(outcome, "the history is as expected") is True


def found(outcome: RunOutcome) -> Any:
    """What the checker found."""
    return next(row["found"] for row in outcome.rows if row["role"] == "checker")


def verdict_of(outcome: RunOutcome, name: str) -> bool:
    """Whether a check held."""
    return next(each.ok for each in outcome.checks if each.name == name)
