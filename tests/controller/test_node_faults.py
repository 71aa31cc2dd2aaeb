"""Test nodes that are stopped, started, paused and resumed by request, in a controller without packets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller import node_actions
from orchestrator.controller.registry import Wanted
from orchestrator.controller.service import Controller
from orchestrator.node_states import STATE_FILE
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import ControllerSettings
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

Database = dict[str, Any]
pytestmark = pytest.mark.integration


async def test_a_killed_node_loses_its_links_and_routes_at_once_and_gets_them_back(
    start: Start, database: Database
) -> None:
    controller, host, second, asking = await lab(start, database)
    await host.request(1, m.CreateGroup("w"))
    await second.request(2, m.JoinGroup(1))
    assert host.nodes[1].hop(2) == 2
    assert await ask(asking, m.NodeFault((2,), "kill")) == {"changed": [2], "already": []}
    await host.until(lambda: 2 not in host.nodes[1].links and host.nodes[1].hop(3) == 4)
    assert host.nodes[1].hop(2) == 0  # before it has ended
    await second.die()
    await ask(asking, m.WaitNodes((2,), 5000))
    seen = controller.operators.status()
    assert (seen.state, seen.nodes[1].state, seen.health) == ("ready", "stopped", "ok")
    assert {(x.a, x.b): (x.state, x.reason) for x in seen.links if x.state != "up"} == {
        (1, 2): ("down", "node 2 is stopped"),
        (2, 3): ("down", "node 2 is stopped"),
    }
    assert await ask(asking, m.NodeFault((2,), "stop")) == {"changed": [], "already": [2]}
    assert host.nodes[1].states[2] == "stopped"
    # It has no business coming back.
    second.forget()
    with pytest.raises(PeerError, match="node 2 is stopped by request"):
        await register(controller, 2)
    await ask(asking, m.NodeFault((2,), "start"))
    await second.join(url(controller))
    await ask(asking, m.WaitNodes((2,), 5000))
    await host.until(lambda: host.nodes[1].hop(2) == 2)
    assert second.nodes[2].hop(1) == 1 and set(second.nodes[2].links) == {1, 3}
    assert controller.core.lab.groups.group(1).members == {2} and 1 in second.nodes[2].trees
    assert second.nodes[2].members == [m.MemberChanged(1, 2, True)]
    assert [(name, cause) for name, _, cause in await events(asking)] == [
        ("node.killed", "operator"),
        ("node.started", "operator"),
    ]


async def test_a_restarted_controller_still_does_not_wait_for_a_stopped_node(
    start: Start, database: Database
) -> None:
    controller, host, second, asking = await lab(start, database)
    await ask(asking, m.NodeFault((2,), "stop", "a test"))
    await second.die()
    await ask(asking, m.WaitNodes((2,), 5000))
    await controller.stop()
    await host.die()
    controller = await start(settings(database, 4))
    await host.join(url(controller))
    await controller.core.wait_until(controller.core.lab.readiness.is_settled, 5)
    seen = controller.operators.status()
    assert (seen.state, seen.nodes[1].state) == ("ready", "stopped")
    assert host.nodes[1].hop(3) == 4


async def test_a_paused_node_keeps_links_and_routes_though_its_connection_ends(
    start: Start, database: Database
) -> None:
    controller, host, second, asking = await lab(start, database)
    await ask(asking, m.NodeFault((2,), "pause"))
    await second.die()
    await ask(asking, m.WaitNodes((2,), 5000))
    # A change of the paused node's links is not waited for.
    assert (await ask(asking, m.SetLinkState(2, 3, True, "forward")))["down"] == "forward"
    await ask(asking, m.SetLinkState(2, 3, False))
    seen = controller.operators.status()
    assert (seen.state, seen.nodes[1].state) == ("ready", "paused")
    assert host.nodes[1].hop(2) == 2 and host.nodes[1].links[2]
    await ask(asking, m.NodeFault((2,), "unpause"))
    with pytest.raises(PeerError, match=r"node 2 is not ready after 0\.1 s: it has not come back"):
        await ask(asking, m.WaitNodes((2,), 100))
    await second.join(url(controller))
    await ask(asking, m.WaitNodes((2,), 5000))
    assert controller.operators.status().state == "ready"


@pytest.mark.parametrize(
    ("before", "do", "id", "says"),
    [
        ("pause", "start", "node.paused", "node 2 is paused, not stopped"),
        ("kill", "pause", "node.stopped", "node 2 is stopped"),
        ("kill", "unpause", "node.stopped", "node 2 is stopped, not paused"),
        ("", "explode", "node.fault", "`explode` is nothing that is done to a node"),
    ],
)
async def test_what_cannot_be_done_to_one_node_changes_none(
    start: Start, database: Database, before: str, do: str, id: str, says: str
) -> None:
    controller, _, _, asking = await lab(start, database)
    if before:
        await ask(asking, m.NodeFault((2,), before))
    wanted = [node.wanted for node in controller.core.lab.registry]
    with pytest.raises(PeerError, match=says) as caught:
        await ask(asking, m.NodeFault((2, 1), do))
    assert caught.value.id == id
    assert [node.wanted for node in controller.core.lab.registry] == wanted


async def test_a_lab_that_another_command_holds_stays_as_it_is(
    start: Start, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that acts on the processes says so before anything is recorded."""
    monkeypatch.setattr(node_actions, "PROGRAM", "tests.controller.busy_program")
    (tmp_path / STATE_FILE).touch()
    file = replace(settings(database, 4), path=str(tmp_path / "run" / "controller.toml"))
    controller, host, _, asking = await lab(start, database, file)
    with pytest.raises(PeerError, match="nothing was changed: lab ring is held by `nm up`") as caught:
        await ask(asking, m.NodeFault((2,), "stop", act=True))
    assert caught.value.id == "node.not-done"
    assert {node.wanted for node in controller.core.lab.registry} == {Wanted.RUNNING}
    assert host.nodes[1].hop(2) == 2 and await events(asking) == []


@pytest.mark.parametrize(
    ("do", "id", "hint"),
    [("kill", "node.stopped", "`nm node start 2`"), ("pause", "node.paused", "`nm node unpause 2`")],
)
async def test_no_run_is_started_with_a_node_that_is_stopped_or_paused(
    start: Start, database: Database, do: str, id: str, hint: str
) -> None:
    controller, _, _, asking = await lab(start, database)
    await ask(asking, m.NodeFault((2,), do))
    state = id.partition(".")[2]
    with pytest.raises(PeerError, match=f"node 2, which plays the role b, is {state} by request") as caught:
        await ask(asking, m.StartRun("r1", "hello", {"a": (1,), "b": (3, 2)}, {}, {}, 7, 60.0))
    assert (caught.value.id, caught.value.hint) == (id, hint)
    assert "r1" not in controller.agents.streams
    with pytest.raises(PeerError, match="no agent runs roles in the nodes 1, 3"):
        await ask(asking, m.StartRun("r1", "hello", {"a": (1,), "b": (3,)}, {}, {}, 7, 60.0))


async def test_a_start_can_be_repeated_while_the_node_has_not_come_back(
    start: Start, database: Database
) -> None:
    controller, _, second, asking = await lab(start, database)
    await ask(asking, m.NodeFault((2,), "kill"))
    await second.die()
    await ask(asking, m.WaitNodes((2,), 5000))
    assert await ask(asking, m.NodeFault((2,), "start")) == {"changed": [2], "already": []}
    assert await ask(asking, m.NodeFault((2,), "start")) == {"changed": [], "already": [2]}
    seen = controller.operators.status()
    assert (seen.state, seen.nodes[1].state) == ("degraded", "starting")  # so that `nm up` waits for it
    with pytest.raises(PeerError, match=r"node 2 is not ready after 0\.1 s"):
        await ask(asking, m.WaitNodes((2,), 100))
    second.forget()
    await second.join(url(controller))
    await ask(asking, m.WaitNodes((2,), 5000))


async def test_unknown_nodes_and_none_are_refused(start: Start, database: Database) -> None:
    _, _, _, asking = await lab(start, database)
    with pytest.raises(PeerError, match="there is no node 9"):
        await ask(asking, m.NodeFault((1, 9), "kill"))
    with pytest.raises(PeerError, match="no node is named"):
        await ask(asking, m.NodeFault((), "kill"))


async def lab(
    start: Start, database: Database, file: ControllerSettings | None = None
) -> tuple[Controller, FakeProcess, FakeProcess, Connection]:
    """Return a ring of four that is ready, whose node 2 is a process of its own, and an operator."""
    controller = await start(file or settings(database, 4))
    host, second = FakeProcess([1, 3, 4], 7), FakeProcess([2], 8)
    await ready_lab(controller, [host, second])
    return controller, host, second, await connect(url(controller), OPERATOR_TOKEN, "operator")


async def ask(connection: Connection, message: m.Message) -> Any:
    reply = await connection.request(message, within=10)
    assert isinstance(reply, m.Ack)
    return reply.value


async def register(controller: Controller, node: int) -> None:
    """Register a node on a connection of its own, and end it."""
    from orchestrator.protocol import Role
    from orchestrator.protocol.tokens import node_token

    from .fakes import NODE_KEY

    token = node_token(NODE_KEY, node)
    connection = await connect(url(controller), token, Role.NODE, process=99, node=node)
    try:
        await connection.request(m.StartUp("lab", "10.1.0.2:1", process=99, token=token), node=node, within=5)
    finally:
        await connection.close(grace=0)
        await asyncio.sleep(0)


async def events(connection: Connection) -> list[tuple[str, int, str]]:
    """Return the events about node faults: name, node and cause."""
    reply = await connection.request(m.GetEvents(), within=10)
    assert isinstance(reply, m.Events)
    named = ("node.killed", "node.stopped", "node.started", "node.paused", "node.unpaused")
    return [
        (event.name, event.node, event.detail["cause"])
        for event in reply.events
        if event.name in named and isinstance(event.detail, dict)
    ]
