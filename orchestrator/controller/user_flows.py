"""Start and stop user-space flows as the rows of `user_flows` say, and store what becomes of them.

The database is where flows are wanted: those of the file, of operators and of roles are inserted there like
those of SQL, so that all are checked the same. What has changed is read from there, sent to the two nodes
that it concerns (`flow_table`), and what the source of a flow reports is written back.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from orchestrator import log
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import FlowInvalid
from orchestrator.controller.file_flows import flows_of_file
from orchestrator.controller.flow_table import FlowTable
from orchestrator.controller.registry import Node
from orchestrator.errors import NmError, StoreUnavailable
from orchestrator.protocol import Frame, Message, ProtocolError
from orchestrator.protocol import messages as m
from orchestrator.store import FlowRow, NewFlow, RowRefused
from orchestrator.tasks import spawn

__all__ = ["MOST_AT_ONCE", "UserFlows", "status_of"]

MOST_AT_ONCE = 10_000
"""Flows that one request may start; the file has the same bound."""

STORE_LIMIT = 30.0
"""Seconds that Postgres has, at the start, to take the nodes to which the flows of the file refer."""

MAX_NAMED = 200
"""Flows that an event names; it has their number as well."""

_LOG = log.get(__name__)

Report = Callable[[Session, Node, Frame, Any], None]


class UserFlows:
    """The user-space flows of the lab.

    Attributes:
        reports: What handles the reports of nodes, by type.
        on_ended: Called with each flow that has ended, once that is written.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._table = FlowTable((), {})
        self._reader: asyncio.Task[None] | None = None
        self._read_again = False
        self._sending: asyncio.Handle | None = None
        self._adding: list[tuple[Sequence[NewFlow], asyncio.Future[list[int]]]] = []
        self._adder: asyncio.Task[None] | None = None
        self._packets: dict[bytes, int] = {}
        self._ended = asyncio.Event()
        self.on_ended: list[Callable[[FlowRow], None]] = []
        self.reports: dict[type[Message], Report] = {
            m.UserFlowStart: self._started,
            m.UserFlowProgress: self._progressed,
            m.RouteAssigned: self._routed,
            m.FlowFinished: self._finished,
        }
        core.on_registered.append(self._registered)
        core.on_stopped.append(self._node_stopped)

    async def start(self) -> None:
        """Insert the flows of the file, once, and go on with those that had not ended.

        Raises:
            StoreUnavailable: Postgres does not answer.
        """
        core = self._core
        await self._insert_of_file()
        changes = await core.store.flow_changes()
        processes = {node.id: node.process for node in core.lab.registry}
        self._table = FlowTable(await core.store.open_flows(), processes)
        for change in changes:
            if change.row is None:
                self._table.removed_before(change)
        core.store.flows.handled(change.seq for change in changes)

    async def file_changed(self) -> None:
        """Replace the flows of the file that was by those of the one that is, if they differ.

        Raises:
            StoreUnavailable: Postgres does not answer.
        """
        await self._insert_of_file()
        self.changed()

    async def _insert_of_file(self) -> None:
        core = self._core
        new = list(flows_of_file(core))
        plain = [[getattr(flow, name) for name in NewFlow.__slots__] for flow in new]
        digest = hashlib.sha256(json.dumps(plain).encode()).hexdigest() if new else ""
        if new and not await core.store.stored(STORE_LIMIT):
            raise StoreUnavailable("Postgres has not taken the nodes of the lab", id="store.unreachable")
        core.lab.problems.pop("flows of the file", None)
        try:
            if await core.store.set_file_flows(core.settings.lab, digest, new) and new:
                core.events.add("flow.added", 0, {"count": len(new), "cause": "file"})
        except RowRefused as error:
            core.lab.problems["flows of the file"] = f"the flows of the file are not started: {error.message}"

    def close(self) -> None:
        """Cancel all tasks."""
        for task in (self._reader, self._adder, self._sending):
            if task is not None:
                task.cancel()

    # What is wanted.

    async def add(self, flows: Sequence[NewFlow]) -> list[int]:
        """Start flows, all or none; return their numbers once they are stored.

        Raises:
            FlowInvalid: One of them is none.
            StoreUnavailable: Postgres does not answer.
        """
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._adding.append((flows, future))
        if self._adder is None:
            self._adder = spawn(self._insert(), name="new user-space flows")
        try:
            ids = await future
            await self._read_all()  # from now on they are known to be open
            return ids
        except RowRefused as error:
            raise FlowInvalid(f"the flow is not started: {error.message}") from None

    async def stop(self, ids: Sequence[int] | None) -> list[int]:
        """Stop flows, all for None; return those for which that is new."""
        stopped = await self._core.store.stop_flows(ids)
        self.changed()
        return stopped

    async def remove(self, ids: Sequence[int]) -> list[int]:
        """Stop flows and delete them; return those that there were."""
        removed = await self._core.store.remove_flows(ids)
        self.changed()
        return removed

    def changed(self) -> None:
        """Read the changes of the rows; some that come meanwhile lead to one more reading."""
        self._read_again = True
        if self._reader is None:
            self._reader = spawn(self._read(), name="reader of user_flows", failed=self._reading_failed)

    def open_of(self, nodes: Collection[int]) -> list[FlowRow]:
        """Return the flows that have not ended and begin or end at one of these nodes."""
        return self._table.of_nodes(nodes)

    def open_flow(self, flow_id: int) -> FlowRow | None:
        """Return a flow that has not ended, as it is now."""
        return self._table.row(flow_id)

    async def wait_ended(self, ids: Iterable[int] | None) -> None:
        """Wait until flows have ended, all for None."""
        await self._read_all()
        left = None if ids is None else set(ids)
        while True:
            left = left if left is None else {each for each in left if each in self._table}
            if not (len(self._table) if left is None else left):
                return
            await self._ended.wait()

    # Reading and inserting.

    async def _insert(self) -> None:
        """Insert what many ask for at once in one statement."""
        while self._adding:
            await self._core.store.flushed()  # the nodes, when the controller has just started
            waiting, self._adding = self._adding, []
            try:
                ids = await self._core.store.add_flows([flow for flows, _ in waiting for flow in flows])
            except Exception as error:
                for flows, future in waiting:
                    if isinstance(error, RowRefused) and len(waiting) > 1:  # find out whose it was
                        await self._insert_alone(flows, future)
                    else:
                        _settle(future, error)
            else:
                self.changed()
                for flows, future in waiting:
                    _settle(future, ids[: len(flows)])
                    ids = ids[len(flows) :]
        self._adder = None

    async def _insert_alone(self, flows: Sequence[NewFlow], future: asyncio.Future[list[int]]) -> None:
        try:
            ids = await self._core.store.add_flows(flows)
        except NmError as error:
            _settle(future, error)
        else:
            self.changed()
            _settle(future, ids)

    async def _read_all(self) -> None:
        """Wait until changes that are being read have been."""
        while self._reader is not None:
            await asyncio.wait({self._reader})

    def _reading_failed(self, _: Exception) -> None:
        self._reader = None

    async def _read(self) -> None:
        core = self._core
        try:
            while self._read_again:
                self._read_again = False
                await core.store.flushed()  # changes that were handled are gone
                changes = await core.store.flow_changes()
                told: dict[tuple[str, str], list[int]] = defaultdict(list)
                for change in changes:
                    what = self._table.changed(change, self._now_us())
                    if what:
                        told[what, change.row.origin if change.row else ""].append(change.flow_id)
                for (what, origin), ids in told.items():
                    self._tell(f"flow.{what}", ids, cause=origin)
                core.store.flows.handled(change.seq for change in changes)
                self._read_again |= bool(changes)
                self._send_soon()
        except StoreUnavailable as error:  # it is read again when Postgres is back
            _LOG.debug("flows not read", reason=error.message)
        self._reader = None

    # Nodes.

    def _registered(self, node: Node) -> None:
        self._table.registered(node.id, node.process, self._now_us())
        self._send_soon()

    def _node_stopped(self, node: Node) -> None:
        self._table.stopped_by_request(node.id, self._now_us())
        self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is None:
            self._sending = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending = None
        registry = self._core.lab.registry
        for node_id in self._table.nodes_to_tell():
            node = registry.node(node_id) if node_id in registry else None
            if node is None or not isinstance(node.peer, Session):
                continue
            self._check_routes(node_id)
            for message in self._table.take_messages(node_id):
                self._ask(node.peer, node_id, message)
        self._note_ended()

    def _check_routes(self, node: int) -> None:
        """Let flows fail that have not begun and whose route is none of their pair."""
        pinned = [
            row
            for row in self._table.to_be_added(node)
            if row.route_id is not None and row.src == node and row.state == "waiting"
        ]
        for row in pinned:
            usable = self._core.lab.explicit.of_pair(row.src, row.dst)
            if row.route_id not in {route.route_id for route in usable}:
                why = f"there is no explicit route {row.route_id} from node {row.src} to node {row.dst}"
                self._table.fail(row.flow_id, why, self._now_us())

    def _ask(self, session: Session, node: int, message: m.AddFlows | m.StopFlows) -> None:
        def replied(reply: Message | None) -> None:
            if reply is None:
                self._table.unanswered(node, message)
            elif isinstance(reply, m.Error) and isinstance(message, m.AddFlows):
                if len(message.flows) > 1:  # the node takes all of a message or nothing
                    for flow in message.flows:
                        self._ask(session, node, m.AddFlows((flow,)))
                    return
                ids = [flow.controller_id for flow in message.flows]
                self._table.refused(node, ids, reply.message, self._now_us())
                self._send_soon()

        try:
            session.connection.ask(message, replied, node=node)
        except ProtocolError as error:
            replied(m.Error(0, error.id, error.message))

    # Reports.

    def _started(self, session: Session, node: Node, frame: Frame, message: m.UserFlowStart) -> None:
        rows, ids = [], []
        for flow in message.flows:
            if self._table.started(flow.controller_id, flow.start_ms * 1000):
                ids.append(flow.controller_id)
            if (row := self._known(node, flow.controller_id)) is not None:
                self._packets[flow.flow_id] = flow.controller_id
                rows.append((flow.flow_id, flow.start_ms, node.id, row.src, row.dst, flow.controller_id))
        self._core.store.history.flows_started(rows)
        self._core.store.flows.started((row[1] * 1000, row[0], row[5]) for row in rows)
        self._tell("flow.started", ids, node=node.id, level="debug")
        self._core.ack_stored(session, frame)
        self._send_soon()

    def _progressed(self, session: Session, node: Node, frame: Frame, message: m.UserFlowProgress) -> None:
        known = [flow for flow in message.flows if self._known(node, flow.controller_id) is not None]
        for flow in known:
            self._table.progressed(flow.controller_id, flow.size_bytes)
        self._core.store.flows.progressed((flow.size_bytes, flow.controller_id) for flow in known)
        session.connection.ack(frame)
        self._send_soon()

    def _routed(self, session: Session, node: Node, frame: Frame, message: m.RouteAssigned) -> None:
        store, moved = self._core.store, defaultdict[int, list[int]](list)
        store.history.flows_routed([(a.route_id or None, a.flow_id) for a in message.assignments])
        taken = [(a.route_id or None, self._packets.get(a.flow_id)) for a in message.assignments]
        known = [(route, flow) for route, flow in taken if flow is not None]
        for route, flow in known:
            if self._table.routed(flow, route):
                moved[route or 0].append(flow)
        store.flows.routed(known)
        for route, flows in moved.items():
            self._tell("flow.moved", flows, node=node.id, level="debug", route=route)
        session.connection.ack(frame)

    def _finished(self, session: Session, node: Node, frame: Frame, message: m.FlowFinished) -> None:
        rows = [(f.flow_id, f.start_ms, node.id, f.finish_ms, f.size_bytes) for f in message.flows]
        self._core.store.history.flows_finished(rows)
        for flow in message.flows:
            row = self._table.row(flow.controller_id or 0)
            if row is not None and row.src == node.id:
                self._table.finished(flow)
            self._packets.pop(flow.flow_id, None)
        self._note_ended()
        self._core.ack_stored(session, frame)  # a report that is not stored comes again

    def _known(self, node: Node, flow_id: int) -> FlowRow | None:
        """Return an open flow of which a node is the source; any other is stopped in it."""
        row = self._table.row(flow_id)
        if row is not None and row.src == node.id:
            return row
        self._table.unknown(flow_id, node.id)
        return None

    # Ends.

    def _note_ended(self) -> None:
        ended = self._table.take_ended()
        if not ended:
            return
        core = self._core
        core.store.flows.ended(
            (r.state, r.reason, r.start_us, r.finish_us or 0, r.bytes, r.flow_id) for r in ended
        )
        by_end: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row in ended:
            by_end[row.state, row.reason].append(row.flow_id)
        for (state, reason), ids in by_end.items():
            level = "warning" if state == "failed" else "debug"
            self._tell(f"flow.{state}", ids, level=level, reason=reason)

        def stored() -> None:
            self._table.closed_is_stored(row.flow_id for row in ended)
            for call in self.on_ended:
                for row in ended:
                    call(row)

        core.when_stored(stored)
        self._ended.set()
        self._ended = asyncio.Event()
        self._send_soon()

    def _tell(
        self, name: str, ids: Sequence[int], *, node: int = 0, level: str = "info", **facts: object
    ) -> None:
        if ids:
            named = {"flows": list(ids[:MAX_NAMED]), "count": len(ids), **facts}
            self._core.events.add(name, node, named, level=level)

    def _now_us(self) -> int:
        return self._core.now_ms() * 1000


def status_of(row: FlowRow) -> m.FlowStatus:
    """Return a flow as operators and roles are told of it."""
    return m.FlowStatus(
        id=row.flow_id,
        src=row.src,
        dst=row.dst,
        transport=row.transport,
        origin=row.origin,
        state=row.state,
        bytes=row.bytes,
        reason=row.reason,
        size_bytes=row.size_bytes,
        duration_ms=row.duration_ms,
        rate_bps=row.rate_bps,
        weight=row.weight,
        route_id=row.route_id,
        start_us=row.start_us,
        finish_us=row.finish_us,
        taken_route=row.taken_route,
    )


def _settle(future: asyncio.Future[list[int]], value: list[int] | Exception) -> None:
    if future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
