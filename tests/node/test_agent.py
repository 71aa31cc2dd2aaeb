"""Test what the agent writes to the logs of nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.node.agent import keep


def test_a_role_s_lines_go_to_its_node_s_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, 2, "info", ["one"], "r1")
    keep(tmp_path, 2, "error", ["two", "| three"], "r1")
    text = (tmp_path / "node-2.log").read_text()
    assert text == "info  one  run=r1\nerror  two  run=r1\nerror  | three  run=r1\n"
    keep(tmp_path / "gone", 2, "info", ["nowhere"], "r1")  # no reason for a role to fail
    keep(None, 2, "info", ["in a container"], "r1")
    assert capfd.readouterr().err == "info  in a container  run=r1\n"
