"""Test decisions about runs; the time is an argument."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pytest

from orchestrator.controller.errors import RunUnknown
from orchestrator.controller.run import Role, Run
from orchestrator.controller.runs import AGENT_GRACE_MS, CONFIRM_MS, STOP_GRACE_MS, Runs
from orchestrator.protocol import MAX_MESSAGE, Frame, Message, ProtocolError, encode
from orchestrator.protocol import messages as m


class Recorder:
    """Effects that are only looked at."""

    def __init__(self) -> None:
        self.sent: list[tuple[Hashable, Message]] = []
        self.events: list[m.RunEvent] = []
        self.finished: list[m.RunFinished] = []
        self.called: list[int] = []

    def call(self, nodes: Iterable[int]) -> None:
        self.called.extend(nodes)

    def send(self, peer: Hashable, message: Message) -> None:
        self.sent.append((peer, message))

    def record_event(self, run: Run, event: m.RunEvent) -> None:
        self.events.append(event)

    def save_roles(self, run: Run, roles: Iterable[Role]) -> None:
        pass

    def save_barrier(self, run: Run, name: str, generation: int) -> None:
        pass

    def save_run(self, run: Run, now_ms: int) -> None:
        pass

    def report_end(self, run: Run, message: m.RunFinished) -> None:
        self.finished.append(message)

    def take(self) -> list[tuple[Hashable, str]]:
        taken, self.sent = [(peer, message.type) for peer, message in self.sent], []
        return taken


@pytest.fixture
def effects() -> Recorder:
    return Recorder()


@pytest.fixture
def runs(effects: Recorder) -> Runs:
    """Two agents: one for nodes 1 and 2, one for node 3."""
    runs = Runs(effects, {1: "trainer", 2: "b", 3: "c"})
    runs.attach("A", m.AgentHello((1, 2)), 0)
    runs.attach("B", m.AgentHello((3,)), 0)
    return runs


def wanted(run: str = "r1", **roles: tuple[int, ...]) -> m.StartRun:
    given: dict[str, tuple[int, ...]] = roles or {"trainer": (1,), "worker": (2, 3)}
    return m.StartRun(run, "hello", given, {"roles.py": b"x"}, {"size": 5}, 7, 60.0)


def finish(runs: Runs, node: int, *, ok: bool = True, error: str | None = None, now_ms: int = 100) -> None:
    runs.finished("r1", node, ok=ok, error=error, traceback="Traceback" if error else None, now_ms=now_ms)


def test_a_run_reaches_each_agent_once_and_each_role_once(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 10)
    assert effects.take() == [
        ("A", "PrepareRun"),
        ("A", "RunRole"),
        ("A", "RunRole"),
        ("B", "PrepareRun"),
        ("B", "RunRole"),
    ]
    for node in (1, 2, 3):
        runs.started("r1", node, 20)
        finish(runs, node)
        finish(runs, node)
    assert effects.finished == [m.RunFinished("r1", True)]
    kinds = [event.kind for event in effects.events]
    assert kinds == ["started", *["role_started", "role_finished"] * 3]
    assert [event.seq for event in effects.events] == list(range(1, 8))
    assert runs.next_due() is None


@pytest.mark.parametrize(
    ("roles", "reason", "id"),
    [
        ({"a": ()}, "no roles", "run.invalid"),
        ({"a": (1,), "b": (1,)}, "two roles", "run.invalid"),
        ({"a": (4,)}, "the nodes 4", "run.no-agent"),
    ],
)
def test_a_run_that_cannot_be_is_refused(runs: Runs, roles: dict[str, Any], reason: str, id: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as refusal:
        runs.start(wanted(**roles), 0)
    assert refusal.value.id == id
    assert runs.get("r1") is None


def test_agents_that_are_missing_are_called_for(runs: Runs, effects: Recorder) -> None:
    with pytest.raises(ProtocolError, match="the nodes 4, 6"):
        runs.start(wanted(a=(1, 4), b=(6,)), 0)
    assert effects.called == [4, 6]
    runs.attach("C", m.AgentHello((4, 6)), 10)
    assert runs.start(wanted(a=(1, 4), b=(6,)), 20).roles.keys() == {1, 4, 6}
    assert effects.called == [4, 6]


def test_a_node_that_comes_back_is_asked_what_became_of_its_role(runs: Runs, effects: Recorder) -> None:
    runs.node_registered(3)
    runs.start(wanted(), 0)
    runs.node_registered(3)
    assert effects.called == []  # nothing was under way, then its agent is there
    runs.detach("B", 100)
    runs.node_registered(3)
    assert effects.called == [3]
    runs.attach("B2", m.AgentHello((3,)), 200)
    runs.tick(200 + CONFIRM_MS)
    assert "was restarted" in runs.run("r1").reason


def test_a_role_that_raises_stops_the_others_and_names_itself(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    effects.take()
    finish(runs, 2, ok=False, error="ValueError: no")
    assert effects.take() == [("A", "StopRole"), ("B", "StopRole")]
    assert not effects.finished
    finish(runs, 1, ok=False, error=runs.run("r1").reason)
    finish(runs, 3, ok=True)
    [finished] = effects.finished
    assert not finished.ok and finished.reason == "role worker in node 2 failed: ValueError: no"
    assert [failure["node"] for failure in finished.failures] == [2]
    assert finished.failures[0]["traceback"] == "Traceback"


def test_a_run_that_takes_too_long_names_who_is_late(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    finish(runs, 1)
    assert runs.next_due() == 60_000
    runs.tick(59_999)
    assert effects.events[-1].kind != "stopping"
    runs.tick(60_000)
    assert runs.next_due() == 60_000 + STOP_GRACE_MS
    runs.tick(60_000 + STOP_GRACE_MS)
    [finished] = effects.finished
    assert "worker in node 2, worker in node 3" in finished.reason and "60 s" in finished.reason
    assert {failure["error"] for failure in finished.failures} == {
        "it did not stop in time and was abandoned"
    }


def test_an_agent_that_stays_away_loses_its_roles(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.detach("B", 1000)
    runs.tick(1000 + AGENT_GRACE_MS - 1)
    assert runs.run("r1").state == "running"
    runs.tick(1000 + AGENT_GRACE_MS)
    assert runs.run("r1").state == "stopping"
    finish(runs, 1, ok=False, error=runs.run("r1").reason)
    finish(runs, 2, ok=False, error=runs.run("r1").reason)
    [finished] = effects.finished
    assert finished.reason == "role worker in node 3 was lost: its process is gone"


def test_a_role_in_a_node_that_the_timeline_stops_is_stopped_and_does_not_fail_the_run(
    runs: Runs, effects: Recorder
) -> None:
    run = runs.start(wanted(), 0)
    for node in (1, 2, 3):
        runs.started("r1", node, 5)
    run.note_fault(3, "kill")
    for node in (1, 2):
        runs.enter_barrier("r1", node, "done", 1, 10)
    runs.node_stopped(3, 20)
    assert (run.roles[3].state, run.state) == ("stopped", "running")
    assert effects.events[-2].data == {"reason": "its node was stopped by the timeline"}
    assert effects.events[-1].kind == "barrier"  # the others do not wait for it
    finish(runs, 1)
    finish(runs, 2)
    assert effects.finished == [m.RunFinished("r1", True, "", ())]


def test_a_role_in_a_node_that_somebody_else_stops_fails_the_run(runs: Runs, effects: Recorder) -> None:
    run = runs.start(wanted(), 0)
    run.note_fault(2, "kill")
    runs.node_stopped(3, 20)
    assert (run.roles[3].state, run.state) == ("lost", "stopping")


def test_an_agent_may_be_away_while_the_timeline_pauses_its_node(runs: Runs, effects: Recorder) -> None:
    run = runs.start(wanted(), 0)
    runs.started("r1", 3, 5)
    run.note_fault(3, "pause")
    runs.detach("B", 1000)
    runs.tick(1000 + AGENT_GRACE_MS)
    assert run.state == "running"
    run.note_fault(3, "unpause")
    runs.attach("B2", m.AgentHello((3,), (m.RunningRole("r1", 3),)), 20_000)
    runs.tick(30_000)
    assert run.state == "running"
    runs.detach("B2", 31_000)
    runs.tick(31_000 + AGENT_GRACE_MS)
    assert run.state == "stopping"


def test_an_agent_that_comes_back_in_time_goes_on(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.started("r1", 3, 5)
    runs.detach("B", 1000)
    effects.take()
    runs.attach("B2", m.AgentHello((3,), (m.RunningRole("r1", 3),)), 2000)
    runs.tick(1_000_000 // 20)
    assert effects.take() == [] and runs.run("r1").state == "running"


def test_an_agent_started_anew_has_lost_what_it_ran(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.started("r1", 3, 5)
    runs.detach("B", 1000)
    runs.attach("B2", m.AgentHello((3,)), 2000)
    assert runs.next_due() == 2000 + CONFIRM_MS
    runs.tick(2000 + CONFIRM_MS)
    assert runs.run("r1").reason.endswith("its process was restarted")


def test_an_agent_that_is_gone_again_before_it_confirms_is_gone(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.started("r1", 3, 5)
    runs.detach("B", 1000)
    runs.attach("B2", m.AgentHello((3,)), 2000)
    runs.detach("B2", 2500)
    runs.tick(2000 + CONFIRM_MS)
    assert runs.run("r1").state == "running"
    runs.tick(2500 + AGENT_GRACE_MS)
    assert runs.run("r1").reason.endswith("its process is gone")


def test_a_role_that_ended_while_nobody_listened_may_still_say_so(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.detach("B", 1000)
    runs.attach("B2", m.AgentHello((3,)), 2000)
    finish(runs, 3, now_ms=2001)
    runs.tick(2000 + CONFIRM_MS)
    assert runs.run("r1").state == "running" and runs.run("r1").roles[3].state == "finished"


def test_a_role_of_a_run_that_nobody_knows_is_stopped(runs: Runs, effects: Recorder) -> None:
    runs.attach("C", m.AgentHello((3,), (m.RunningRole("old", 3),)), 0)
    assert effects.take() == [("C", "StopRole")]


def test_a_barrier_opens_when_all_who_still_run_are_there(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    effects.take()
    runs.enter_barrier("r1", 1, "start", 1, 10)
    runs.enter_barrier("r1", 2, "start", 1, 10)
    runs.enter_barrier("r1", 2, "start", 1, 10)
    assert effects.take() == []
    runs.enter_barrier("r1", 3, "start", 1, 10)
    assert effects.take() == [("A", "BarrierReleased"), ("B", "BarrierReleased")]
    runs.enter_barrier("r1", 1, "start", 2, 11)
    runs.enter_barrier("r1", 2, "start", 2, 11)
    assert effects.take() == []
    finish(runs, 3)
    assert effects.take() == [("A", "BarrierReleased")]
    runs.enter_barrier("r1", 2, "start", 1, 12)  # again, after a reconnect
    assert effects.take() == [("A", "BarrierReleased")]


def test_published_values_reach_those_who_asked_before_and_after(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    effects.take()
    runs.lookup("r1", "group", "B")
    assert effects.take() == []
    assert runs.publish("r1", "group", [1, "239.255.0.10"])
    assert effects.take() == [("B", "Published")]
    runs.lookup("r1", "group", "A")
    assert effects.take() == [("A", "Published")]
    assert not runs.publish("no such run", "group", 1)


def test_a_row_that_comes_twice_counts_once(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    assert runs.row("r1", 2, 1, {"n": 1}, 5)
    assert not runs.row("r1", 2, 1, {"n": 1}, 6)
    assert runs.row("r1", 2, 2, {"n": 2}, 7)
    assert [event.data for event in effects.events if event.kind == "report"] == [{"n": 1}, {"n": 2}]


def test_progress_is_shown_and_not_counted(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.output("r1", 2, "progress", {"done": 1, "total": 2}, 5)
    runs.output("r1", 2, "log", {"level": "info", "text": "x"}, 6)
    assert [(event.kind, event.seq) for event in effects.events[1:]] == [("progress", 0), ("log", 2)]


def test_stopping_a_run_is_a_failure_with_the_reason_given(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(), 0)
    runs.stop("r1", "the user pressed Ctrl-C", 5)
    for node in (1, 2, 3):
        finish(runs, node, ok=False, error="the user pressed Ctrl-C")
    assert effects.finished == [m.RunFinished("r1", False, "the user pressed Ctrl-C")]
    runs.stop("r1", "again", 6)
    with pytest.raises(RunUnknown):
        runs.stop("r2", "x", 6)


def test_an_agent_that_refuses_a_role_fails_the_run(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(trainer=(1,)), 0)
    runs.refused("r1", 1, "there is no role `trainer` in roles.py", 5)
    [finished] = effects.finished
    assert "no role `trainer`" in finished.reason


def test_a_restored_run_waits_for_its_agents_and_goes_on(effects: Recorder) -> None:
    runs = Runs(effects, {1: "a", 2: "b"})
    roles = {1: Role(1, "trainer", "running"), 2: Role(2, "worker", "waiting")}
    run = Run("r1", "hello", "roles.py", {}, {}, 7, 60.0, 0, roles, barriers={"start": 1}, last_event=9)
    runs.restore(run, 1000)
    assert runs.next_due() == 1000 + AGENT_GRACE_MS
    runs.attach("A", m.AgentHello((1, 2), (m.RunningRole("r1", 1),)), 2000)
    assert effects.take() == [("A", "RunRole")]
    runs.enter_barrier("r1", 1, "start", 1, 3000)
    assert effects.take() == [("A", "BarrierReleased")]
    finish(runs, 1)
    finish(runs, 2)
    assert effects.finished[0].ok and effects.events[0].seq == 10


def test_a_role_that_reported_more_than_was_stored_has_failed_by_name(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(trainer=(1,)), 0)
    for number in (1, 2, 3):
        assert runs.row("r1", 1, number, {"n": number}, 5)
    runs.row_refused("r1", 1, 2, "too large")
    runs.finished("r1", 1, ok=True, error=None, traceback=None, now_ms=6, rows=3)
    [finished] = effects.finished
    assert not finished.ok and finished.unstored == 1
    assert (
        "it reported 3 rows, of which 2 were stored; row 2 could not be stored: too large" in finished.reason
    )


def test_rows_that_come_after_the_time_are_counted_and_not_kept(runs: Runs, effects: Recorder) -> None:
    runs.start(wanted(trainer=(1,)), 0)
    assert runs.row("r1", 1, 1, {"n": 1}, 5)
    runs.tick(60_000)
    assert not runs.row("r1", 1, 2, {"n": 2}, 60_001)
    runs.finished("r1", 1, ok=False, error="stopped", traceback=None, now_ms=60_002, rows=40)
    [finished] = effects.finished
    assert finished.unstored == 39
    assert finished.reason.endswith("39 rows that its roles had reported were not stored")


def test_the_end_of_a_run_of_many_failures_fits_into_a_message(runs: Runs, effects: Recorder) -> None:
    nodes = tuple(range(1, 1001))
    runs.attach("C", m.AgentHello(nodes), 0)
    runs.start(wanted(trainer=nodes), 0)
    for node in nodes:
        text = "é" * 1_100_000
        runs.finished("r1", node, ok=False, error=text, traceback=text, now_ms=6)
    [finished] = effects.finished
    assert len(finished.failures) == 1000 and finished.failures[0]["traceback"]
    assert len(encode(Frame(finished))) < MAX_MESSAGE // 2


def test_published_values_are_bounded(runs: Runs, effects: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.controller.runs.MAX_VALUES_BYTES", 100)
    runs.start(wanted(), 0)
    assert runs.publish("r1", "a", "x", 60)
    assert runs.publish("r1", "a", "y", 90)
    with pytest.raises(ProtocolError) as caught:
        runs.publish("r1", "b", "x", 20)
    assert caught.value.id == "run.values"
