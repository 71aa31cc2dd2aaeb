"""Test which files of a home the search for leftovers reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos.leftovers import Memory
from orchestrator.deploy.home import Home


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("locks/ring.lock", False),
        ("cache/cluster-0123456789abcdef.tar", False),
        ("cache/.cluster-x1y2z3", True),  # of an interrupted start
        ("labs/ring/logs/postgres.log", True),
        ("labs/ring/cache/cluster-0123456789abcdef.tar", True),
    ],
)
def test_a_file_is_reported_unless_it_is_meant_to_stay(tmp_path: Path, name: str, reported: bool) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.touch()
    memory = Memory(Home(tmp_path).lab("ring"))
    assert memory._files() == ([str(file)] if reported else [])
