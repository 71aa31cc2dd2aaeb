"""Probe links on request of operators and of SQL, one probe of a link after the other.

A probe is a row of `probes`. Each one is sent to the node that probes, and waits until no other probe of the
same link runs: two at once would measure each other. Probes of different links run at the same time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import log
from orchestrator.controller import link_states
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import ProbeInvalid, ProbeNotEnded, ProbeRefused, ProbeUnknown
from orchestrator.controller.registry import Node
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Frame, Message, ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.store import ProbeRow
from orchestrator.tasks import spawn

__all__ = ["Probes"]

BYTES = (10_000, 4 * 1024**3)
"""Bounds of the bytes of a probe: a train of few packets, and a second of the fastest link."""

TIME_MS = (100, 60_000)
"""Bounds of its time, in milliseconds."""

MOST_WAITING = 16
"""Probes of one link that wait for the one that runs."""

GRACE_S = 5.0
"""Seconds behind its time in which the node reports a probe: it waits 2 s for its neighbour's last answer."""

MAX_PAGE = 10_000
MAX_WAIT_S = 86_400.0
MOST = 2**63 - 1

_LOG = log.get(__name__)

_Key = tuple[int, int]


@dataclass(slots=True)
class _Running:
    """The probe of a link that runs, the process that probes, and the timer that ends the wait for it."""

    row: ProbeRow
    process: int
    timer: asyncio.TimerHandle


class Probes:
    """The probes of the lab.

    Attributes:
        of_operators: What answers operators, by type.
        reports: What handles the reports of nodes, by type.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: dict[_Key, deque[ProbeRow]] = {}
        self._running: dict[_Key, _Running] = {}
        self._known: set[int] = set()
        self._last_ended = 0
        self._ended = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._again = False
        self.of_operators: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.StartProbe: self._start,
            m.GetProbe: self._get,
            m.WaitProbe: self._wait,
            m.GetProbes: self._list,
        }
        self.reports: dict[type[Message], Callable[[Session, Node, Frame, Any], None]] = {
            m.ProbeResult: self._result
        }
        core.on_stopped.append(lambda node: self._node_ended(node, "was stopped"))
        core.on_registered.append(self._node_came)

    async def start(self) -> None:
        """Take over the rows of the controller before this one; what ran then has failed.

        Raises:
            StoreUnavailable: Postgres does not answer.
        """
        for row in await self._core.store.open_probes():
            if row.state == "running":
                self._end(replace(row, state="failed", reason="the controller was started again meanwhile"))

    def close(self) -> None:
        """Cancel all timers and tasks."""
        if self._reader is not None:
            self._reader.cancel()
        for running in self._running.values():
            running.timer.cancel()

    def changed(self) -> None:
        """Read the rows; a change that comes meanwhile leads to one more reading."""
        self._again = True
        if self._reader is None:
            self._reader = spawn(self._read(), name="reader of probes", failed=self._reading_failed)

    # Operators.

    async def _start(self, session: Session, frame: Frame, message: m.StartProbe) -> None:
        core, registry = self._core, self._core.lab.registry
        for what, found, (least, most) in (
            ("send {} bytes", message.probe_bytes, BYTES),
            ("take {} ms", message.time_ms, TIME_MS),
        ):
            if not least <= found <= most:
                text = f"a probe may {what.format(f'{least} to {most}')}, not {found}"
                raise ProbeInvalid(text, found=str(found), expected=f"{least} to {most}")
        for node in (message.src, message.dst):
            registry.node(node)
        link = registry.link(message.src, message.dst)
        if reason := self._refusal(message.src, message.dst, below=message.below):
            raise ProbeRefused(f"link {link.a}–{link.b} cannot be probed: {reason}")
        if len(self._waiting.get((link.a, link.b), ())) >= MOST_WAITING:
            raise ProbeRefused(
                f"{MOST_WAITING} probes of link {link.a}–{link.b} wait already",
                id="probe.busy",
                hint="wait for them: probes of one link run one after the other",
            )
        await core.store.flushed()  # the nodes, when the controller has just started
        probe_id = await core.store.add_probe(
            message.src, message.dst, message.probe_bytes, message.time_ms, below=message.below
        )
        await self._read_all()
        session.connection.ack(frame, {"id": probe_id})

    async def _get(self, session: Session, frame: Frame, message: m.GetProbe) -> None:
        session.connection.reply(frame, m.ProbeList(frame.id, (await self._status(message.id),)))

    async def _wait(self, session: Session, frame: Frame, message: m.WaitProbe) -> None:
        await self._status(message.id)
        limit = min(message.timeout_ms / 1000, MAX_WAIT_S)
        try:
            async with asyncio.timeout(limit):
                while message.id in self._known:
                    await self._ended.wait()
        except TimeoutError:
            raise ProbeNotEnded(f"probe {message.id} has not ended after {limit:g} s") from None
        await self._core.store.flushed()
        session.connection.reply(frame, m.ProbeList(frame.id, (await self._status(message.id),)))

    async def _list(self, session: Session, frame: Frame, message: m.GetProbes) -> None:
        limit = max(1, min(message.limit, MAX_PAGE))
        await self._core.store.flushed()
        rows = await self._core.store.read_probes(min(message.after, MOST), limit + 1)
        found = tuple(_status_of(row) for row in rows[:limit])
        session.connection.reply(frame, m.ProbeList(frame.id, found, len(rows) > limit))

    async def _status(self, probe_id: int) -> m.ProbeStatus:
        """Return a probe.

        Raises:
            ProbeUnknown: There is none of that number.
        """
        await self._core.store.flushed()
        if 0 < probe_id <= MOST:
            for row in await self._core.store.read_probes(probe_id - 1, 1):
                if row.probe_id == probe_id:
                    return _status_of(row)
        raise ProbeUnknown(f"there is no probe {probe_id}")

    # Rows.

    async def _read_all(self) -> None:
        """Read what is new, and wait until that is done."""
        self.changed()
        while self._reader is not None:
            await asyncio.wait({self._reader})

    def _reading_failed(self, _: Exception) -> None:
        self._reader = None

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._core.store.flushed()  # what has ended is written
                for row in await self._core.store.open_probes():
                    if row.state == "waiting" and row.probe_id not in self._known:
                        self._enqueue(row)
        except StoreUnavailable as error:  # it is read again when Postgres is back
            _LOG.debug("probes not read", reason=error.message)
        self._reader = None

    def _enqueue(self, row: ProbeRow) -> None:
        key = (min(row.src, row.dst), max(row.src, row.dst))
        waiting = self._waiting.setdefault(key, deque())
        if len(waiting) >= MOST_WAITING:
            self._end(replace(row, state="failed", reason=f"{MOST_WAITING} probes of the link wait already"))
            return
        self._known.add(row.probe_id)
        waiting.append(row)
        self._next(key)

    def _next(self, key: _Key) -> None:
        """Begin the next probe of a link, unless one runs."""
        while key not in self._running:
            waiting = self._waiting.get(key)
            if not waiting:
                self._waiting.pop(key, None)
                return
            row = replace(waiting.popleft(), start_us=self._now_us())
            reason = self._begin(key, row)
            if reason:
                self._end(replace(row, state="failed", reason=reason))

    def _begin(self, key: _Key, row: ProbeRow) -> str:
        """Send a probe to its node; return why it cannot be, empty if it was."""
        core, registry = self._core, self._core.lab.registry
        if key not in registry.links:
            return f"there is no link between node {row.src} and node {row.dst}"
        reason = self._refusal(row.src, row.dst, below=row.below)
        node = registry.node(row.src)
        if reason or not isinstance(node.peer, Session):
            return reason or f"node {row.src} is {node.state}"
        limit = row.time_ms / 1000 + GRACE_S
        timer = asyncio.get_running_loop().call_later(limit, self._overdue, key, limit)
        self._running[key] = _Running(replace(row, state="running"), node.process, timer)
        core.store.probes.started(row.probe_id, row.start_us or 0)

        def replied(reply: Message | None) -> None:
            if isinstance(reply, m.Error):
                self._over(key, row.probe_id, replace(row, state="failed", reason=reply.message))

        order = m.ProbeLink(row.dst, row.probe_id, row.probe_bytes, row.time_ms, row.below)
        try:
            node.peer.connection.ask(order, replied, node=row.src)
        except ProtocolError as error:
            replied(m.Error(0, error.id, error.message))
        return ""

    def _refusal(self, src: int, dst: int, *, below: bool) -> str:
        """Return why a link cannot be probed now; empty if it can."""
        registry = self._core.lab.registry
        link = registry.link(src, dst)
        state = link_states.state_of(registry, link)
        if state != "up":
            return link_states.reason_of(registry, link) or f"it is {state}"
        return "" if below or link.carries_from(src) else link.down_reason

    # Results.

    def _result(self, session: Session, node: Node, frame: Frame, message: m.ProbeResult) -> None:
        key = (min(node.id, message.remote_node_id), max(node.id, message.remote_node_id))
        running = self._running.get(key)
        if running is not None and running.row.probe_id == message.probe_id and running.row.src == node.id:
            self._over(key, message.probe_id, _measured(running.row, message))
        self._core.ack_stored(session, frame)

    def _node_came(self, node: Node) -> None:
        """End the probes of a node whose process is another one than that which probed."""
        if any(each.row.src == node.id and each.process != node.process for each in self._running.values()):
            self._node_ended(node, "was started again")

    def _node_ended(self, node: Node, what: str) -> None:
        for key, each in list(self._running.items()):
            if each.row.src == node.id:
                reason = f"node {node.id} {what} meanwhile"
                self._over(key, each.row.probe_id, replace(each.row, state="failed", reason=reason))

    def _overdue(self, key: _Key, limit: float) -> None:
        running = self._running[key]
        row = running.row
        registry = self._core.lab.registry
        state = f"it is {registry.node(row.src).state}" if row.src in registry else "it was removed"
        reason = f"node {row.src} has not reported a result within {limit:g} s; {state}"
        self._over(key, row.probe_id, replace(row, state="failed", reason=reason))

    def _over(self, key: _Key, probe_id: int, row: ProbeRow) -> None:
        """End the probe of a link that runs, and begin the next one."""
        running = self._running.get(key)
        if running is None or running.row.probe_id != probe_id:
            return
        running.timer.cancel()
        del self._running[key]
        self._end(row)
        self._next(key)

    def _end(self, row: ProbeRow) -> None:
        row = replace(row, finish_us=self._now_us())
        self._core.store.probes.ended(row)
        facts: dict[str, Any] = {"remote": row.dst, "probe": row.probe_id, "cause": row.origin}
        if row.state == "failed":
            facts["reason"] = row.reason
        else:
            measured = ("capacity_bps", "round_trip_p50_us", "round_trip_p99_us", "loss")
            facts |= {name: getattr(row, name) for name in measured}
            facts["below"] = row.below
        failed = row.state == "failed"
        name, level = ("link.probe-failed", "warning") if failed else ("link.probed", "info")
        self._core.events.add(name, row.src, facts, level=level)
        self._core.when_stored(lambda: self._forget(row.probe_id))

    def _forget(self, probe_id: int) -> None:
        """Wake those who wait for a probe whose end is stored."""
        self._known.discard(probe_id)
        self._ended.set()
        self._ended.clear()

    def _now_us(self) -> int:
        return self._core.now_ms() * 1000


def _measured(row: ProbeRow, result: m.ProbeResult) -> ProbeRow:
    sent, received = result.packets_sent, result.packets_received
    if result.error:
        return replace(row, state="failed", reason=result.error)
    return replace(
        row,
        state="finished",
        capacity_bps=round(result.mbps * 1e6) if result.mbps > 0 else None,
        round_trip_p50_us=result.round_trip_p50_us,
        round_trip_p99_us=result.round_trip_p99_us,
        loss=1 - received / sent if sent else None,
        packets_sent=sent,
        packets_received=received,
        packets_answered=result.packets_answered,
        sent_bytes=result.sent_bytes,
    )


def _status_of(row: ProbeRow) -> m.ProbeStatus:
    return m.ProbeStatus(*(getattr(row, name) for name in ProbeRow.__slots__))
