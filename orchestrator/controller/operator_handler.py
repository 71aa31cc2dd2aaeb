"""Handle requests from operators: status, waiting for readiness, link changes, runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from orchestrator.controller import link_states
from orchestrator.controller.agent_handler import AgentHandler
from orchestrator.controller.core import Core, Session
from orchestrator.controller.effects import failures_of
from orchestrator.controller.errors import LabNotReady, RunUnknown
from orchestrator.controller.event_requests import EventRequests
from orchestrator.controller.event_streams import EventStream
from orchestrator.controller.faults import Faults
from orchestrator.controller.group_requests import GroupRequests
from orchestrator.controller.link_changes import STORE_LIMIT
from orchestrator.controller.measurements import Measurements
from orchestrator.controller.membership import Membership
from orchestrator.controller.node_faults import NodeFaults, require_running
from orchestrator.controller.route_requests import RouteRequests
from orchestrator.errors import NmError, StoreUnavailable
from orchestrator.protocol import Frame, Message, ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.tasks import spawn

__all__ = ["OperatorHandler"]

PROGRESS_EVERY = 0.1
"""Seconds between two `StatusChanged` to those who wait for the lab."""


class OperatorHandler:
    """Handles requests of operators.

    Attributes:
        handlers: What handles them, by type; those about flows are added.
        on_lost: Called with the session of an operator whose connection has ended.
    """

    def __init__(self, core: Core, agents: AgentHandler) -> None:
        self._core = core
        self._agents = agents
        self._tasks: set[asyncio.Task[None]] = set()
        self._events = EventRequests(core)
        self.on_lost: list[Callable[[Session], None]] = []
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetStatus: self._get_status,
            m.WaitReady: self._wait_ready,
            m.StartRun: self._start_run,
            m.StopRun: self._stop_run,
            m.WatchRun: self._watch_run,
            m.TimelineDone: self._timeline_done,
            m.SaveResult: self._save_result,
            **self._events.handlers,
            **Faults(core).handlers,
            **NodeFaults(core).handlers,
            **Membership(core).handlers,
            **Measurements(core).handlers,
            **RouteRequests(core).handlers,
            **GroupRequests(core).handlers,
        }

    def take(self, session: Session, frame: Frame) -> None:
        """Handle a message in a task of its own, so that it does not delay the next one."""
        handler = self.handlers.get(type(frame.message))
        if handler is not None:
            self._begin(self._execute(handler(session, frame, frame.message), session, frame))

    def lost(self, session: Session) -> None:
        """Handle the end of an operator's connection; its runs continue."""
        for streams in self._agents.streams.values():
            streams.leave(session)
        self._events.leave(session)
        for hear in self.on_lost:
            hear(session)

    def close(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()

    def status(self, re: int = 0) -> m.Status:
        """Return the lab as a whole."""
        core, lab = self._core, self._core.lab
        without = self._agents.problems()
        base = int(ipaddress.IPv4Address(core.settings.base_addr))
        base6 = int(ipaddress.IPv6Network(core.settings.ipv6)[0]) if core.settings.ipv6 else None
        nodes = tuple(
            m.NodeStatus(
                node.id,
                node.name,
                "degraded" if node.id in without and node.shown_state == "ready" else node.shown_state.value,
                str(ipaddress.IPv4Address(base + node.id)),
                node.external,
                without.get(node.id, "") if node.shown_state == "ready" else lab.readiness.missing(node),
                dict(node.labels) or None,
                "" if base6 is None else str(ipaddress.IPv6Address(base6 + node.id)),
                node.prefixes,
                node.uplink,
            )
            for node in lab.registry
        )
        links = tuple(
            m.LinkStatus(
                link.a,
                link.b,
                link_states.state_of(lab.registry, link),
                link.spec_from(link.a).without_data(),
                link.spec_from(link.b).without_data(),
                link_states.kind_of(lab.registry, link),
                link_states.reason_of(lab.registry, link),
                link.down,
            )
            for link in lab.registry.links.values()
        )
        groups = tuple(
            m.GroupStatus(
                group.id,
                group.ip,
                group.source,
                group.label,
                tuple(sorted(group.members)),
                {tree.tree_id: tree.edges for tree in group.in_force},
            )
            for group in lab.groups
        )
        runs = tuple(m.RunStatus(run.id, run.scenario, run.state, run.reason) for run in self._agents.runs)
        problems = core.problems()
        health = "degraded" if problems else "ok"
        state = "degraded" if without and core.state() == "ready" else core.state()
        head = (re, core.settings.lab, state, core.incarnation, health, problems)
        return m.Status(*head, nodes, links, groups, runs)

    # Requests.

    async def _get_status(self, session: Session, frame: Frame, message: m.GetStatus) -> None:
        session.connection.reply(frame, self.status(frame.id))

    async def _wait_ready(self, session: Session, frame: Frame, message: m.WaitReady) -> None:
        core, readiness = self._core, self._core.lab.readiness

        def ready() -> bool:
            return readiness.passed and readiness.is_settled()

        def decided() -> bool:
            return ready() or bool(self._refusals())

        progress = spawn(self._show_progress(session), name="progress of readiness")
        try:
            await core.wait_until(decided, message.timeout_ms / 1000)
        finally:
            progress.cancel()
        if ready():
            session.connection.reply(frame, self.status(frame.id))
            return
        if refusals := self._refusals():
            more = f" and {len(refusals) - 5} more" if len(refusals) > 5 else ""
            text = "; ".join(refusals[:5])
            raise LabNotReady(f"the lab cannot become ready: {text}{more}")
        waiting = readiness.waiting(5)
        done, total = readiness.counts()
        text = "; ".join(f"node {node}: {why}" for node, why in waiting.items())
        limit = message.timeout_ms / 1000
        more = f" and {total - done - len(waiting)} more" if total - done > len(waiting) else ""
        raise LabNotReady(f"{done} of {total} nodes are ready after {limit:g} s ({text}{more})")

    def _refusals(self) -> list[str]:
        """Return what keeps nodes from becoming ready that was refused again when it was repeated."""
        found = []
        for node in self._core.lab.readiness.unready():
            again = self._core.retries.refused_again(node.id)
            found += [f"node {node.id}: {why}" for what, why in node.problems.items() if what in again]
        return found

    async def _show_progress(self, session: Session) -> None:
        readiness, shown = self._core.lab.readiness, None
        while session.alive:
            ready, total = readiness.counts()
            change = m.StatusChanged(self._core.state(), ready, total, readiness.waiting(5))
            if change != shown:
                session.connection.send_nowait(change)
                shown = change
            await asyncio.sleep(PROGRESS_EVERY)

    async def _start_run(self, session: Session, frame: Frame, message: m.StartRun) -> None:
        known = self._agents.streams.get(message.run)
        if known is None and await self._core.store.run_state(message.run) is not None:
            raise RunUnknown(
                f"a run `{message.run}` has ended already", id="run.taken", hint="use another id"
            )
        if known is None:
            require_running(self._core.lab.registry, message.roles)
            self._agents.start(message)
            facts = {"run": message.run, "scenario": message.scenario}
            self._core.events.add("run.started", 0, facts)
        if known is None and not await self._core.store.stored(STORE_LIMIT):
            self._agents.stop(message.run, "Postgres did not take it")
            raise StoreUnavailable(
                f"the run was not started: Postgres has not taken it within {STORE_LIMIT:g} s",
                id="run.not-stored",
                hint="`nm status` says whether it runs",
            )
        session.connection.ack(frame)
        self._agents.streams[message.run].watch(session, 0)

    async def _stop_run(self, session: Session, frame: Frame, message: m.StopRun) -> None:
        self._agents.stop(message.run, message.reason)
        session.connection.ack(frame)

    async def _timeline_done(self, session: Session, frame: Frame, message: m.TimelineDone) -> None:
        self._agents.timelines.nodes.done(message)
        session.connection.ack(frame)

    async def _watch_run(self, session: Session, frame: Frame, message: m.WatchRun) -> None:
        await self._core.store.flushed()  # what is shown is stored, even if the controller is killed next
        streams = self._agents.streams.get(message.run)
        if streams is None:
            streams = await self._ended_run(message.run)
        session.connection.ack(frame)
        streams.watch(session, message.after)

    async def _ended_run(self, run: str) -> EventStream:
        """Return a run that is only in Postgres."""
        store = self._core.store
        state = await store.run_state(run)
        if state is None:
            raise RunUnknown(f"there is no run `{run}`")
        streams = EventStream(run, store)
        streams.show(await store.last_run_event(run))
        failures = failures_of([(row[0], row[1], row[2], row[3]) for row in await store.run_failures(run)])
        streams.end(m.RunFinished(run, state[1] == "finished", state[2], failures))
        return streams

    async def _save_result(self, session: Session, frame: Frame, message: m.SaveResult) -> None:
        ack = self._core.ack_stored(session, frame)
        try:
            self._core.store.runs.result(message.run, message.verdict, message.document, ack.refuse)
        except ValueError as error:
            ack.refuse(str(error))

    # Helpers.

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = spawn(work, name="operator's request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, work: Awaitable[None], session: Session, frame: Frame) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await work
            except ProtocolError as error:
                session.connection.refuse(frame, error)
            except NmError as error:
                session.connection.refuse(frame, ProtocolError(error.message, id=error.id, hint=error.hint))
            except Exception:
                text = f"{frame.message.type} could not be handled"
                session.connection.refuse(frame, ProtocolError(text, id="control.internal"))
                raise  # into the log
