"""The agent as a program, where no lab is needed to see it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.node import duty, service
from orchestrator.node.nodes import Nodes
from orchestrator.node.options import parse


def test_an_agent_that_fails_leaves_the_nodes_alone_until_somebody_stops_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no agent")

    def pause() -> None:
        assert "no roles can be run here" in caplog.text and "no agent" in caplog.text
        raise service.Stopped

    handlers: list[Any] = []
    monkeypatch.setattr(duty, "serve", fail)
    monkeypatch.setattr(service.signal, "pause", pause)
    monkeypatch.setattr(service, "_on_signals", handlers.append)
    nodes = Nodes()
    monkeypatch.setattr(nodes, "close", fail)
    with pytest.raises(service.Stopped):
        service._run_roles(parse(["a.toml"]), nodes)
    assert handlers == [service._stop]
