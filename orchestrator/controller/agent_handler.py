"""Handle messages from agents, the processes that run roles, and carry out the decisions of `runs`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator import procfs
from orchestrator.controller.core import AfterStore, Core, Session
from orchestrator.controller.errors import RunUnknown
from orchestrator.controller.event_streams import EventStream
from orchestrator.controller.faults import Faults
from orchestrator.controller.logs import LogLimit
from orchestrator.controller.rows import role_row, run_from, run_row, value_bytes
from orchestrator.controller.run import Role, Run
from orchestrator.controller.runs import Runs
from orchestrator.controller.timelines import RunLines, Timelines
from orchestrator.errors import NmError
from orchestrator.protocol import Frame, Message, ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.store import RunRow
from orchestrator.values import MAX_LOG_BYTES, safe_text

__all__ = ["AgentHandler"]

KEEP_ENDED = 20
"""Runs that ended and are kept in memory for those who still watch."""

AGENT_LIMIT_S = 30.0
"""How long an agent that is called for may take to come before its nodes count as degraded. With a hundred
containers on two processors the last one is loaded after twenty seconds."""


class AgentHandler:
    """Handles messages from agents, and implements the `Effects` of `Runs`.

    Attributes:
        runs: The decisions.
        streams: Events of runs in memory, by run.
        timelines: Changes of links during runs.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.runs = Runs(self, core.lab.names)
        self.streams: dict[str, EventStream] = {}
        lines = RunLines(core, self.runs, self.stop)
        self.timelines = Timelines(Faults(core).change, lines, core.clock.monotonic)
        self._timer: asyncio.TimerHandle | None = None
        self._starting = ""
        self._started: list[m.RunEvent] = []
        self._deferred_replies: dict[tuple[str, str, str, int], list[tuple[Session, Frame]]] = {}
        # A role that acts on a released barrier, or a client that has seen an event, must not find, after the
        # controller was killed, that it never happened: so it is sent once all that led to it is in Postgres.
        self._outbox = AfterStore(core.store.flushed, "messages about runs")
        self._logs: dict[str, LogLimit] = {}
        self._boot = procfs.boot_id()
        self._troubles: dict[Session, dict[int, str]] = {}
        self._awaited: dict[int, float] = {}  # nodes whose agent was called and has not come, and since when
        core.on_registered.append(lambda node: self._node_registered(node.id))
        core.on_stopped.append(lambda node: self._node_stopped(node.id))
        self.handlers: dict[type[Message], Callable[[Session, Frame, Any], None]] = {
            m.AgentHello: self._hello,
            m.AgentTroubles: self._set_troubles,
            m.RoleStarted: self._role_started,
            m.RoleReport: self._report,
            m.RoleProgress: self._progress,
            m.RoleLog: self._log,
            m.RoleFinished: self._role_finished,
            m.BarrierEnter: self._barrier,
            m.Publish: self._publish,
            m.Lookup: self._lookup,
            m.ChangeLinks: self._change_links,
        }

    def take(self, session: Session, frame: Frame) -> None:
        """Handle a message."""
        handler = self.handlers.get(type(frame.message))
        if handler is not None:
            handler(session, frame, frame.message)
            self._schedule()

    def lost(self, session: Session) -> None:
        """Handle the end of an agent's connection; the agent may reconnect within a grace time."""
        self._troubles.pop(session, None)
        self.runs.detach(session, self._core.now_ms())
        for key in list(self._deferred_replies):
            self._deferred_replies[key] = [
                each for each in self._deferred_replies[key] if each[0] is not session
            ]
            if not self._deferred_replies[key]:
                del self._deferred_replies[key]
        self._schedule()

    def start(self, wanted: m.StartRun) -> Run:
        """Start a run.

        Raises:
            RunInvalid: It cannot be started.
        """
        self.streams[wanted.run] = EventStream(wanted.run, self._core.store)
        self._starting = wanted.run  # until the run is written, nothing can refer to it
        try:
            run = self.runs.start(wanted, self._core.now_ms())
        except Exception:
            del self.streams[wanted.run]
            self._started.clear()
            raise
        finally:
            self._starting = ""
        began = self._core.clock.monotonic()
        self._core.store.runs.begin(run_row(run, began, self._boot))
        for event in self._started:
            self._keep(run, event)
        self._started.clear()
        self._core.store.lab.save_traces(wanted.traces or {})
        self.timelines.plan(run)
        self._forget_old()
        self._schedule()
        return run

    def stop(self, run_id: str, reason: str) -> None:
        """Stop a run; see `Runs.stop`."""
        self.runs.stop(run_id, reason, self._core.now_ms())
        self._schedule()

    def restore(self, row: RunRow, traces: Mapping[str, bytes]) -> None:
        """Resume a run that was under way when the last controller ended.

        Its time limit includes the time without a controller: exactly, on the monotonic clock, if the machine
        has not been booted in between; else by the wall clock, but never less than nothing.

        Args:
            row: The run.
            traces: The contents of traces that its timeline may name, by digest.
        """
        now_ms = self._core.now_ms()
        if row.boot and row.boot == self._boot:
            used_ms = round((self._core.clock.monotonic() - row.started_monotonic) * 1000)
        else:
            used_ms = now_ms - row.started_ms
        run = run_from(row, now_ms - max(0, used_ms))
        self.streams[run.id] = EventStream(run.id, self._core.store, row.last_event)
        self.runs.restore(run, now_ms)
        self.timelines.restore(run, row.timeline, now_ms, traces)
        self.runs.settle(run, now_ms)
        self._schedule()

    def problems(self) -> dict[int, str]:
        """Return the nodes that carry packets but cannot run roles, and why."""
        registry, now = self._core.lab.registry, self._core.clock.monotonic()
        gone = "its agent ended and did not reconnect, so that no role can run here"
        found = dict.fromkeys(self.runs.agents_gone, gone)
        silent = "its agent did not stop a role in time, and has not reported its end"
        found |= dict.fromkeys(self.runs.agents_silent, silent)
        for node, since in self._awaited.items():
            if now - since > AGENT_LIMIT_S:
                found[node] = "its agent was requested and has not connected, so that no role can run here"
        for troubles in self._troubles.values():
            found |= troubles
        return {
            node: found[node]
            for node in sorted(found)
            if node in registry and registry.node(node).peer is not None
        }

    def close(self) -> None:
        """Cancel all timers and tasks."""
        if self._timer is not None:
            self._timer.cancel()
        self._outbox.close()
        self.timelines.close()
        for streams in self.streams.values():
            streams.close()

    # Effects of `Runs`.

    def send(self, peer: Hashable, message: Message) -> None:
        """See `Effects.send`."""
        if not isinstance(peer, Session):
            return
        if isinstance(message, m.StopRole):
            # Sent at once: the end of a run must not wait for the store.
            peer.connection.send_nowait(message, node=message.node)
        self._outbox.post(lambda: self._send(peer, message))

    def _send(self, peer: Session, message: Message) -> None:
        try:
            self._send_now(peer, message)
        except ProtocolError as error:  # too large for a message: its roles cannot run
            run = self.runs.get(getattr(message, "run", ""))
            for role in [] if run is None else [role for role in run.roles.values() if not role.over]:
                if run is not None and role.node in peer_nodes(self.runs, peer):
                    self.runs.refused(run.id, role.node, error.message, self._core.now_ms())
            self._schedule()

    def _send_now(self, peer: Session, message: Message) -> None:
        if not isinstance(message, m.RunRole):
            node = message.node if isinstance(message, m.StopRole) else 0
            peer.connection.send_nowait(message, node=node)
            if isinstance(message, m.BarrierReleased):
                self._answer([(message.run, "barrier", message.name, message.generation)], peer)
            elif isinstance(message, m.Published):
                self._answer([(message.run, "lookup", message.key, 0)], peer)
            return
        role = message

        def replied(reply: Message | None) -> None:
            if isinstance(reply, m.Error):
                self.runs.refused(role.run, role.node, reply.message, self._core.now_ms())
                self._schedule()

        peer.connection.ask(role, replied, node=role.node)

    def call(self, nodes: Iterable[int]) -> None:
        """See `Effects.call`."""
        nodes = list(nodes)
        now = self._core.clock.monotonic()
        for node in nodes:
            self._awaited.setdefault(node, now)
        peers = {node: self._core.lab.registry.node(node).peer for node in nodes}
        # One call is enough for all nodes of a process.
        for peer, node in {peer: node for node, peer in peers.items() if isinstance(peer, Session)}.items():
            peer.connection.send_nowait(m.AgentWanted(), node=node)

    def record_event(self, run: Run, event: m.RunEvent) -> None:
        """See `Effects.record_event`."""
        streams = self.streams[run.id]
        if not event.seq:
            streams.progress(event)
            return
        streams.add(event)
        self._outbox.post(lambda: streams.show(event.seq))
        if event.kind == "report":
            return  # it is kept with its row
        if run.id == self._starting:
            self._started.append(event)
        else:
            self._keep(run, event)

    def save_roles(self, run: Run, roles: Iterable[Role]) -> None:
        """See `Effects.save_roles`."""
        if run.id != self._starting:
            self._core.store.runs.roles(run.id, tuple(role_row(role) for role in roles))

    def save_barrier(self, run: Run, name: str, generation: int) -> None:
        """See `Effects.save_barrier`."""
        self._core.store.runs.barrier(run.id, name, generation)

    def save_run(self, run: Run, now_ms: int) -> None:
        """See `Effects.save_run`."""
        self.timelines.end(run)
        if not run.over:  # an end is stored by `report_end`
            self._core.store.runs.state(run.id, run.state, run.reason, None)

    def report_end(self, run: Run, message: m.RunFinished) -> None:
        """See `Effects.report_end`."""
        facts = {"run": run.id, "ok": message.ok, "reason": message.reason}
        self._core.events.add("run.finished", 0, facts, level="info" if message.ok else "warning")
        streams = self.streams[run.id]
        self._logs.pop(run.id, None)
        self._core.run_over(run.id)

        def end() -> None:  # stored when links are as declared, so that a restarted controller resets them
            self._core.store.runs.state(run.id, run.state, run.reason, self._core.now_ms())
            self._outbox.post(lambda: streams.end(message))

        self.timelines.when_reset(run.id, end)
        self._outbox.post(lambda: self._answer([key for key in self._deferred_replies if key[0] == run.id]))

    # Messages from agents.

    def _hello(self, session: Session, frame: Frame, message: m.AgentHello) -> None:
        for node in message.nodes:
            self._core.lab.registry.node(node)
            self._awaited.pop(node, None)
        self.runs.attach(session, message, self._core.now_ms())
        session.connection.ack(frame)

    def _set_troubles(self, session: Session, frame: Frame, message: m.AgentTroubles) -> None:
        self._troubles[session] = dict(message.troubles)
        session.connection.ack(frame)

    def _node_registered(self, node: int) -> None:
        self._awaited.pop(node, None)  # a new process, which has not been called yet
        self.runs.node_registered(node)

    def _node_stopped(self, node: int) -> None:
        self._awaited.pop(node, None)
        self.runs.node_stopped(node, self._core.now_ms())
        self._schedule()

    def _role_started(self, session: Session, frame: Frame, message: m.RoleStarted) -> None:
        self.runs.started(message.run, message.node, self._core.now_ms())
        run = self.runs.get(message.run)
        if run is not None:
            self.timelines.role_started(run)
        session.connection.ack(frame)

    def _report(self, session: Session, frame: Frame, message: m.RoleReport) -> None:
        now_ms = self._core.now_ms()
        where = (message.run, message.node, message.seq)
        event = self.runs.row(*where, message.row, now_ms)
        if not event:
            run = self.runs.get(message.run)
            if run is None or run.late or run.over:
                session.connection.ack(frame)  # it is not kept, so there is nothing to wait for
            else:
                self._core.ack_stored(session, frame)
            return
        ack = self._core.ack_stored(session, frame)
        streams = self.streams[message.run]

        def refused(reason: str) -> None:
            ack.refuse(reason)
            streams.drop(event)
            self.runs.row_refused(*where, reason)

        try:
            self._core.store.runs.row(*where, message.role, message.row, now_ms, event, refused)
        except ValueError as error:  # the agent has checked it already, but agents are not trusted
            refused(str(error))

    def _progress(self, session: Session, frame: Frame, message: m.RoleProgress) -> None:
        data = {"done": message.done, "total": message.total}
        self.runs.output(message.run, message.node, "progress", data, self._core.now_ms())
        session.connection.ack(frame)

    def _log(self, session: Session, frame: Frame, message: m.RoleLog) -> None:
        now_ms = self._core.now_ms()
        text = safe_text(message.text, limit=MAX_LOG_BYTES)
        limit = self._logs.setdefault(message.run, LogLimit(self._core.clock))
        left_out = limit.take(len(text))
        if left_out is not None:
            if left_out:
                said = f"{left_out} lines of the run's log were left out here: {LogLimit.RULE}"
                data = {"level": "warning", "text": said}
                self.runs.output(message.run, message.node, "log", data, now_ms)
            data = {"level": message.level[:20], "text": text}
            self.runs.output(message.run, message.node, "log", data, now_ms)
        session.connection.ack(frame)

    def _role_finished(self, session: Session, frame: Frame, message: m.RoleFinished) -> None:
        def settle() -> None:
            self.runs.finished(
                message.run,
                message.node,
                ok=message.ok,
                error=message.error,
                traceback=message.traceback,
                now_ms=self._core.now_ms(),
                rows=message.rows,
            )
            self._core.ack_stored(session, frame)
            self._schedule()

        # What it reported is in Postgres, or was refused, before it is counted.
        self._outbox.post(settle)

    def _barrier(self, session: Session, frame: Frame, message: m.BarrierEnter) -> None:
        # Acknowledged when it opens, not before: a role that still waits when the controller is killed has to
        # come again, since who is waiting is not written down.
        self._defer_reply(session, frame, message.run, ("barrier", message.name, message.generation))
        where = (message.run, message.node, message.name, message.generation)
        self.runs.enter_barrier(*where, self._core.now_ms())

    def _publish(self, session: Session, frame: Frame, message: m.Publish) -> None:
        size = value_bytes(message.value) + len(message.key)
        if not self.runs.publish(message.run, message.key, message.value, size):
            session.connection.ack(frame)
            return
        ack = self._core.ack_stored(session, frame)
        try:
            self._core.store.runs.value(message.run, message.key, message.value, ack.refuse)
        except ValueError as error:
            ack.refuse(str(error))

    def _lookup(self, session: Session, frame: Frame, message: m.Lookup) -> None:
        self._defer_reply(session, frame, message.run, ("lookup", message.key, 0))
        self.runs.lookup(message.run, message.key, session)

    def _change_links(self, session: Session, frame: Frame, message: m.ChangeLinks) -> None:
        run = self.runs.get(message.run)
        role = None if run is None else run.roles.get(message.node)

        def done(error: NmError | None) -> None:
            session.connection.ack(frame)
            where = (message.run, message.node, message.number)
            told = ("", "") if error is None else (error.message, error.id)
            session.connection.send_nowait(m.LinksChanged(*where, *told))

        if run is None or role is None:
            done(RunUnknown(f"node {message.node} has no role in a run `{message.run}`"))
            return
        cause = f"role {role.role} in node {role.node} of {run.id}"
        self.timelines.begin_by_role(run, role, message.number, replace(message.change, cause=cause), done)

    # Helpers.

    def _defer_reply(self, session: Session, frame: Frame, run_id: str, key: tuple[str, str, int]) -> None:
        """Defer the reply to a request until its condition holds, or its run has ended."""
        run = self.runs.get(run_id)
        if run is None or run.over:
            session.connection.ack(frame)
        else:
            self._deferred_replies.setdefault((run_id, *key), []).append((session, frame))

    def _answer(self, keys: Iterable[tuple[str, str, str, int]], only: Session | None = None) -> None:
        for key in keys:
            held = self._deferred_replies.pop(key, [])
            kept = [each for each in held if only is not None and each[0] is not only]
            if kept:
                self._deferred_replies[key] = kept
            for session, frame in held:
                if only is None or session is only:
                    session.connection.ack(frame)

    def _keep(self, run: Run, event: m.RunEvent) -> None:
        where = (event.seq, event.time_ms, event.kind, event.node, event.role)
        self._core.store.runs.event(run.id, *where, event.data)

    def _forget_old(self) -> None:
        ended = [run_id for run_id, streams in self.streams.items() if streams.finished is not None]
        for run_id in ended[:-KEEP_ENDED]:
            self.streams.pop(run_id).close()
            self.runs.forget(run_id)

    def _schedule(self) -> None:
        """Schedule a call of `tick` for the next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.runs.next_due()
        if due is not None:
            wait = max(0.01, (due - self._core.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.runs.tick(self._core.now_ms())
        finally:
            self._schedule()


def peer_nodes(runs: Runs, peer: Session) -> set[int]:
    """Return the nodes whose roles an agent runs."""
    return {node for node, each in runs.agents.items() if each is peer}
