"""Test that a node's token is valid for that node alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from orchestrator.controller import access
from orchestrator.protocol import MESSAGES, Admission, Frame, Message, PeerError, Refused, Role, node_token
from orchestrator.protocol import messages as m
from orchestrator.transport import connect

from .conftest import Start
from .fakes import NODE_KEY, FakeAgent, FakeProcess, ready_lab, settings, url

ADMISSION = Admission(NODE_KEY, "operator-token")


def token(node: int) -> str:
    return node_token(NODE_KEY, node)


def start_up(node: int, shown: str) -> Frame:
    return Frame(m.StartUp("lab", "h:1", token=shown), node)


def test_a_node_is_added_by_its_own_token_and_by_no_other() -> None:
    allowed = {1}
    access.check(ADMISSION, allowed, start_up(1, ""))
    access.check(ADMISSION, allowed, start_up(2, token(2)))
    assert allowed == {1, 2}
    for node, shown in [(3, ""), (3, token(1)), (3, NODE_KEY), (1, token(3)), (0, token(0))]:
        with pytest.raises(Refused) as caught:
            access.check(ADMISSION, allowed, start_up(node, shown))
        assert caught.value.id == "control.token"
    assert allowed == {1, 2}


def test_an_agent_proves_every_node_or_none() -> None:
    allowed = {1}
    with pytest.raises(Refused):
        hello = m.AgentHello((1, 2, 3), (), {2: token(2), 3: token(2)})
        access.check(ADMISSION, allowed, Frame(hello))
    assert allowed == {1}
    with pytest.raises(Refused) as caught:
        access.check(ADMISSION, allowed, Frame(m.AgentHello((1,), (m.RunningRole("r", 2),))))
    assert caught.value.id == "control.node"
    access.check(ADMISSION, allowed, Frame(m.AgentHello((1, 2), (), {1: token(1), 2: token(2)})))
    assert allowed == {1, 2}


def filled(cls: type[Message], node: int) -> Message:
    """Make a message whose `node`, if it has one, is this; its other fields do not matter."""
    message = object.__new__(cls)
    for each in fields(cls):
        plain: dict[Any, Any] = {str: "", int: 1, bool: True, float: 0.0}
        value = node if each.name == "node" else plain.get(get_type_hints(cls)[each.name], ())
        object.__setattr__(message, each.name, {} if each.name == "tokens" else value)
    return message


@pytest.mark.parametrize(
    "cls",
    [cls for cls in MESSAGES.values() if {Role.NODE, Role.AGENT} & cls.SENDERS],
    ids=lambda cls: cls.__name__,
)
def test_no_message_passes_in_another_nodes_name(cls: type[Message]) -> None:
    with pytest.raises(Refused):
        access.check(ADMISSION, {1}, Frame(filled(cls, 2), 2))
    if "node" in {each.name for each in fields(cls)}:
        with pytest.raises(Refused) as caught:
            access.check(ADMISSION, {1}, Frame(filled(cls, 2), 1))
        assert caught.value.id == "control.node"


@pytest.mark.integration
async def test_a_node_cannot_register_or_speak_as_another(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 2))
    victim = FakeProcess([2], 7)
    await victim.join(url(controller))
    async with await connect(url(controller), token(1), "node", node=1) as spoofing:
        for message, error in [
            (m.StartUp("lab", "h:1"), "control.token"),
            (m.StartUp("lab", "h:1", token=token(1)), "control.token"),
            (m.LinkState(1, False, "cut"), "control.node"),
            (m.NodeEvent("node.ready", {}), "control.node"),
            (m.CreateGroup("mine"), "control.node"),
            (m.Metrics(1, (0,) * m.TOTALS), "control.node"),
            (m.Goodbye("farewell"), "control.node"),
        ]:
            with pytest.raises(PeerError) as caught:
                await spoofing.request(message, node=2, within=5)
            assert caught.value.id == error, message.type
    assert controller.core.lab.registry.node(2).peer is not None
    events, _ = controller.core.events.recent(0, 1000) or ([], False)
    assert not any(event.name == "node.stopped" for event in events)


@pytest.mark.integration
async def test_an_agent_cannot_report_for_another_node(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 2))
    await ready_lab(controller, [FakeProcess([1, 2], 7)])
    async with await connect(url(controller), token(1), "agent", node=1) as spoofing:
        for message, error in [
            (m.AgentHello((1, 2)), "control.token"),
            (m.AgentHello((2,), (), {2: token(1)}), "control.token"),
            (m.AgentHello((1,), (m.RunningRole("r", 2),)), "control.node"),
            (m.RoleReport("r", 2, "x", 1, {}), "control.node"),
            (m.RoleFinished("r", 2, "x", True), "control.node"),
            (m.BarrierEnter("r", 2, "go", 1), "control.node"),
            (m.Publish("r", 2, "key", 1), "control.node"),
            (m.Lookup("r", 2, "key"), "control.node"),
        ]:
            for header in (0, 1, 2):
                with pytest.raises(PeerError) as caught:
                    await spoofing.request(message, node=header, within=5)
                assert caught.value.id in (error, "control.node"), message.type
    valid = FakeAgent([1, 2], lambda agent, role: None)
    await valid.join(url(controller))
