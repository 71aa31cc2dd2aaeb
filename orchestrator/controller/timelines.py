"""Execute the timelines of runs: change links and nodes at their times, record it, reset links at the end.

Times count from the moment at which every role of a run has started. A change is sent when it is due, whether
earlier ones have been confirmed or not. What is planned and what happened are events of the run
(`timeline_planned`, `timeline_started`, `timeline`, `timeline_reset`), from which a restarted controller
continues: a change that came due without a controller is made at once, and its event says how late it was.
What a role asks for (`timeline_role`) and the partition that the first one of the run replaces
(`timeline_partition`) are recorded before the change is made, so that they are stored before it.

A change that cannot be made stops the run: its results would be those of another experiment. When a run has
been stopped or has ended, nothing more is done, and links that its timeline has changed return to what the
topology declares; a partition from before the run is in force again. Faults of nodes are made, and undone at
the end, by the process that drives the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from orchestrator.controller.core import Core
from orchestrator.controller.errors import FaultsNotAllowed, LinkNotStored, LinkUnknown
from orchestrator.controller.run import Role, Run
from orchestrator.controller.runs import Runs
from orchestrator.controller.timeline_nodes import NODE, Later, NodeChanges, Timer
from orchestrator.errors import NmError
from orchestrator.protocol import Message
from orchestrator.protocol import messages as m
from orchestrator.protocol.schema import decode_body, encode_body
from orchestrator.tasks import spawn

__all__ = ["Lines", "RunLines", "Timelines", "request_for"]

PLANNED, STARTED, CHANGED, RESET = "timeline_planned", "timeline_started", "timeline", "timeline_reset"
BY_ROLE, PARTITION = "timeline_role", "timeline_partition"
"""The kinds of the events of a timeline."""

Change = Callable[[Message, Callable[[], None]], Awaitable[Mapping[str, Any]]]
"""Makes a change of links, and calls back when the nodes have applied it."""

Done = Callable[[NmError | None], None]
"""Is told what was wrong with a change, None for nothing."""


class Lines(Protocol):
    """What timelines need of runs."""

    def record(self, run: Run, kind: str, data: Any, role: Role | None = None) -> None:
        """Record an event of a run, caused by a role or by none."""
        ...

    @property
    def stop(self) -> Callable[[str, str], None]:
        """What stops the run of an id, for a reason."""
        ...

    def changed_links(self) -> Iterable[tuple[int, int]]:
        """Return the links that differ from what is declared, a partition aside."""
        ...

    def partition(self) -> tuple[tuple[int, ...], ...]:
        """Return the groups of the partition in force."""
        ...


class RunLines:
    """The runs of a controller, for timelines."""

    def __init__(self, core: Core, runs: Runs, stop: Callable[[str, str], None]) -> None:
        self._core, self._runs = core, runs
        self.stop = stop

    def record(self, run: Run, kind: str, data: Any, role: Role | None = None) -> None:
        """Record an event of a run, caused by a role or by none."""
        who = (0, "") if role is None else (role.node, role.role)
        self._runs.event(run, self._core.now_ms(), kind, *who, data)

    def changed_links(self) -> Iterable[tuple[int, int]]:
        """Return the links that differ from what is declared, a partition aside."""
        return [ends for ends, link in self._core.lab.registry.links.items() if link.changed]

    def partition(self) -> tuple[tuple[int, ...], ...]:
        """Return the groups of the partition in force."""
        sides = self._core.lab.sides
        return tuple(tuple(n for n in sides if sides[n] == side) for side in sorted(set(sides.values())))


@dataclass(slots=True)
class _Timeline:
    """The timeline of one run.

    Attributes:
        zero: The clock when every role had started; None before.
        left: The numbers of the changes that have not been made yet, in order.
        touched: The links that were changed.
        tasks: Changes under way.
        before: The groups of the partition that the run's first one, or its end, replaced; None without.
        asked: What roles have asked for, by node and number, and who waits for it.
        answers: What became of it, with the error's text and id; both are empty for none.
        timer: The next time.
        ended: Nothing more is done.
        reset: Resets the links after the end.
    """

    run: Run
    left: list[int]
    zero: float | None = None
    touched: set[tuple[int, int]] = field(default_factory=set)
    before: tuple[tuple[int, ...], ...] | None = None
    asked: dict[tuple[int, int], list[Done]] = field(default_factory=dict)
    answers: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    timer: Timer | None = None
    ended: bool = False
    reset: asyncio.Task[None] | None = None

    def touch(self, change: m.TimelineChange) -> None:
        """Note which link a change changes."""
        if change.a:
            self.touched.add((min(change.a, change.b), max(change.a, change.b)))


class Timelines:
    """The timelines of all runs under way.

    Attributes:
        nodes: The faults of nodes among their changes.

    Args:
        change: Makes changes of links.
        lines: Records events of runs, and stops them.
        now: The monotonic clock, in seconds.
        later: Calls back after so many seconds; the event loop's `call_later` unless given.
    """

    def __init__(
        self, change: Change, lines: Lines, now: Callable[[], float], later: Later | None = None
    ) -> None:
        self._change = change
        self._lines = lines
        self._now = now
        self._later = later or _call_later
        self.nodes = NodeChanges(lines.record, self._later)
        self._timelines: dict[str, _Timeline] = {}

    def plan(self, run: Run) -> None:
        """Take the timeline of a run that is being started."""
        if run.timeline or run.faults:
            self._timelines[run.id] = _Timeline(run, list(range(len(run.timeline))))
            changes = [_encoded(change) for change in run.timeline]
            self._lines.record(run, PLANNED, {"changes": changes, "faults": run.faults})

    def restore(
        self, run: Run, events: Iterable[tuple[str, int, Any]], now_ms: int, traces: Mapping[str, bytes]
    ) -> None:
        """Continue the timeline of a run that was under way when the last controller ended.

        Args:
            run: The run.
            events: Its events of timelines: kind, milliseconds since 1970, data.
            now_ms: The same clock now.
            traces: The contents of traces that its changes name, by digest.
        """
        for kind, time_ms, data in events:
            timeline = self._timelines.get(run.id)
            if kind == PLANNED:
                planned = (decode_body(m.TimelineChange, each) for each in data["changes"])
                run.timeline = tuple(change.with_traces(traces) for change in planned)
                run.faults = data["faults"]
                self._timelines[run.id] = _Timeline(run, list(range(len(run.timeline))))
            elif kind == STARTED and timeline is not None:
                timeline.zero = self._now() - max(0, now_ms - time_ms) / 1000
            elif kind == NODE:
                self.nodes.restore(run, data)
            elif kind == PARTITION and timeline is not None:
                timeline.before = tuple(tuple(group) for group in data["before"])
            elif kind == BY_ROLE and timeline is not None:
                timeline.touch(decode_body(m.TimelineChange, data["change"]))
            elif kind == CHANGED and timeline is not None:
                timeline.touch(decode_body(m.TimelineChange, data["change"]))
                if data["index"] in timeline.left:
                    timeline.left.remove(data["index"])
                if data.get("number"):
                    timeline.answers[data["node"], data["number"]] = (data["error"], data["error_id"])
        timeline = self._timelines.get(run.id)
        if timeline is None:
            return
        if timeline.zero is not None:
            # A change may have been sent without its event: what is due has been made, or will be.
            for index in _due(timeline, self._now() - timeline.zero):
                timeline.touch(run.timeline[index])
        if run.state != "running" or all(role.over for role in run.roles.values()):
            self.end(run)
        elif timeline.zero is None:
            self.role_started(run)
        else:
            self._run(timeline)

    def role_started(self, run: Run) -> None:
        """Begin the timeline if every role has started."""
        timeline = self._timelines.get(run.id)
        if timeline is None or timeline.zero is not None or timeline.ended or not run.all_started:
            return
        timeline.zero = self._now()
        self._lines.record(run, STARTED, {"changes": len(run.timeline)})
        self._run(timeline)

    def begin_by_role(self, run: Run, role: Role, number: int, change: m.TimelineChange, done: Done) -> None:
        """Make a change for a role now; `done` is told what was wrong, None for nothing.

        A change that fails is the role's to handle: it does not stop the run. A role asks again, with the
        same number, when it has lost the controller: what is under way or made is not made once more.
        """
        timeline, key = self._timelines.get(run.id), (role.node, number)
        if timeline is not None and key in timeline.answers:
            text, id = timeline.answers[key]
            done(NmError(text, id=id) if text else None)
            return
        if timeline is not None and key in timeline.asked:
            timeline.asked[key].append(done)
            return
        if timeline is None or timeline.ended or not run.faults or role.over:
            done(
                FaultsNotAllowed(
                    f"the scenario {run.scenario} does not allow its roles to change links",
                    hint="`faults: true` in scenario.yaml allows it",
                )
                if not run.faults
                else FaultsNotAllowed("the role or its run is ending, and changes no links any more")
            )
            return
        try:
            request_for(change)
        except LinkUnknown as error:
            done(error)
            return
        facts = {"node": role.node, "number": number}
        self._lines.record(run, BY_ROLE, {**facts, "change": _encoded(change)}, role)
        self._touch(timeline, change)
        timeline.asked[key] = [done]

        def made(error: NmError | None) -> None:
            timeline.answers[key] = ("", "") if error is None else (error.message, error.id)
            for each in timeline.asked.pop(key):
                each(error)

        work = self._make(timeline, change, role=role, facts=facts, done=made)
        task = spawn(work, name=f"change of links by a role of {run.id}")
        timeline.tasks.add(task)
        task.add_done_callback(timeline.tasks.discard)

    def end(self, run: Run) -> None:
        """Make no more changes, and reset what was changed; the run was stopped or has ended."""
        timeline = self._timelines.get(run.id)
        if timeline is None or timeline.ended:
            return
        timeline.ended = True
        self.nodes.end(run.id)
        if timeline.timer is not None:
            timeline.timer.cancel()
        timeline.reset = spawn(self._reset(timeline), name=f"reset of links after {run.id}")

    def when_reset(self, run_id: str, call: Callable[[], None]) -> None:
        """Call once the links that a run has changed are reset; at once if there are none."""
        timeline = self._timelines.pop(run_id, None)
        if timeline is None or timeline.reset is None or timeline.reset.done():
            call()
        else:
            timeline.reset.add_done_callback(lambda _: call())

    def close(self) -> None:
        """Cancel all timers and tasks."""
        for timeline in self._timelines.values():
            if timeline.timer is not None:
                timeline.timer.cancel()
            for task in (*timeline.tasks, *filter(None, [timeline.reset])):
                task.cancel()

    # Helpers.

    def _run(self, timeline: _Timeline) -> None:
        """Begin the changes that are due, in order, and come back for the next one."""
        timeline.timer = None
        if timeline.zero is None or timeline.ended:
            return
        for index in _due(timeline, self._now() - timeline.zero):
            timeline.left.remove(index)
            self._touch(timeline, timeline.run.timeline[index])
            # A task runs as far as its first wait, which is after the change was sent, before a later one.
            work = self._make(timeline, timeline.run.timeline[index], index)
            task = spawn(work, name=f"timeline of {timeline.run.id}")
            timeline.tasks.add(task)
            task.add_done_callback(timeline.tasks.discard)
        if timeline.left:
            due = timeline.zero + timeline.run.timeline[timeline.left[0]].at_us / 1_000_000
            wait = max(0.0, due - self._now())
            timeline.timer = self._later(wait, partial(self._run, timeline))

    def _touch(self, timeline: _Timeline, change: m.TimelineChange) -> None:
        """Note what a change that is about to be made changes, and the partition that it replaces."""
        timeline.touch(change)
        if change.do in ("partition", "heal") and timeline.before is None:
            before = self._lines.partition()
            if before or change.do == "partition":
                timeline.before = before
                self._lines.record(timeline.run, PARTITION, {"before": before})

    async def _make(
        self,
        timeline: _Timeline,
        change: m.TimelineChange,
        index: int | None = None,
        role: Role | None = None,
        facts: Mapping[str, Any] | None = None,
        done: Done = lambda _error: None,
    ) -> None:
        """Make a change and record it: one of the timeline, or one that a role asked for, with more facts."""
        run, zero = timeline.run, self._now() if timeline.zero is None else timeline.zero
        data: dict[str, Any] = {
            "index": index,
            "do": change.fault or change.do,
            "where": change.where,
            "change": _encoded(change),
            **(facts or {}),
        }

        def sent() -> None:
            at = self._now() - zero
            data["sent_s"] = round(at, 6)
            if index is not None:
                data["at_s"] = change.at_us / 1_000_000
                data["late_ms"] = round(at * 1000 - change.at_us / 1000, 3)

        def applied() -> None:
            data["applied_s"] = round(self._now() - zero, 6)

        sent()
        error: NmError | None = None
        try:
            if change.do == "node" and index is not None:
                await self.nodes.make(run, index, change, sent)
                applied()
            else:
                await self._change(request_for(change), applied)
        except LinkNotStored as failure:
            data["note"] = failure.message  # it is in force; the run goes on
        except NmError as failure:
            error = failure
        except Exception:
            self._made(timeline, data, NmError("it could not be handled"), role, done)
            raise  # into the log
        self._made(timeline, data, error, role, done)

    def _made(
        self,
        timeline: _Timeline,
        data: dict[str, Any],
        error: NmError | None,
        role: Role | None,
        done: Done,
    ) -> None:
        """Record what became of a change; one of the timeline that failed stops the run.

        A change that the end of the controller interrupts is not recorded: the next controller repeats it.
        """
        text = "" if error is None else error.message
        data = {**data, "ok": error is None, "error": text}
        if role is not None:
            data["error_id"] = "" if error is None else error.id
        self._lines.record(timeline.run, CHANGED, data, role)
        done(error)
        if error is not None and data["index"] is not None and not timeline.ended:
            what = f"`{data['do']}` of {data['where']} at {data['at_s']:g} s"
            self._lines.stop(timeline.run.id, f"the timeline's {what} failed: {text}")

    async def _reset(self, timeline: _Timeline) -> None:
        """Reset the links that were changed, and return to the partition from before the run, or to none."""
        run, before = timeline.run, timeline.before
        cause = f"end of run {run.id}"
        links = sorted(timeline.touched & set(self._lines.changed_links()))
        requests: list[Message] = [m.SetLinkSpec(a, b, reset=True, cause=cause) for a, b in links]
        if before is not None:
            requests.append(m.Partition(before, cause) if before else m.Heal(cause))
        made = [self._change(request, lambda: None) for request in requests]
        failed = await asyncio.gather(*made, return_exceptions=True)
        await asyncio.gather(*timeline.tasks, return_exceptions=True)
        self.nodes.forget(run.id)
        errors = [str(each) for each in failed if isinstance(each, BaseException)]
        data = {"links": [list(ends) for ends in links], "healed": before == (), "errors": errors}
        if before:
            data["partition"] = before
        if timeline.zero is not None or links:
            data["left"] = len(timeline.left)
            self._lines.record(run, RESET, data)


def _call_later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)


def request_for(change: m.TimelineChange) -> Message:
    """Return the request that makes a change of links.

    Raises:
        LinkUnknown: It is no change of links.
    """
    link = (change.a, change.b, change.direction)
    if change.do == "set":
        return m.SetLinkSpec(
            *link, spec=change.spec, merge=not change.whole, cause=change.cause, backward=change.backward
        )
    if change.do == "reset":
        whole = m.ResetLinks(change.cause)
        return m.SetLinkSpec(*link, reset=True, cause=change.cause) if change.a else whole
    if change.do in ("down", "up"):
        return m.SetLinkState(change.a, change.b, change.do == "down", change.direction, change.cause)
    if change.do == "partition":
        return m.Partition(change.groups, change.cause)
    if change.do == "heal":
        return m.Heal(change.cause)
    text = f"`{change.do[:20]}` is nothing that is done to a link"
    raise LinkUnknown(text, id="link.change", hint="set, reset, down, up, partition or heal")


def _due(timeline: _Timeline, elapsed_s: float) -> list[int]:
    """Return the numbers of the changes whose time has come."""
    changes = timeline.run.timeline
    return [index for index in timeline.left if changes[index].at_us <= elapsed_s * 1_000_000]


def _encoded(change: m.TimelineChange) -> dict[str, Any]:
    """Return a change as plain values, as events keep it."""
    specs = {"spec": change.spec, "backward": change.backward}
    return {**encode_body(change), **{name: spec and spec.to_wire() for name, spec in specs.items()}}
