"""Requests to the process that runs the services of a native lab, without a lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.native import service_runner
from orchestrator.deploy.native import services as requests
from orchestrator.deploy.native.running import PART, Published, Running
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.node_states import control_socket
from orchestrator.services import DEATHS, Instance, ServiceState


@pytest.fixture
def directory(tmp_path: Path) -> LabDirectory:
    made = Home(tmp_path).lab("ring")
    made.create()
    return made


def note(**changes: Any) -> LabState:
    values = {"lab": "ring", "backend": "native", "run": "r1", "phase": "up", "owner": None, "nodes": ()}
    about = {"topology": "ring.yaml", "digest": "d", "controller_port": 20_001, "created": "", "links": ()}
    return LabState(**{**values, **about, **changes})


@pytest.mark.parametrize("do", ["restart", "start_failed"])
@pytest.mark.parametrize("state", ["failed", "restarting", "starting"])
async def test_a_service_that_ended_often_is_no_longer_hopeless_once_it_is_asked_for(
    directory: LabDirectory, state: str, do: str
) -> None:
    it = Instance(node=1, node_name="a", address="10.0.0.1", service="web", restart=f"on-failure:{DEATHS}")
    published = Published(directory.path, [ServiceState(node=1, service="web", state="waiting")])
    running = Running(directory, note(), it, published, lambda _line: None)
    pauses = [running._restarts.ended(1, 0.0) for _ in range(DEATHS + 1)]
    assert pauses[-1] is None
    running._set(state, reason="ended")
    assert published.all["1/web"].hopeless
    getattr(running, do)()
    assert (published.all["1/web"].state, published.all["1/web"].hopeless) == ("starting", False)
    assert running._restarts.ended(1, 0.0) is not None


async def test_a_request_may_name_thousands_of_services(directory: LabDirectory) -> None:
    runner = service_runner.Runner(directory, note())
    keys = [f"{node}/a-service-of-mine" for node in range(1, 10_000)]
    assert len(json.dumps(keys)) > 3 * 64 * 1024
    with control_socket(directory.run, PART) as path:
        async with await runner.listen(path):
            with pytest.raises(NmError, match="there is no service 1/a-service-of-mine"):
                await requests.ask(directory, "restart", keys)
