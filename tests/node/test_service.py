"""Test the agent program without a lab."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.node import agent_loop, service
from orchestrator.node.nodes import Nodes
from orchestrator.node.options import parse


def test_an_agent_that_fails_leaves_the_nodes_alone_and_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no agent")

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise service.Stopped

    pauses: list[float] = []
    handlers: list[Any] = []
    levels: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(service, "_logger", SimpleNamespace(exception=said.append))
    monkeypatch.setattr(agent_loop, "serve", fail)
    monkeypatch.setattr(service, "_pause", pause)
    monkeypatch.setattr(service.log, "setup", levels.append)
    monkeypatch.setattr(service, "_on_signals", handlers.append)
    nodes = Nodes()
    monkeypatch.setattr(nodes, "close", fail)
    with pytest.raises(service.Stopped):
        service._run_roles(parse(["--log-level", "debug", "a.toml"]), nodes)
    assert levels == ["debug"]  # once, because it removes the handlers of the root logger
    assert handlers == [service._stop] * 7
    longest = [1, 2, 4, 8, 16, 30, 30]
    assert all(most / 2 <= pause <= most for most, pause in zip(longest, pauses, strict=True))
    assert "no roles can run here" in said[0]


@pytest.mark.parametrize("comes", [True, False])
async def test_an_agent_without_nodes_waits_for_one_or_for_its_end(
    comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All nodes of its part may have been removed when it is started."""
    nodes, stopped, tokens = Nodes(), asyncio.Event(), dict[int, str]()
    monkeypatch.setattr(agent_loop, "_tokens", lambda given, nodes: dict(tokens))
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(agent_loop._nodes_there(loop, stopped, parse(["a.toml"]), nodes))
    await asyncio.sleep(0)
    nodes.changed()  # with none still
    await asyncio.sleep(0)
    assert not waiting.done()
    if comes:
        tokens[3] = "t"
        nodes.changed()
    else:
        stopped.set()
    assert await asyncio.wait_for(waiting, 10) is comes
