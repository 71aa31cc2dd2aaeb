"""The desk for agents: the processes that run roles. Carries out what `runs` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.run import Role, Run
from orchestrator.controller.runs import Runs
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.store import RoleRow, RunRow

__all__ = ["AgentDesk", "Watched"]

KEEP_ENDED = 20
"""Runs that ended and are kept in memory for those who still watch."""

AGENT_LIMIT_S = 30.0
"""How long an agent that is called for, or that was lost, may take to come before its nodes count as degraded. With
a hundred containers on two processors the last one is loaded after twenty seconds."""


@dataclass(slots=True)
class Watched:
    """What a run's watchers see: its events so far, its end, and who they are."""

    events: list[m.RunEvent] = field(default_factory=list)
    finished: m.RunFinished | None = None
    watchers: set[Session] = field(default_factory=set)


class AgentDesk:
    """Takes what agents say, and is the `Effects` of `Runs`.

    Attributes:
        runs: The decisions.
        watched: Events of runs in memory, by run.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.runs = Runs(self, {node.id: node.name for node in core.lab.registry})
        self.watched: dict[str, Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._beginning = ""
        self._held: dict[tuple[str, str, str, int], list[tuple[Session, Frame]]] = {}
        self._outbox: list[Callable[[], None]] = []
        self._sender: asyncio.Task[None] | None = None
        core.on_came.append(lambda node: self._came(node.id))
        self._troubles: dict[Session, dict[int, str]] = {}
        self._awaited: dict[int, float] = {}  # nodes whose agent should come, and since when
        self._handlers: dict[type[Message], Callable[[Session, Frame, Any], None]] = {
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
        }

    def take(self, session: Session, frame: Frame) -> None:
        """Take a message."""
        handler = self._handlers.get(type(frame.message))
        if handler is not None:
            handler(session, frame, frame.message)
            self._schedule()

    def lost(self, session: Session) -> None:
        """An agent's connection has ended; it has a moment to come back."""
        self._troubles.pop(session, None)
        now = self._core.clock.monotonic()
        for node in self.runs.detach(session, self._core.now_ms()):
            self._awaited[node] = now
        for key in list(self._held):
            self._held[key] = [each for each in self._held[key] if each[0] is not session]
            if not self._held[key]:
                del self._held[key]
        self._schedule()

    def trouble(self, node: int) -> str:
        """What keeps a node from running roles as it should, as a sentence; empty when nothing does."""
        for troubles in self._troubles.values():
            if node in troubles:
                return troubles[node]
        since = self._awaited.get(node)
        waited = 0.0 if since is None else self._core.clock.monotonic() - since
        return "no agent has come to run its roles" if waited > AGENT_LIMIT_S else ""

    def start(self, wanted: m.StartRun) -> Run:
        """Start a run.

        Raises:
            RunInvalid: It cannot be started.
        """
        self.watched[wanted.run] = Watched()
        self._beginning = wanted.run  # until the run is written, nothing can refer to it
        try:
            run = self.runs.start(wanted, self._core.now_ms())
        except Exception:
            del self.watched[wanted.run]
            raise
        finally:
            self._beginning = ""
        self._core.store.runs.begin(_run_row(run))
        for event in self.watched[run.id].events:
            self._keep(run, event)
        self._forget_old()
        self._schedule()
        return run

    def stop(self, run_id: str, reason: str) -> None:
        """Stop a run.

        Raises:
            RunUnknown: There is none of that name.
        """
        self.runs.stop(run_id, reason, self._core.now_ms())
        self._schedule()

    def restore(self, row: RunRow, events: Iterable[m.RunEvent]) -> None:
        """Take a run that was under way when the last controller ended."""
        roles = {
            role.node: Role(
                role.node, role.role, role.state, role.error, role.traceback, row.rows.get(role.node, 0)
            )
            for role in row.roles
        }
        run = Run(
            row.run,
            row.scenario,
            row.entry,
            row.files,
            row.params,
            row.seed,
            row.timeout_s,
            row.started_ms,
            roles,
            row.state,
            row.reason,
            dict(row.values),
            dict(row.barriers),
            last_event=row.last_event,
        )
        self.watched[run.id] = Watched(list(events))
        self.runs.restore(run, self._core.now_ms())
        self._schedule()

    def close(self) -> None:
        """Drop what is scheduled."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()

    # What `Runs` decides.

    def send(self, peer: Hashable, message: Message) -> None:
        """See `Effects.send`."""
        if isinstance(peer, Session):
            self._post(lambda: self._send(peer, message))

    def _send(self, peer: Session, message: Message) -> None:
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

    def happened(self, run: Run, event: m.RunEvent) -> None:
        """See `Effects.happened`."""
        watched = self.watched.setdefault(run.id, Watched())
        self._show(watched, event)
        if event.seq:
            watched.events.append(event)
            if run.id != self._beginning:
                self._keep(run, event)

    def changed(self, run: Run, roles: Iterable[Role]) -> None:
        """See `Effects.changed`."""
        if run.id != self._beginning:
            self._core.store.runs.roles(run.id, tuple(_role_row(role) for role in roles))

    def released(self, run: Run, name: str, generation: int) -> None:
        """See `Effects.released`."""
        self._core.store.runs.barrier(run.id, name, generation)

    def stands(self, run: Run, now_ms: int) -> None:
        """See `Effects.stands`."""
        self._core.store.runs.state(run.id, run.state, run.reason, now_ms if run.over else None)

    def ended(self, run: Run, message: m.RunFinished) -> None:
        """See `Effects.ended`."""
        facts = {"run": run.id, "ok": message.ok, "reason": message.reason}
        self._core.events.add("run.finished", 0, facts, level="info" if message.ok else "warning")
        watched = self.watched.setdefault(run.id, Watched())
        watched.finished = message
        self._show(watched, message)
        self._post(lambda: self._answer([key for key in self._held if key[0] == run.id]))

    # What agents say.

    def _hello(self, session: Session, frame: Frame, message: m.AgentHello) -> None:
        for node in message.nodes:
            self._core.lab.registry.node(node)
            self._awaited.pop(node, None)
        self.runs.attach(session, message, self._core.now_ms())
        session.connection.ack(frame)

    def _set_troubles(self, session: Session, frame: Frame, message: m.AgentTroubles) -> None:
        self._troubles[session] = dict(message.troubles)
        session.connection.ack(frame)

    def _came(self, node: int) -> None:
        self._awaited.pop(node, None)  # a new process, which has not been called yet
        self.runs.came(node)

    def _role_started(self, session: Session, frame: Frame, message: m.RoleStarted) -> None:
        self.runs.started(message.run, message.node, self._core.now_ms())
        session.connection.ack(frame)

    def _report(self, session: Session, frame: Frame, message: m.RoleReport) -> None:
        now_ms = self._core.now_ms()
        if self.runs.row(message.run, message.node, message.seq, message.row, now_ms):
            where = (message.run, message.node, message.seq, message.role)
            self._core.store.runs.row(*where, message.row, now_ms)
        self._core.ack_when_stored(session, frame)

    def _progress(self, session: Session, frame: Frame, message: m.RoleProgress) -> None:
        data = {"done": message.done, "total": message.total}
        self.runs.said(message.run, message.node, "progress", data, self._core.now_ms())
        session.connection.ack(frame)

    def _log(self, session: Session, frame: Frame, message: m.RoleLog) -> None:
        data = {"level": message.level, "text": message.text}
        self.runs.said(message.run, message.node, "log", data, self._core.now_ms())
        session.connection.ack(frame)

    def _role_finished(self, session: Session, frame: Frame, message: m.RoleFinished) -> None:
        self.runs.finished(
            message.run,
            message.node,
            ok=message.ok,
            error=message.error,
            traceback=message.traceback,
            now_ms=self._core.now_ms(),
        )
        self._core.ack_when_stored(session, frame)

    def _barrier(self, session: Session, frame: Frame, message: m.BarrierEnter) -> None:
        # Acknowledged when it opens, not before: a role that still waits when the controller is killed has to
        # come again, since who is waiting is not written down.
        self._hold(session, frame, message.run, ("barrier", message.name, message.generation))
        where = (message.run, message.node, message.name, message.generation)
        self.runs.enter(*where, self._core.now_ms())

    def _publish(self, session: Session, frame: Frame, message: m.Publish) -> None:
        if self.runs.publish(message.run, message.key, message.value):
            self._core.store.runs.value(message.run, message.key, message.value)
        self._core.ack_when_stored(session, frame)

    def _lookup(self, session: Session, frame: Frame, message: m.Lookup) -> None:
        self._hold(session, frame, message.run, ("lookup", message.key, 0))
        self.runs.lookup(message.run, message.key, session)

    # How.

    def _hold(self, session: Session, frame: Frame, run_id: str, key: tuple[str, str, int]) -> None:
        """Keep a request unanswered until what it waits for has come about, or its run has ended."""
        run = self.runs.get(run_id)
        if run is None or run.over:
            session.connection.ack(frame)
        else:
            self._held.setdefault((run_id, *key), []).append((session, frame))

    def _answer(self, keys: Iterable[tuple[str, str, str, int]], only: Session | None = None) -> None:
        for key in keys:
            held = self._held.pop(key, [])
            kept = [each for each in held if only is not None and each[0] is not only]
            if kept:
                self._held[key] = kept
            for session, frame in held:
                if only is None or session is only:
                    session.connection.ack(frame)

    def _show(self, watched: Watched, message: Message) -> None:
        watchers = tuple(watched.watchers)

        def show() -> None:
            for session in watchers:
                session.connection.send_nowait(message)

        if watchers:
            self._post(show)

    def _post(self, send: Callable[[], None]) -> None:
        """Send something once all that led to it is in Postgres.

        Whoever acts on a released barrier or has seen an event must not find, after the controller was
        killed, that it never happened.
        """
        self._outbox.append(send)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_posted())

    async def _send_posted(self) -> None:
        while self._outbox:
            posted, self._outbox = self._outbox, []
            await self._core.store.flushed()
            for send in posted:
                send()
        self._sender = None

    def _keep(self, run: Run, event: m.RunEvent) -> None:
        where = (event.seq, event.time_ms, event.kind, event.node, event.role)
        self._core.store.runs.event(run.id, *where, event.data)

    def _forget_old(self) -> None:
        ended = [run_id for run_id, watched in self.watched.items() if watched.finished is not None]
        for run_id in ended[:-KEEP_ENDED]:
            del self.watched[run_id]
            self.runs.forget(run_id)

    def _schedule(self) -> None:
        """See to it that `tick` is called when something is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.runs.next_due()
        if due is not None:
            wait = max(0.01, (due - self._core.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.runs.tick(self._core.now_ms())
        self._schedule()


def _role_row(role: Role) -> RoleRow:
    return RoleRow(role.node, role.role, role.state, role.error, role.traceback)


def _run_row(run: Run) -> RunRow:
    return RunRow(
        run=run.id,
        scenario=run.scenario,
        state=run.state,
        reason=run.reason,
        entry=run.entry,
        params=run.params,
        seed=run.seed,
        timeout_s=run.timeout_s,
        started_ms=run.started_ms,
        files=run.files,
        roles=tuple(_role_row(role) for role in run.roles.values()),
        rows={},
        values={},
        barriers={},
        last_event=run.last_event,
    )
