"""Take the counters that nodes send each second: keep the newest in memory, and write all to Postgres.

Reports that contradict themselves or the lab are refused and counted. What is kept in memory is bounded by
the lab and by constants; rows that Postgres does not take are dropped by the store, oldest first, and
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator import log
from orchestrator.controller.core import Core, Session
from orchestrator.controller.errors import MetricsInvalid
from orchestrator.controller.metric_state import MAX_OPEN_FLOWS, NodeState
from orchestrator.controller.registry import Node
from orchestrator.errors import StoreUnavailable
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.store.metrics import metric_line
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

MAX_PAGE = {"links": 200, "flows": 50, "app-flows": 2_000}
"""Reports in one answer, 1,000 of those that are not named: a message holds 4 MB, and a report many rows."""

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
        self._flow_rows: list[tuple[Any, ...]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._expiry: asyncio.Task[None] | None = None
        self.reports = 0
        self.refused = 0
        self.of_nodes: Mapping[type[Message], Callable[[Session, Node, Frame, Any], None]] = {
            m.Metrics: self._take
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
            links, flows, groups = self._check(node, message)
        except ValueError as error:  # of `zip`: columns of unequal length
            self.refused += 1
            raise MetricsInvalid(f"the metrics of node {node.id} are wrong: {error}") from None
        except MetricsInvalid:
            self.refused += 1
            raise
        self.reports += 1
        state = self._nodes.get(node.id)
        if state is None:
            state = self._nodes[node.id] = NodeState()
        state.take(message, links, groups, self._core.clock.monotonic())
        self._gather(node.id, message, links, flows, groups)
        if message.app_flows is not None:
            self._flow_rows += state.take_flows(node.id, message.time_ms, message.app_flows)
        session.connection.ack(frame)

    def _check(
        self, node: Node, message: m.Metrics
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Return the columns as rows.

        Raises:
            ValueError: Columns have different lengths.
            MetricsInvalid: They say what cannot be.
        """
        registry = self._core.lab.registry
        links: list[tuple[int, ...]] = []
        if (c := message.links) is not None:
            links = list(
                zip(
                    c.remote_node_id,
                    c.tx_packets,
                    c.tx_bytes,
                    c.rx_packets,
                    c.rx_bytes,
                    c.queued_packets,
                    c.queued_bytes,
                    strict=True,
                )
            )
            for remote in c.remote_node_id:
                if remote not in registry:
                    raise MetricsInvalid(f"node {node.id} has no neighbour {remote}", found=str(remote))
        flows: list[tuple[int, ...]] = []
        if (f := message.flows) is not None:
            flows = list(zip(f.packets, f.size_bytes, strict=True))
            if len(f.flow_id) != len(flows) or len(flows) > MAX_FLOWS:
                raise MetricsInvalid(f"node {node.id} reports flows in unequal columns, or too many")
            if any(len(key) != 16 for key in f.flow_id):
                raise MetricsInvalid(f"node {node.id} reports a flow whose identifier is not 16 bytes long")
        groups: list[tuple[int, ...]] = []
        if (g := message.groups) is not None:
            groups = list(zip(g.group_id, g.tx_packets, g.tx_bytes, g.rx_packets, g.rx_bytes, strict=True))
            if len(groups) > MAX_GROUPS:
                raise MetricsInvalid(f"node {node.id} reports {len(groups)} groups")
        for each in message.drops or ():
            if each.remote_node_id and each.remote_node_id not in registry:
                raise MetricsInvalid(f"node {node.id} has no neighbour {each.remote_node_id}")
            if not all(_is_word(cause) for cause in each.drops):
                raise MetricsInvalid(f"node {node.id} names a cause of drops that is no word")
        sessions = message.sessions or ()
        if len(sessions) > MAX_SESSIONS or not all(_is_word(s.role) and _is_word(s.state) for s in sessions):
            raise MetricsInvalid(f"node {node.id} reports sessions that cannot be")
        if (a := message.app_flows) is not None and not _is_sound(a):
            raise MetricsInvalid(f"node {node.id} reports flows of programs that cannot be")
        return links, flows, groups

    def _gather(
        self,
        node_id: int,
        message: m.Metrics,
        links: list[tuple[int, ...]],
        flows: list[tuple[int, ...]],
        groups: list[tuple[int, ...]],
    ) -> None:
        totals = (
            message.process & MAX_COUNTER,  # a random number, of which any 63 bits tell processes apart
            message.cpu_ms,
            message.packets_out,
            message.bytes_out,
            message.packets_in,
            message.bytes_in,
            message.flows_forgotten,
            message.packets_unrecorded,
        )
        self._lines.append(
            metric_line(
                min(message.time_ms, MOST_MS),
                node_id,
                totals if max(totals) <= MAX_COUNTER else [min(each, MAX_COUNTER) for each in totals],
                links,
                {str(each.remote_node_id): each.drops for each in message.drops or ()},
                message.flows.flow_id if message.flows is not None else (),
                flows,
                groups,
                [session_facts(each) for each in message.sessions or ()],
            )
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        rows, self._flow_rows = self._flow_rows, []
        if lines:
            self._core.store.metrics.reports(lines)
        if rows:
            self._core.store.metrics.app_flows(rows)

    async def _expire(self) -> None:
        keep_s = self._core.settings.metrics_keep_s
        while True:
            await asyncio.sleep(EXPIRE_S)
            try:
                while await self._core.store.expire_metrics(keep_s):
                    pass  # each statement deletes a part of them
            except StoreUnavailable:
                continue  # it is said by the writer

    # What operators ask.

    def snapshot(self) -> list[tuple[int, m.NodeMetrics]]:
        """Return the newest counters of all nodes that have reported, in order of node."""
        now = self._core.clock.monotonic()
        for gone in [node for node in self._nodes if node not in self._core.lab.registry]:
            del self._nodes[gone]
        return [(node, state.metrics(now, self._interval_ms)) for node, state in sorted(self._nodes.items())]

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


TABLE_NAMES = ("links", "flows", "nodes", "groups", "sessions", "app-flows")
"""The tables that operators read."""

MAX_COUNTER = 2**63 - 1
"""What a column of Postgres holds."""

MOST_MS = 4_102_444_800_000
"""The year 2100: a later time is no clock's."""


def session_facts(session: m.SessionCounter) -> dict[str, Any]:
    """Return a session as Postgres keeps it."""
    return {name: getattr(session, name) for name in session.__slots__}


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 40 and _WORD.issuperset(text)


def _is_sound(flows: m.AppFlowColumns) -> bool:
    count = len(flows.flow_id)
    columns = [getattr(flows, name) for name in flows.__slots__]
    return (
        count <= MAX_OPEN_FLOWS
        and all(len(column) == count for column in columns)
        and all(len(key) == 16 for key in flows.flow_id)
        and all(len(name) <= 200 and name.isprintable() for name in flows.name)
        and all(time // 1000 <= MOST_MS for time in (*flows.start_us, *flows.finish_us))
    )
