"""Test in which nodes `nm exec all` runs a command, and what it says about the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.cli import nodes
from orchestrator.cli.main import run
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.lab import AsyncLab, Completed
from tests.lab.conftest import MakeLab


@pytest.fixture
def directory(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> LabDirectory:
    """A lab of two nodes and an external one, in which every command succeeds."""

    def run_in_all(_lab: object, chosen: Sequence[int], *_: object) -> list[Completed]:
        return [Completed(node, 0, "", "", 0.1) for node in chosen]

    monkeypatch.setattr(nodes, "_run_in_all", run_in_all)
    monkeypatch.setattr(AsyncLab, "attach", lambda *_: None)
    return make_lab()[0]


@pytest.mark.parametrize("state", ["stopped", "paused"])
def test_all_leaves_out_nodes_that_are_stopped_or_paused(
    directory: LabDirectory, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    node_states.record(directory, [2], state)
    code, out, err = _exec(capsys, "all")
    assert (code, [each["node"] for each in json.loads(out)]) == (0, [1])
    assert err.splitlines() == [
        "left out, because nm runs nothing in an external node: 3",
        f"left out: node 2, which is {state}",
    ]


@pytest.mark.parametrize("words", ["2", "1-2", "2,all", "all,w1"])
def test_a_stopped_node_that_is_named_is_refused(
    directory: LabDirectory, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    node_states.record(directory, [2], "stopped")
    code, out, err = _exec(capsys, words)
    assert (code, out) == (2, "") and '"node.stopped"' in err


def test_all_is_refused_where_no_node_runs(
    directory: LabDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    node_states.record(directory, [1, 2], "paused")
    code, out, err = _exec(capsys, "all")
    assert (code, out) == (2, "") and '"node.paused"' in err


def _exec(capsys: pytest.CaptureFixture[str], words: str) -> tuple[Any, str, str]:
    code = run(["exec", words, "-o", "json", "--", "true"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
