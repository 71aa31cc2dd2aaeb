"""Test the agent handler with a manual clock and a recording store."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from orchestrator.clock import ManualClock
from orchestrator.controller.agent_handler import AGENT_LIMIT_S, AgentHandler
from orchestrator.controller.core import Core, Session
from orchestrator.controller.events import KEEP, MAX_FACTS_BYTES, EventLog
from orchestrator.controller.groups import Groups
from orchestrator.controller.lab import Lab
from orchestrator.controller.logs import BURST_BYTES, BYTES_PER_S, LINE_BYTES, LogLimit
from orchestrator.controller.operator_handler import OperatorHandler
from orchestrator.controller.registry import Node, NodeStates, Registry
from orchestrator.controller.runs import AGENT_GRACE_MS, STOP_GRACE_MS
from orchestrator.protocol import Frame, Peer, Role
from orchestrator.protocol import messages as m
from orchestrator.store import RunRow

from .fakes import settings

NODES = 3


class Connection:
    """A connection that is only looked at."""

    ended = None

    def __init__(self) -> None:
        self.sent: list[m.Message] = []

    def send_nowait(self, message: m.Message, node: int = 0) -> None:
        self.sent.append(message)

    def ask(self, message: m.Message, replied: object, node: int = 0) -> None:
        self.sent.append(message)

    def ack(self, frame: Frame, value: object = None) -> None:
        pass


class HandlerFixture:
    """An agents' handler of a lab whose nodes are all there."""

    def __init__(self, clock: ManualClock) -> None:
        nodes = [Node(number, f"node-{number}", {}) for number in range(1, NODES + 1)]
        self.store = MagicMock(flushed=AsyncMock(), stored=AsyncMock(), problems=())
        lab = Lab(Registry(nodes), Groups(), was_ready=True)
        events = EventLog("ring", self.store, clock)
        self.core = Core(settings({}, NODES), lab, self.store, events, clock)
        self.agents = AgentHandler(self.core)
        self.operators = OperatorHandler(self.core, self.agents)
        self.connection = Connection()
        self.host = Session(self.connection, Peer(Role.NODE, "nm", 7, 1))  # type: ignore[arg-type]  # a fake
        for node in nodes:
            node.peer, node.state = self.host, NodeStates.READY

    def join(self, *nodes: int) -> Session:
        """An agent comes."""
        agent = Session(Connection(), Peer(Role.AGENT, "nm", 7, 1))  # type: ignore[arg-type]
        self.agents.take(agent, Frame(m.AgentHello(nodes)))
        return agent

    def start(self, timeout_s: float) -> RunRow:
        """Start a run; return what is written of it."""
        self.agents.start(m.StartRun("r1", "hello", {"a": (1,)}, {}, {}, 7, timeout_s))
        row: RunRow = self.store.runs.begin.call_args.args[0]
        return row

    def tick(self) -> str:
        """Let time limits have their effect; return why the run is stopped."""
        self.agents.runs.tick(self.core.now_ms())
        return self.agents.runs.run("r1").reason

    def states(self) -> list[str]:
        """What `nm status` shows of the lab and of its nodes."""
        shown = self.operators.status()
        return [shown.state, *(node.state for node in shown.nodes)]


def test_a_run_may_log_so_much_at_once_and_so_much_for_ever() -> None:
    clock = ManualClock()
    limit = LogLimit(clock)
    line = 1000 - LINE_BYTES
    taken = [limit.take(line) for _ in range(BURST_BYTES // 1000 + 500)]
    assert taken.count(0) == BURST_BYTES // 1000
    assert taken[BURST_BYTES // 1000 :] == [None] * 500
    clock.advance(1.0)
    again = [limit.take(line) for _ in range(BYTES_PER_S // 1000 + 100)]
    assert again[0] == 500, "how many were left out is said with the first that is not"
    assert set(again[1 : BYTES_PER_S // 1000]) == {0} and again[-1] is None
    clock.advance(3600)
    assert sum(limit.take(line) is not None for _ in range(20_000)) == BURST_BYTES // 1000


async def test_a_line_left_out_of_a_runs_log_is_counted_in_it() -> None:
    clock = ManualClock()
    handler = HandlerFixture(clock)
    agent = handler.join(1)
    handler.start(60)

    def log(lines: int) -> list[Any]:
        before = handler.store.runs.event.call_count
        for number in range(lines):
            text = f"{number} " + "x" * 10_000
            handler.agents.take(agent, Frame(m.RoleLog("r1", 1, "info", text)))
        return [call.args[-1] for call in handler.store.runs.event.call_args_list[before:]]

    kept = log(2_000)
    assert 0 < sum(len(each["text"]) for each in kept) <= BURST_BYTES
    clock.advance(1.0)
    said, line = log(1)
    assert said["text"].startswith(f"{2_000 - len(kept)} lines of the run's log were left out here")
    assert line["text"].startswith("0 x")


def test_events_of_a_lab_are_bounded_in_memory_and_in_size() -> None:
    store = MagicMock()
    events = EventLog("ring", store, ManualClock())
    for number in range(KEEP + 100):
        events.add("test.ping", 1, {"n": number}, level="debug")
    assert store.history.event.call_count == KEEP + 100
    assert events.recent(0, 10) is None, "what is no longer in memory is asked of Postgres"
    found = events.recent(100, 2 * KEEP)
    assert found is not None and len(found[0]) == KEEP and not found[1]
    for value in ("x" * 2 * MAX_FACTS_BYTES, _nested(500), "\ud800", 2**70):
        events.add("test.large", 1, {"value": value}, level="debug")
        assert store.history.event.call_args.args[0].detail.keys() == {"left_out"}


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("wall_jump_s", [-86_400.0, 0.0, 86_400.0])
async def test_a_run_that_is_restored_has_the_time_that_is_left(wall_jump_s: float) -> None:
    clock = ManualClock(monotonic=1_000.0)
    handler = HandlerFixture(clock)
    handler.join(1)
    row = handler.start(60)
    clock.advance(25)  # the controller is killed, and comes back
    clock._wall += wall_jump_s
    after = HandlerFixture(clock)
    after.join(1)
    after.agents.restore(row, {})
    assert after.agents.runs.next_due() == after.core.now_ms() + 35_000
    clock.advance(34.9)
    assert after.tick() == ""
    clock.advance(0.2)
    assert "did not end within 60 s" in after.tick()


async def test_a_run_that_is_restored_after_its_time_ends_at_once() -> None:
    clock = ManualClock()
    handler = HandlerFixture(clock)
    handler.join(1)
    row = handler.start(60)
    clock.advance(61)
    after = HandlerFixture(clock)
    after.agents.restore(row, {})
    assert "did not end within 60 s" in after.tick()


@pytest.mark.parametrize(("off_s", "left_s"), [(25.0, 35), (-3_600.0, 60)])
async def test_after_a_boot_the_wall_clock_says_how_much_time_is_left(off_s: float, left_s: int) -> None:
    clock = ManualClock(monotonic=1_000.0)
    handler = HandlerFixture(clock)
    handler.join(1)
    row = handler.start(60)
    booted = ManualClock(monotonic=3.0, wall=clock.wall() + off_s)
    after = HandlerFixture(booted)
    after.join(1)
    after.agents._boot = "another boot"
    after.agents.restore(row, {})
    assert after.agents.runs.next_due() == after.core.now_ms() + left_s * 1_000


async def test_a_node_whose_agent_is_called_and_does_not_come_is_degraded() -> None:
    clock = ManualClock()
    handler = HandlerFixture(clock)
    handler.agents.call([2])
    assert [type(each) for each in handler.connection.sent] == [m.AgentWanted]
    clock.advance(AGENT_LIMIT_S)
    assert handler.states() == ["ready"] * 4
    clock.advance(0.1)
    assert handler.states() == ["degraded", "ready", "degraded", "ready"]
    assert "was requested and has not connected" in handler.operators.status().nodes[1].why
    handler.join(1, 2, 3)
    assert handler.states() == ["ready"] * 4


async def test_a_node_whose_agent_goes_and_does_not_come_back_is_degraded() -> None:
    clock = ManualClock()
    handler = HandlerFixture(clock)
    agent = handler.join(1, 2, 3)
    handler.agents.lost(agent)
    clock.advance(AGENT_GRACE_MS / 1000 - 0.1)
    handler.agents.runs.tick(handler.core.now_ms())
    assert handler.states() == ["ready"] * 4
    clock.advance(0.2)
    handler.agents.runs.tick(handler.core.now_ms())
    assert handler.states() == ["degraded"] * 4
    assert "ended and did not reconnect" in handler.operators.status().nodes[0].why
    handler.join(1, 2, 3)
    assert handler.states() == ["ready"] * 4


async def test_a_node_whose_agent_does_not_say_what_became_of_its_role_is_degraded() -> None:
    clock = ManualClock()
    handler = HandlerFixture(clock)
    agent = handler.join(1)
    handler.start(60)
    clock.advance(60)
    handler.tick()
    clock.advance(STOP_GRACE_MS / 1000)
    assert "did not end within 60 s" in handler.tick()
    assert handler.states() == ["degraded", "degraded", "ready", "ready"]
    assert "has not reported its end" in handler.operators.status().nodes[0].why
    handler.agents.runs.finished(
        "r1", 1, ok=False, error="late", traceback=None, now_ms=handler.core.now_ms()
    )
    assert handler.states() == ["ready"] * 4
    handler.agents.runs.agents_silent.add(1)
    handler.agents.lost(agent)
    handler.join(1)
    assert handler.states() == ["ready"] * 4
