"""Take the counters that nodes send each second: keep the newest in memory, and write all to Postgres.

Reports that contradict themselves or the lab are refused and counted. What is kept in memory is bounded by
the lab and by constants; rows that Postgres does not take are dropped by the store, oldest first, and
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from orchestrator import log
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import MetricsInvalid
from orchestrator.controller.metric_state import MAX_OPEN_FLOWS, NodeState
from orchestrator.controller.registry import Node, NodeStates
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.store.metrics import AppFlow, app_flow_line, metric_line
from orchestrator.tasks import keep_running

__all__ = ["MetricsCollector"]

FLUSH_S = 1.0
"""Seconds for which rows are gathered: one transaction a second, whatever the number of nodes."""

EXPIRE_S = 10.0
"""Seconds between two looks for rows that are too old."""

MAX_FLOWS = 1_024
"""Directions of flows in one report; nodes send at most 512."""

MAX_SESSIONS = 64
"""Sessions in one report; as many as nodes send."""

MAX_GROUPS = 1_024
"""Groups in one report."""

MAX_PAGE = {"links": 200, "flows": 50, "app-flows": 2_000, "route-changes": 2_000}
"""Reports in one answer, 1,000 of those that are not named: a message holds 4 MB, and a report many rows."""

AHEAD_MS = 60_000
"""Milliseconds that a node's clock may be ahead of ours; a row with a later time would be kept too long."""

_WORD = frozenset("abcdefghijklmnopqrstuvwxyz_")

_LOG = log.get(__name__)


class MetricsCollector:
    """Handles `Metrics` of nodes, and what operators ask about them.

    Attributes:
        reports: Reports taken.
        refused: Reports refused.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._interval_ms = core.settings.metrics_interval_ms
        self._nodes: dict[int, NodeState] = {}
        self._lines: list[bytes] = []
        self._flow_lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._expiry: asyncio.Task[None] | None = None
        self.reports = 0
        self.refused = 0
        self.of_nodes: Mapping[type[Message], Callable[[Session, Node, Frame, Any], None]] = {
            m.Metrics: self._take,
            m.AppFlowStart: self._flows_began,
        }
        self.of_operators: Mapping[type[Message], Callable[[Session, Frame, Any], Awaitable[None]]] = {
            m.GetMetrics: self._get,
            m.GetMetricRows: self._get_rows,
        }

    def start(self) -> None:
        """Begin to delete rows that are too old."""
        self._expiry = keep_running(self._expire, name="expiry of metrics")

    async def close(self) -> None:
        """Write what was gathered, and stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        if self._expiry is not None:
            self._expiry.cancel()
            await asyncio.wait({self._expiry})

    def _take(self, session: Session, node: Node, frame: Frame, message: m.Metrics) -> None:
        try:
            self._check(node, message)
        except MetricsInvalid:
            self.refused += 1
            raise
        self.reports += 1
        state = self._state(node)
        state.take(message, self._core.clock.monotonic())
        time_ms = self._plausible(message.time_ms)
        totals = (node.process & MAX_COUNTER, *message.totals)  # any 63 bits of it tell processes apart
        self._lines.append(metric_line(time_ms, node.id, totals, message))
        if message.app_flows is not None:
            self._write_flows(state.take_flows(node.id, message.time_ms, message.app_flows))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
        session.connection.ack(frame)

    def _flows_began(self, session: Session, node: Node, frame: Frame, message: m.AppFlowStart) -> None:
        if not _is_sound(message.flows):
            self.refused += 1
            raise MetricsInvalid(f"node {node.id} reports flows of programs that cannot be")
        self._write_flows(self._state(node).take_flows(node.id, message.time_ms, message.flows))
        session.connection.ack(frame)

    def _state(self, node: Node) -> NodeState:
        """Return what the node's present process has reported."""
        state = self._nodes.get(node.id)
        if state is None:
            state = self._nodes[node.id] = NodeState(self._interval_ms)
        self._write_flows(state.begin(node.process))
        return state

    def _plausible(self, time_ms: int) -> int:
        """Return the time of a report, or the latest time that it can have."""
        return min(time_ms, round(self._core.clock.wall() * 1000) + AHEAD_MS)

    def _check(self, node: Node, message: m.Metrics) -> None:
        """Check that a report does not contradict itself or the lab.

        Raises:
            MetricsInvalid: It does.
        """
        registry = self._core.lab.registry
        if len(message.totals) != m.TOTALS:
            raise MetricsInvalid(
                f"node {node.id} reports {len(message.totals)} totals, but there are {m.TOTALS}"
            )
        links, groups = message.links or (), message.groups or ()
        for remote in links[:: m.LINK_NUMBERS]:
            if remote not in registry:
                raise MetricsInvalid(f"node {node.id} has no neighbour {remote}", found=str(remote))
        if len(links) % m.LINK_NUMBERS or len(links) > m.LINK_NUMBERS * len(registry):
            raise MetricsInvalid(f"node {node.id} reports links incompletely, or too many")
        if len(groups) % m.GROUP_NUMBERS or len(groups) > m.GROUP_NUMBERS * MAX_GROUPS:
            raise MetricsInvalid(f"node {node.id} reports groups incompletely, or too many")
        count, rest = divmod(len(message.flows or ()), m.FLOW_NUMBERS)
        if rest or len(message.flow_ids or b"") != 16 * count or count > MAX_FLOWS:
            raise MetricsInvalid(f"node {node.id} reports flows incompletely, or too many")
        for each in message.drops or ():
            if each.remote_node_id and each.remote_node_id not in registry:
                raise MetricsInvalid(f"node {node.id} has no neighbour {each.remote_node_id}")
            if not all(_is_word(cause) for cause in each.drops):
                raise MetricsInvalid(f"node {node.id} names a cause of drops that is no word")
        if message.sessions and not _are_sessions(message.sessions):
            raise MetricsInvalid(f"node {node.id} reports sessions that cannot be")
        if message.app_flows is not None and not _is_sound(message.app_flows):
            raise MetricsInvalid(f"node {node.id} reports flows of programs that cannot be")

    def _write_flows(self, flows: Iterable[AppFlow]) -> None:
        for flow in flows:
            self._flow_lines.append(app_flow_line(flow, self._plausible(flow.seen_ms)))
        if self._flow_lines and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        flows, self._flow_lines = self._flow_lines, []
        if lines:
            self._core.store.metrics.reports(lines)
        if flows:
            self._core.store.metrics.app_flows(flows)

    def _forget_gone(self) -> None:
        """Forget the nodes that have left the lab, and end the flows of those that were stopped."""
        registry = self._core.lab.registry
        for node_id in list(self._nodes):
            if node_id not in registry:
                self._write_flows(self._nodes.pop(node_id).end())
            elif registry.node(node_id).state is NodeStates.STOPPED:
                self._write_flows(self._nodes[node_id].end())

    async def _expire(self) -> None:
        keep_s = self._core.settings.metrics_keep_s
        while True:
            await asyncio.sleep(EXPIRE_S)
            self._forget_gone()
            try:
                while await self._core.store.expire_metrics(keep_s):
                    pass  # each statement deletes a part of them
            except StoreUnavailable:
                continue  # it is said by the writer

    # What operators ask.

    def snapshot(self) -> list[tuple[int, m.NodeMetrics]]:
        """Return the newest counters of all nodes that have reported, in order of node."""
        self._forget_gone()
        now, registry = self._core.clock.monotonic(), self._core.lab.registry
        return [
            (node, state.metrics(now, registry.neighbours(node)))
            for node, state in sorted(self._nodes.items())
        ]

    def state(self, re: int = 0) -> m.MetricsState:
        """Return how metrics are collected."""
        settings, lost = self._core.settings, self._core.store.metrics.lost_rows
        counts = (self.reports, self.refused, lost)
        return m.MetricsState(re, self._interval_ms, settings.metrics_keep_s, *counts)

    async def _get(self, session: Session, frame: Frame, message: m.GetMetrics) -> None:
        for node, found in self.snapshot():
            session.connection.send_nowait(found, node=node)
        session.connection.reply(frame, self.state(frame.id))

    async def _get_rows(self, session: Session, frame: Frame, message: m.GetMetricRows) -> None:
        if message.table not in TABLE_NAMES:
            raise MetricsInvalid(
                f"there is no table `{message.table[:40]}` of metrics",
                id="metrics.table",
                found=message.table[:40],
                expected=", ".join(TABLE_NAMES),
            )
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        await self._core.store.flushed()
        limit = max(1, min(message.limit, MAX_PAGE.get(message.table, 1_000)))
        columns, rows, place = await self._core.store.metric_rows(
            message.table, min(message.after, 2**62), min(message.since_ms, MOST_MS), limit
        )
        session.connection.reply(frame, m.MetricRows(frame.id, columns, rows, place))


TABLE_NAMES = ("links", "flows", "nodes", "groups", "sessions", "app-flows", "route-changes")
"""The tables that operators read."""

MAX_COUNTER = 2**63 - 1
"""What a column of Postgres holds."""

MOST_MS = 4_102_444_800_000
"""The year 2100: a later time is no clock's."""


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 40 and _WORD.issuperset(text)


def _are_sessions(sessions: tuple[m.SessionCounter, ...]) -> bool:
    numbers = ("session", "total_bytes", "done_bytes", "sent_bytes", "repair_bytes", "rtt_us")
    return len(sessions) <= MAX_SESSIONS and all(
        _is_word(each.role)
        and _is_word(each.state)
        and all(getattr(each, name) <= MAX_COUNTER for name in numbers)
        for each in sessions
    )


def _is_sound(flows: m.AppFlowColumns) -> bool:
    count, width = len(flows.names), m.APP_FLOW_NUMBERS
    for name in flows.names:
        if len(name) > 200 or not name.isprintable():
            return False
    return (
        count <= MAX_OPEN_FLOWS
        and len(flows.flow_ids) == 16 * count
        and len(flows.numbers) == width * count
        and max(flows.numbers[1::width], default=0) <= 1000 * MOST_MS
        and max(flows.numbers[2::width], default=0) <= 1000 * MOST_MS
    )
