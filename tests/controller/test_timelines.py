"""Test when the changes of a timeline are made, what is recorded, and how links return at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from orchestrator.clock import ManualClock
from orchestrator.controller.errors import LinkNotApplied, LinkNotStored
from orchestrator.controller.run import Role, Run
from orchestrator.controller.timeline_nodes import NODE_LIMIT_S
from orchestrator.controller.timelines import Timelines
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import Message
from orchestrator.protocol import messages as m

SLOW = LinkSpec(delay_us=80_000)
CHANGES = (
    m.TimelineChange(1_000_000, "set", 2, 1, "forward", SLOW, cause="timeline of hello"),
    m.TimelineChange(1_000_000, "down", 2, 3),
    m.TimelineChange(2_500_000, "partition", groups=((1, 2), (3, 4))),
    m.TimelineChange(4_000_000, "reset", cause="timeline of hello"),
)


async def test_changes_are_made_at_their_times_from_the_start_of_the_last_role(lab: FakeLab) -> None:
    run = lab.begin(CHANGES)
    lab.role_started(run, 1)
    await lab.advance(5.0)
    assert lab.made == []  # the role of node 2 has not started
    lab.role_started(run, 2)
    assert lab.made == []
    await lab.advance(1.0)
    assert lab.made == [
        m.SetLinkSpec(2, 1, "forward", SLOW, merge=True, cause="timeline of hello"),
        m.SetLinkState(2, 3, True, cause=""),
    ]
    await lab.advance(3.0)
    assert lab.made[2:] == [m.Partition(((1, 2), (3, 4)), ""), m.ResetLinks("timeline of hello")]
    kinds = ["timeline_planned", "timeline_started", *["timeline"] * 2, "timeline_partition"]
    assert [kind for kind, _ in lab.events] == [*kinds, "timeline", "timeline"]
    assert [(data["at_s"], data["sent_s"], data["late_ms"]) for data in lab.happened()] == [
        (1.0, 1.0, 0.0),
        (1.0, 1.0, 0.0),
        (2.5, 2.5, 0.0),
        (4.0, 4.0, 0.0),
    ]
    assert all(data["ok"] and data["applied_s"] >= data["sent_s"] for data in lab.happened())


async def test_a_change_that_is_made_late_says_by_how_much(lab: FakeLab) -> None:
    run = lab.begin(CHANGES[:1], started=True)
    lab.clock.advance(1.25)
    await lab.advance(0.0)
    (data,) = lab.happened()
    assert (data["late_ms"], data["index"], data["where"]) == (250.0, 0, "2 → 1")
    assert data["change"]["spec"] == {"delay_us": 80_000} and run.state == "running"


async def test_a_change_that_is_not_confirmed_does_not_delay_the_next(lab: FakeLab) -> None:
    lab.begin(CHANGES, started=True)
    lab.hold = asyncio.Event()
    await lab.advance(4.0)
    assert len(lab.made) == 4 and lab.happened() == []
    lab.hold.set()
    await lab.settle()
    assert len(lab.happened()) == 4


async def test_a_change_that_cannot_be_made_stops_the_run(lab: FakeLab) -> None:
    lab.begin(CHANGES[1:2], started=True)
    lab.failure = LinkNotApplied("the link 2–3 was changed, but node 3 has not confirmed it")
    await lab.advance(1.0)
    (reason,) = lab.stopped
    assert reason.startswith(
        "the timeline's `down` of 2–3 at 1 s failed: the link 2–3 was changed, but node 3"
    )
    assert not lab.happened()[0]["ok"] and "node 3" in lab.happened()[0]["error"]


async def test_a_change_that_is_in_force_and_not_stored_is_only_noted(lab: FakeLab) -> None:
    lab.begin(CHANGES[:1], started=True)
    lab.failure = LinkNotStored("not stored")
    await lab.advance(1.0)
    assert lab.stopped == [] and lab.happened()[0]["note"] == "not stored" and lab.happened()[0]["ok"]


async def test_at_the_end_the_rest_is_left_out_and_links_that_were_changed_are_reset(lab: FakeLab) -> None:
    run = lab.begin(CHANGES, started=True)
    await lab.advance(3.0)
    lab.made.clear()
    lab.changed = [(1, 2), (1, 4)]  # the second one by an operator
    told: list[str] = []
    lab.timelines.end(run)
    lab.timelines.end(run)
    lab.timelines.when_reset(run.id, lambda: told.append("end"))
    assert told == []
    await lab.advance(5.0)
    assert lab.made == [
        m.SetLinkSpec(1, 2, reset=True, cause="end of run r1"),
        m.Heal("end of run r1"),
    ]
    assert told == ["end"]
    kind, data = lab.events[-1]
    assert (kind, data) == ("timeline_reset", {"links": [[1, 2]], "healed": True, "errors": [], "left": 1})


async def test_a_run_without_changes_so_far_ends_at_once(lab: FakeLab) -> None:
    run = lab.begin((), started=True)
    told: list[str] = []
    lab.timelines.end(run)
    lab.timelines.when_reset(run.id, lambda: told.append("end"))
    assert told == ["end"] and lab.events == []


@pytest.mark.parametrize("state", ["running", "stopping"])
async def test_a_restarted_controller_continues_or_resets(lab: FakeLab, state: str) -> None:
    lab.begin(CHANGES, started=True)
    await lab.advance(1.0)
    events = stored(lab)
    later = FakeLab()
    run = a_run((), state)
    later.changed = [(1, 2), (2, 3), (3, 4)]
    # The timeline began 2.7 s ago, and the partition at 2.5 s was missed.
    later.timelines.restore(run, events, 3_700, {})
    await later.settle()
    if state == "stopping":
        resets = [m.SetLinkSpec(a, b, reset=True, cause="end of run r1") for a, b in [(1, 2), (2, 3)]]
        assert later.made == resets  # the partition was not made
        return
    assert later.made == [m.Partition(((1, 2), (3, 4)), "")]
    assert later.happened()[0]["late_ms"] == pytest.approx(200)
    await later.advance(1.3)
    assert later.made[1:] == [m.ResetLinks("timeline of hello")]


def stored(lab: FakeLab) -> list[tuple[str, int, Any]]:
    return [(kind, 1_000, json.loads(json.dumps(data))) for kind, data in lab.events]


FAULTS = (
    m.TimelineChange(1_000_000, "node", node=2, fault="kill", cause="timeline of hello"),
    m.TimelineChange(1_000_000, "down", 2, 3),
    m.TimelineChange(2_000_000, "node", node=2, fault="start"),
)


def asked(lab: FakeLab) -> list[Any]:
    return [data for kind, data in lab.events if kind == "timeline_node"]


async def test_a_fault_of_a_node_is_asked_for_and_recorded_when_it_is_made(lab: FakeLab) -> None:
    run = lab.begin(FAULTS, started=True)
    await lab.advance(1.0)
    assert asked(lab) == [{"index": 0, "node": 2, "fault": "kill", "cause": "timeline of hello"}]
    assert [data["do"] for data in lab.happened()] == ["down"]  # which does not wait for it
    assert run.stopped_nodes == {2}
    await lab.advance(2.0)
    assert len(asked(lab)) == 1  # one after the other
    lab.timelines.nodes.done(m.TimelineDone("r1", 2))  # nobody has asked for that one
    lab.timelines.nodes.done(m.TimelineDone("r1", 0))
    await lab.settle()
    _, killed = lab.happened()
    assert (killed["do"], killed["where"], killed["ok"]) == ("kill", "node 2", True)
    assert (killed["at_s"], killed["sent_s"], killed["applied_s"]) == (1.0, 1.0, 3.0)
    assert [data["index"] for data in asked(lab)] == [0, 2]
    lab.timelines.nodes.done(m.TimelineDone("r1", 2))
    lab.timelines.nodes.done(m.TimelineDone("r1", 2))
    await lab.settle()
    assert (lab.happened()[-1]["sent_s"], lab.happened()[-1]["late_ms"]) == (3.0, 1000.0)
    assert lab.stopped == []


async def test_a_fault_that_fails_or_that_nobody_makes_stops_the_run(lab: FakeLab) -> None:
    lab.begin(FAULTS[:1], started=True)
    await lab.advance(1.0)
    lab.timelines.nodes.done(m.TimelineDone("r1", 0, "lab ring is busy"))
    await lab.settle()
    assert lab.stopped == ["the timeline's `kill` of node 2 at 1 s failed: lab ring is busy"]
    alone = FakeLab()
    alone.begin(FAULTS[:1], started=True)
    await alone.advance(1.0 + NODE_LIMIT_S - 0.1)
    assert alone.stopped == []
    await alone.advance(0.1)
    (reason,) = alone.stopped
    assert "no process that drives the run has made it within 60 s" in reason


async def test_the_end_of_a_run_waits_for_no_fault(lab: FakeLab) -> None:
    run = lab.begin(FAULTS, started=True)
    await lab.advance(2.5)
    told: list[str] = []
    lab.timelines.end(run)
    lab.timelines.when_reset(run.id, lambda: told.append("end"))
    await lab.settle()
    assert told == ["end"] and lab.stopped == [] and len(asked(lab)) == 1
    assert [data["error"] for data in lab.happened()[1:]] == [
        "the run ended before it was confirmed",
        "the run ended before it was its turn",
    ]


async def test_a_restarted_controller_asks_again_for_a_fault_that_was_not_confirmed(lab: FakeLab) -> None:
    lab.begin(FAULTS[:1], started=True)
    await lab.advance(1.0)
    events = stored(lab)
    lab.timelines.close()
    await lab.settle()
    assert lab.happened() == []  # an end of the controller is not an end of the fault
    later, run = FakeLab(), a_run(())
    later.timelines.restore(run, events, 2_500, {})
    await later.settle()
    assert [data["index"] for data in asked(later)] == [0] and run.stopped_nodes == {2}


async def test_links_of_a_run_whose_roles_had_all_ended_are_reset_by_a_restarted_controller(
    lab: FakeLab,
) -> None:
    lab.begin(CHANGES, started=True)
    await lab.advance(1.0)
    events = stored(lab)
    later, run = FakeLab(), a_run(())
    later.changed = [(1, 2), (2, 3)]
    for role in run.roles.values():
        role.state = "finished"
    later.timelines.restore(run, events, 3_000, {})
    await later.settle()
    assert later.made[:2] == [
        m.SetLinkSpec(a, b, reset=True, cause="end of run r1") for a, b in later.changed
    ]
    assert later.happened() == []


class FakeLab:
    """Records the changes that are made and the events; time moves only by `advance`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timelines = Timelines(self._change, self, self.clock.monotonic, self._later)
        self.made: list[Message] = []
        self.events: list[tuple[str, Any]] = []
        self.stopped: list[str] = []
        self.changed: list[tuple[int, int]] = []
        self.groups: tuple[tuple[int, ...], ...] = ()
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None
        self._timers: list[_Timer] = []

    def begin(self, changes: tuple[m.TimelineChange, ...], *, started: bool = False) -> Run:
        run = a_run(changes)
        self.timelines.plan(run)
        for node in run.roles if started else ():
            self.role_started(run, node)
        return run

    def role_started(self, run: Run, node: int) -> None:
        run.roles[node].state = "running"
        self.timelines.role_started(run)

    def happened(self) -> list[Any]:
        return [data for kind, data in self.events if kind == "timeline"]

    async def advance(self, seconds: float) -> None:
        """Move the clock to each timer in turn that is due by then."""
        end = self.clock.monotonic() + seconds
        while due := [each for each in self._timers if each.at <= end]:
            first = min(due, key=lambda each: each.at)
            self._timers.remove(first)
            self.clock.advance(max(0.0, first.at - self.clock.monotonic()))
            first.call()
            await self.settle()
        self.clock.advance(max(0.0, end - self.clock.monotonic()))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _change(self, request: Message, applied: Callable[[], None]) -> Mapping[str, Any]:
        self.made.append(request)
        if isinstance(request, m.Partition | m.Heal):
            self.groups = request.groups if isinstance(request, m.Partition) else ()
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        applied()
        return {}

    def _later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(self, self.clock.monotonic() + seconds, call)
        self._timers.append(timer)
        return timer

    # What timelines need of runs.

    def record(self, run: Run, kind: str, data: Any, role: Role | None = None) -> None:
        self.events.append((kind, data))

    def stop(self, run_id: str, reason: str) -> None:
        self.stopped.append(reason)

    def changed_links(self) -> Iterable[tuple[int, int]]:
        return self.changed

    def partition(self) -> tuple[tuple[int, ...], ...]:
        return self.groups


class _Timer:
    def __init__(self, lab: FakeLab, at: float, call: Callable[[], None]) -> None:
        self.lab, self.at, self.call = lab, at, call

    def cancel(self) -> None:
        if self in self.lab._timers:
            self.lab._timers.remove(self)


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


def a_run(changes: tuple[m.TimelineChange, ...], state: str = "running") -> Run:
    roles = {1: Role(1, "a", "sent"), 2: Role(2, "a", "sent")}
    return Run("r1", "hello", "roles.py", {}, {}, 7, 60.0, 0, roles, state, timeline=changes)
