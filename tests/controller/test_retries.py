"""Test the back-off of refused commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.controller import retries
from orchestrator.controller.groups import Groups
from orchestrator.controller.lab import Lab
from orchestrator.controller.registry import Link, Node, Registry
from orchestrator.controller.retries import FIRST_DELAY_S, MAX_DELAY_S, Retries
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import Message
from orchestrator.protocol import messages as m
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url


class FakeTimer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """Timers that go off when they are told to."""

    def __init__(self) -> None:
        self.all: list[FakeTimer] = []

    def later(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        self.all.append(FakeTimer(seconds, call))
        return self.all[-1]

    def fire(self) -> float:
        """Let the only one go off, and return how long it waited."""
        [timer] = [timer for timer in self.all if not timer.cancelled]
        self.all.clear()
        timer.call()
        return timer.seconds


def test_waits_double_up_to_the_longest_and_begin_anew_with_another_version() -> None:
    timers, told = FakeTimers(), list[int]()
    waiting = Retries(told.append, later=timers.later, draw=lambda low, high: high)
    waits = []
    for _ in range(7):
        waiting.refused(4, "link 1", 70)
        waiting.refused(4, "link 2", 80)
        waits.append(timers.fire())
    assert waits == [FIRST_DELAY_S, 2, 4, 8, 16, MAX_DELAY_S, MAX_DELAY_S] and told == [4] * 7
    waiting.refused(4, "link 1", 70)
    waiting.refused(4, "link 2", 81)
    assert timers.fire() == FIRST_DELAY_S
    waiting.refused(4, "link 1", 70)
    waiting.done(4, "link 1")
    assert not any(timer.cancelled for timer in timers.all), "the other is still refused"
    waiting.done(4, "link 2")
    assert all(timer.cancelled for timer in timers.all)


def test_what_is_refused_again_when_it_is_repeated_is_known_until_it_succeeds_or_changes() -> None:
    timers = FakeTimers()
    waiting = Retries(lambda _node: None, later=timers.later)
    for about in ("link 1", "link 2"):
        waiting.refused(4, about, 70)
    waiting.refused(4, "link 1", 70)
    assert waiting.refused_again(4) == frozenset(), "it was not repeated yet"
    timers.fire()
    for about in ("link 1", "link 2"):
        waiting.refused(4, about, 70)
    assert waiting.refused_again(4) == {"link 1", "link 2"}
    waiting.done(4, "link 1")
    assert waiting.refused_again(4) == {"link 2"}
    waiting.refused(4, "link 2", 71)
    assert waiting.refused_again(4) == frozenset()
    assert waiting.refused_again(5) == frozenset()


def test_waits_are_drawn_and_nothing_is_left_of_a_node_that_registers() -> None:
    timers, told = FakeTimers(), list[int]()
    waiting = Retries(told.append, later=timers.later)
    for node_id in range(100):
        waiting.refused(node_id, "InstallRoutes", 1)
    waits = {timer.seconds for timer in timers.all}
    assert len(waits) > 90 and min(waits) >= FIRST_DELAY_S / 2 and max(waits) <= FIRST_DELAY_S
    waiting.forget(5)
    waiting.close()
    assert len(timers.all) == 100 and all(timer.cancelled for timer in timers.all)


def test_a_change_that_was_refused_is_told_as_a_change_and_the_link_stays_up() -> None:
    lab = Lab(Registry([Node(1, "n1"), Node(2, "n2")], [Link(1, 2)]), Groups("239.255.0.0", "255.255.0.0"))
    for number in (1, 2):
        lab.register(number, m.StartUp("lab", f"h:{number}", process=number), "peer")
    node = lab.registry.node(2)
    [add] = [message for message in lab.flush()[2] if isinstance(message, m.AddNode)]
    lab.confirmed(node, add)
    lab.link_state(2, 1, True, "tcp")
    lab.set_link(1, 2, LinkSpec(rate_bps=1000), to_end=1)
    [change] = lab.flush()[2]
    assert lab.refused(node, change, "busy") and not lab.refused(node, change, "busy"), "a change once"
    assert lab.flush() == {}
    lab.resend(2)
    assert lab.flush() == {2: [change]} and 1 in node.links_up
    lab.refused(node, add, "no room")
    lab.refused(node, change, "there is no link")
    lab.resend(2)
    assert [message.type for message in lab.flush()[2]] == ["AddNode"], "there is nothing to change"


@pytest.mark.integration
@pytest.mark.parametrize("kind", [m.SetLink, m.InstallGroupDirectory])
async def test_a_command_that_was_refused_is_sent_again_until_it_succeeds(
    start: Start, database: dict[str, Any], kind: type[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_DELAY_S", 0.02)
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    left = 4

    def refuse(message: Message) -> bool:
        nonlocal left
        left -= isinstance(message, kind)
        return isinstance(message, kind) and left >= 0

    host.refuse = refuse
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    if kind is m.SetLink:
        await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(rate_bps=1000)), within=30)
    else:
        await host.request(1, m.CreateGroup("g"))
    await host.until(lambda: left < 0 and bool(kind is m.SetLink or host.nodes[2].groups))
    lab = controller.core.lab
    assert await controller.core.wait_until(lambda: not lab.problems, 10)
    assert lab.readiness.is_complete()
    seen = await asking.request(m.GetStatus(), within=10)
    assert isinstance(seen, m.Status) and seen.health == "ok" and seen.problems == ()
    events, _ = controller.core.events.recent(0, 1000) or ([], False)
    assert len([event for event in events if event.name == "node.refused"]) <= 2, "one event for each node"
