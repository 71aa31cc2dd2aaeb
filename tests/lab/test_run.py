"""Test what is checked before a run is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import scenario
from orchestrator.deploy import node_states
from orchestrator.errors import UsageError
from orchestrator.lab.run import run_scenario
from orchestrator.lab.run_options import RunOptions

from .conftest import MakeLab


@pytest.mark.parametrize("state", ["stopped", "paused"])
async def test_a_run_with_a_node_that_is_stopped_or_paused_is_refused_before_anything_is_staged(
    make_lab: MakeLab, tmp_path: Path, state: str
) -> None:
    directory, note = make_lab()
    (directory.run / "topology.yaml").write_text("name: ring\ntopology: {type: ring, n_nodes: 3}\n")
    node_states.record(directory, [2], state)
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "scenario.yaml").write_text("roles: {a: {nodes: 1}, b: {nodes: 2}}\n")
    (folder / "roles.py").write_text("def a(ctx): ...\ndef b(ctx): ...\n")
    results = tmp_path / "results"
    with pytest.raises(UsageError, match=f"node 2 of lab ring is {state} by request") as caught:
        await run_scenario(directory, note, scenario.load(folder), RunOptions({}, results))
    assert caught.value.id == f"node.{state}"
    assert not results.exists()
