"""Handle requests for user-space flows: of operators, and of roles that generate traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import FlowInvalid, FlowsNotEnded, FlowUnknown, RunUnknown
from orchestrator.controller.file_flows import no_route
from orchestrator.controller.user_flows import MOST_AT_ONCE, UserFlows, status_of
from orchestrator.errors import NmError
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.store import FlowRow, NewFlow
from orchestrator.tasks import spawn

__all__ = ["FlowRequests"]

MAX_PAGE = 10_000
"""Flows of one answer, some 2 MB."""

MAX_WAIT_S = 86_400.0
"""The longest that an operator may wait; flows themselves last a day at most."""

MOST = 2**63 - 1
"""The largest number that a column takes."""

RunExists = Callable[[str, int], bool]
"""Tells whether a run is under way in which a node has a role."""


class FlowRequests:
    """Starts, stops and lists flows on request.

    Args:
        core: The controller.
        flows: The flows.
        run_exists: Whether a role may run flows.

    Attributes:
        of_operators: What answers operators, by type.
        of_agents: What answers agents.
    """

    def __init__(self, core: Core, flows: UserFlows, run_exists: RunExists) -> None:
        self._core = core
        self._flows = flows
        self._run_exists = run_exists
        self._of_runs: dict[int, list[tuple[Session, Frame, m.RunFlow]]] = {}
        self.of_operators: dict[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.StartFlows: self._start,
            m.EndFlows: self._end,
            m.GetFlows: self._get,
            m.WaitFlows: self._wait,
        }
        self.of_agents: dict[type[Message], Callable[[Session, Frame, Any], None]] = {m.RunFlow: self._run}
        flows.on_ended.append(self._ended)

    # Operators.

    async def _start(self, session: Session, frame: Frame, message: m.StartFlows) -> None:
        new = [flow for request in message.flows for flow in self._new(request, "operator")]
        if not new or len(new) > MOST_AT_ONCE:
            text = f"a request may start 1 to {MOST_AT_ONCE} flows, not {len(new)}"
            raise FlowInvalid(text, id="flow.count", found=str(len(new)))
        session.connection.ack(frame, {"ids": await self._flows.add(new)})

    async def _end(self, session: Session, frame: Frame, message: m.EndFlows) -> None:
        ids = await self._existing(message.ids)
        if message.remove and ids is not None:
            ended = await self._flows.remove(ids)
        else:
            ended = await self._flows.stop(ids)
        session.connection.ack(frame, {"ids": ended})

    async def _get(self, session: Session, frame: Frame, message: m.GetFlows) -> None:
        store, limit = self._core.store, max(1, min(message.limit, MAX_PAGE))
        ids = await self._existing(message.ids)
        await store.flushed()
        after = min(message.after, MOST)
        rows = await store.read_flows(ids, after, limit + 1, open_only=message.open_only)
        now = [self._flows.open_flow(row.flow_id) or row for row in rows[:limit]]
        session.connection.reply(
            frame, m.FlowList(frame.id, tuple(status_of(row) for row in now), len(rows) > limit)
        )

    async def _wait(self, session: Session, frame: Frame, message: m.WaitFlows) -> None:
        ids = await self._existing(message.ids)
        limit = min(message.timeout_ms / 1000, MAX_WAIT_S)
        try:
            async with asyncio.timeout(limit):
                await self._flows.wait_ended(ids)
        except TimeoutError:
            rows = await self._core.store.read_flows(ids, 0, MAX_PAGE, open_only=True)
            raise FlowsNotEnded(_not_ended(rows, limit), hint="`nm flow list` shows them") from None
        await self._core.store.flushed()
        session.connection.ack(frame)

    async def _existing(self, ids: Sequence[int] | None) -> list[int] | None:
        """Return the numbers of flows that there are.

        Raises:
            FlowUnknown: One of them is none.
        """
        if ids is None:
            return None
        known = [each for each in ids if each <= MOST]
        rows = await self._core.store.read_flows(known, 0, len(known), open_only=False)
        missing = sorted(set(ids) - {row.flow_id for row in rows})
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            shown = ", ".join(map(str, missing[:5]))
            raise FlowUnknown(f"there is no flow {shown}{more}", hint="`nm flow list` shows them")
        return known

    def _new(self, request: m.FlowRequest, origin: str, tag: str | None = None) -> Iterable[NewFlow]:
        """Return the flows that a request means; the database checks what remains."""
        for node in (request.src, request.dst):
            self._core.lab.registry.node(node)
        if request.src == request.dst:
            raise FlowInvalid(
                f"the flow from node {request.src} ends where it starts", found=str(request.dst)
            )
        numbers = (request.size_bytes, request.duration_ms, request.rate_bps)
        if any(number is not None and not 0 < number <= MOST for number in numbers):
            raise FlowInvalid("size, duration and rate of a flow are numbers from 1 to 2^63 - 1")
        if request.count > MOST_AT_ONCE:
            text = f"a request may start 1 to {MOST_AT_ONCE} flows, not {request.count}"
            raise FlowInvalid(text, id="flow.count", found=str(request.count))
        flow = NewFlow(
            src=request.src,
            dst=request.dst,
            size_bytes=request.size_bytes,
            duration_ms=request.duration_ms,
            rate_bps=request.rate_bps,
            weight=request.weight,
            transport=request.transport,
            route_id=self._route(request),
            origin=origin,
            tag=tag,
        )
        return [flow] * request.count

    def _route(self, request: m.FlowRequest) -> int | None:
        """Return the explicit route with the path that a request wants.

        Raises:
            RouteInvalid: There is none.
        """
        if request.route is None:
            return None
        wanted = set(pairwise(request.route))
        for route in self._core.lab.explicit.of_pair(request.src, request.dst):
            if set(route.edges) == wanted:
                return route.route_id
        raise no_route(request.src, request.dst, request.route, "`nm route list` shows those that there are")

    # Roles.

    def _run(self, session: Session, frame: Frame, message: m.RunFlow) -> None:
        spawn(self._begin(session, frame, message), name="flow of a run")

    async def _begin(self, session: Session, frame: Frame, message: m.RunFlow) -> None:
        """Start a flow for a role, or find the one that it was given before a restart."""
        store, tag = self._core.store, f"{message.node}/{message.number}"
        try:
            if not self._run_exists(message.run, message.node):
                raise RunUnknown(f"node {message.node} has no role in a run `{message.run}`")
            known = await store.tagged_flow(message.run, tag)
            if known is None:
                (flow_id,) = await self._flows.add(list(self._new(message.flow, message.run, tag)))
            else:
                flow_id = known.flow_id
        except NmError as error:
            session.connection.ack(frame)
            where = (message.run, message.node, message.number)
            session.connection.send_nowait(m.RunFlowEnded(*where, None, error.message, error.id))
            return
        self._of_runs.setdefault(flow_id, []).append((session, frame, message))
        if self._flows.open_flow(flow_id) is None:  # it has ended, before or just now
            await store.flushed()
            ended = await store.tagged_flow(message.run, tag)
            if ended is not None and ended.finish_us is not None:
                self._ended(ended)

    def _ended(self, row: FlowRow) -> None:
        for session, frame, message in self._of_runs.pop(row.flow_id, ()):
            where = (message.run, message.node, message.number)
            session.connection.send_nowait(m.RunFlowEnded(*where, status_of(row)))
            session.connection.ack(frame)

    def run_over(self, run: str) -> None:
        """Stop the flows of a run that has ended."""
        left = [
            flow_id
            for flow_id, waiting in self._of_runs.items()
            if any(message.run == run for _, _, message in waiting)
        ]
        for flow_id in left:
            del self._of_runs[flow_id]
        if left:
            spawn(self._stop(left), name="end of the flows of a run")

    async def _stop(self, ids: Sequence[int]) -> None:
        await self._flows.stop(ids)


def _not_ended(rows: Sequence[FlowRow], limit: float) -> str:
    shown = ", ".join(f"flow {row.flow_id} ({row.state})" for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{len(rows)} flows have not ended after {limit:g} s: {shown}{more}"
