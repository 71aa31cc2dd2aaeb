"""Test what the agent writes to the logs of nodes, and when leftovers of a run are reported as a problem."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from orchestrator.node import agent as agents
from orchestrator.node.agent import Agent, keep
from orchestrator.node.nodes import Nodes
from orchestrator.node.runs import Run
from orchestrator.node.watchdog import Watchdog


def test_a_role_s_lines_go_to_its_node_s_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, 2, "info", ["one"], "r1")
    keep(tmp_path, 2, "error", ["two", "| three"], "r1")
    text = (tmp_path / "node-2.log").read_text()
    assert text == "info  one  run=r1\nerror  two  run=r1\nerror  | three  run=r1\n"
    keep(tmp_path / "gone", 2, "info", ["nowhere"], "r1")  # no reason for a role to fail
    keep(None, 2, "info", ["in a container"], "r1")
    assert capfd.readouterr().err == "info  in a container  run=r1\n"


class OneNode:
    """The nodes of a process that has one."""

    def ids(self) -> list[int]:
        return [1]


class EndedRun:
    """A run whose roles have ended and left something."""

    def __init__(self, name: str, leftovers: dict[int, str]) -> None:
        self.id, self.leftovers = name, leftovers

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


async def test_what_a_run_left_has_its_grace_however_soon_the_next_look_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "LEFT_GRACE_S", 1.0)
    monkeypatch.setattr(agents, "LEFT_LOOK_S", 0.05)
    watchdog = Watchdog()
    agent = Agent(
        cast("Nodes", OneNode()),
        url="ws://127.0.0.1:9",
        tokens={1: "token"},
        base="10.0.0.0",
        work=tmp_path,
        logs=None,
        watchdog=watchdog,
    )

    def end(name: str, leftovers: dict[int, str]) -> EndedRun:
        run = EndedRun(name, leftovers)
        agent._runs[name] = cast("Run", run)
        agent._end(cast("Run", run))
        return run

    try:
        end("first", {})
        await asyncio.sleep(0.8)  # the look that is due for it comes 0.2 s after the second one's end
        second = end("second", {1: "a thread"})
        await asyncio.sleep(0.6)
        assert agent._troubles == {}
        while agent._troubles != {1: "a thread"}:  # noqa: ASYNC110  # the agent tells nobody here
            await asyncio.sleep(0.01)
        second.leftovers.clear()
        while agent._troubles:  # noqa: ASYNC110  # the agent tells nobody here
            await asyncio.sleep(0.01)
    finally:
        watchdog.close()
