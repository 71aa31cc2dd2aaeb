"""Test that refused commands are sent again, and shown as problems until they succeed."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.controller import link_states
from orchestrator.controller.groups import Groups
from orchestrator.controller.lab import Lab
from orchestrator.controller.registry import Link, Node, Registry
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import Frame, Message, PeerError, encode
from orchestrator.protocol import messages as m
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url


def lab_of_two() -> Lab:
    nodes = [Node(1, "n1"), Node(2, "n2")]
    lab = Lab(Registry(nodes, [Link(1, 2)]), Groups("239.255.0.0", "255.255.0.0"))
    for number in (1, 2):
        lab.register(number, m.StartUp("lab", f"h:{number}", process=number), "peer")
    return lab


def told(lab: Lab, kind: type[Message]) -> list[Message]:
    return [message for message in lab.flush().get(2, []) if isinstance(message, kind)]


def test_a_link_that_was_refused_is_sent_again_and_the_problem_goes_with_its_success() -> None:
    lab = lab_of_two()
    node = lab.registry.node(2)
    [add] = told(lab, m.AddNode)
    lab.refused(node, add, "no room")
    assert lab.problems == {"node 2": "node 2: AddNode was refused: no room"}
    assert link_states.reason_of(lab.registry, lab.registry.link(1, 2)) == "AddNode was refused: no room"
    lab.set_link(1, 2, LinkSpec(rate_bps=1000), to_end=1)
    [again] = told(lab, m.AddNode)
    lab.confirmed(node, again)
    assert lab.problems == {} and node.sent_state.links_confirmed[1] == again.version


def test_a_late_answer_confirms_nothing_that_was_changed_since() -> None:
    lab = lab_of_two()
    node = lab.registry.node(2)
    [add] = told(lab, m.AddNode)
    lab.set_link(1, 2, LinkSpec(rate_bps=1000), to_end=1)
    [_] = told(lab, m.SetLink)
    lab.confirmed(node, add)
    assert 1 not in node.sent_state.links_confirmed


def test_an_old_confirmation_of_the_same_link_does_not_count() -> None:
    lab = lab_of_two()
    node = lab.registry.node(2)
    [add] = told(lab, m.AddNode)
    lab.confirmed(node, add)
    lab.set_link(1, 2, LinkSpec(rate_bps=1000), to_end=1)
    [_] = told(lab, m.SetLink)
    lab.set_link(1, 2, None, to_end=1)
    [back] = told(lab, m.SetLink)
    assert isinstance(add, m.AddNode) and isinstance(back, m.SetLink) and back.version == add.version
    assert 1 not in node.sent_state.links_confirmed
    lab.confirmed(node, back)
    assert node.sent_state.links_confirmed[1] == back.version


def test_an_old_confirmation_of_the_same_routes_does_not_count() -> None:
    lab = lab_of_two()
    node, link = lab.registry.node(2), lab.registry.link(1, 2)
    [first] = told(lab, m.InstallRoutes)
    lab.confirmed(node, first)
    for down in (True, False):
        for start in (1, 2):
            lab.take_down(link, start, down=down)
        [again] = told(lab, m.InstallRoutes)
    assert isinstance(first, m.InstallRoutes) and isinstance(again, m.InstallRoutes)
    assert again.version == first.version and node.sent_state.routes_confirmed is None
    lab.confirmed(node, again)
    assert node.sent_state.routes_confirmed == first.version


def test_a_link_is_removed_when_the_last_removal_is_confirmed() -> None:
    lab = lab_of_two()
    node, link = lab.registry.node(2), lab.registry.link(1, 2)
    lab.flush()
    removals = []
    for down in (True, False, True):
        for start in (1, 2):
            lab.take_down(link, start, down=down)
        removals += told(lab, m.RemoveNode)
    first, last = removals
    lab.confirmed(node, first)
    assert 1 in node.sent_state.removing
    lab.refused(node, last, "busy")
    assert 1 not in node.sent_state.removing and 1 in node.sent_state.links  # it is sent once more
    lab.resend(2)
    [once_more] = told(lab, m.RemoveNode)
    assert 1 in node.sent_state.removing
    lab.confirmed(node, once_more)
    assert not node.sent_state.removing and not node.sent_state.links


def test_routes_that_were_refused_are_sent_in_full() -> None:
    lab = lab_of_two()
    node = lab.registry.node(2)
    [install] = told(lab, m.InstallRoutes)
    assert isinstance(install, m.InstallRoutes) and install.reset
    lab.refused(node, install, "no")
    assert not lab.has_changes, "the whole was refused: the same again would be as well"
    part = m.InstallRoutes(9)
    node.sent_state.routes_version = 9
    lab.refused(node, part, "no")
    [again] = told(lab, m.InstallRoutes)
    assert isinstance(again, m.InstallRoutes) and again.reset and again.table == install.table


def test_the_reason_of_a_link_is_what_its_node_waits_for() -> None:
    lab = lab_of_two()
    lab.flush()
    reason = '"far:1" cannot be resolved: no answer within 5000 ms'
    assert lab.link_state(2, 1, False, "", reason), "a new reason is a change"
    assert not lab.link_state(2, 1, False, "", reason)
    assert link_states.reason_of(lab.registry, lab.registry.link(1, 2)) == reason
    node = lab.registry.node(2)
    node.sent_state.routes_confirmed = node.sent_state.routes_version
    assert lab.readiness.missing(node) == f"its link to 1 is not set up: {reason}"
    lab.link_state(2, 1, True, "tcp")
    lab.link_state(1, 2, True, "tcp")
    assert link_states.reason_of(lab.registry, lab.registry.link(1, 2)) == ""


@pytest.mark.integration
async def test_a_node_that_could_not_do_as_told_after_the_start_is_named(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    host.refuse = lambda message: isinstance(message, m.SetLink | m.AddNode)
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    with pytest.raises(PeerError):
        await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(rate_bps=1000)), within=30)
    seen = await asking.request(m.GetStatus(), within=10)
    assert isinstance(seen, m.Status) and seen.health == "degraded"
    assert any("was refused" in problem for problem in seen.problems)
    assert "was refused" in seen.links[0].reason


@pytest.mark.integration
async def test_waiting_for_a_lab_ends_when_a_node_refuses_the_same_again(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    host.refuse = lambda message: isinstance(message, m.AddNode)
    await host.join(url(controller))
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    with pytest.raises(PeerError) as caught:
        await asking.request(m.WaitReady(30_000), within=40)
    assert caught.value.id == "lab.not-ready"
    assert ": AddNode was refused: " in caught.value.message
    assert "after 30 s" not in caught.value.message
    host.refuse = lambda _message: False
    core = controller.core
    assert await core.wait_until(lambda: not any(node.problems for node in core.lab.registry), 15)
    answer = await asking.request(m.WaitReady(30_000), within=40)
    assert isinstance(answer, m.Status) and answer.state == "ready"


@pytest.mark.integration
async def test_a_node_cannot_send_controller_messages(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    for name in ("lab.ready", "node.stopped", "run.finished", "controller.stopped"):
        with pytest.raises(PeerError) as caught:
            await host.request(1, m.NodeEvent(name, {}))
        assert caught.value.id == "control.refused"
    await host.request(1, m.NodeEvent("offload.fallback", {}))
    events, _ = controller.core.events.recent(0, 1000) or ([], False)
    assert [event.node for event in events if event.name == "offload.fallback"] == [1]
    assert encode(Frame(m.LinkState(2, False, "x" * 10_000)))  # long reasons are cut, not refused
    await host.request(1, m.LinkState(2, False, "x" * 10_000))
    assert len(controller.core.lab.registry.node(1).links_down[2]) == 300
