"""The newest counters of a node in memory, and their rates."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from orchestrator.protocol import messages as m

__all__ = ["MAX_OPEN_FLOWS", "NodeState"]

MAX_OPEN_FLOWS = 2_048
"""Flows of programs that are kept for a node while they run; those that changed last."""

MAX_ENDED_FLOWS = 64
"""Flows that have ended and are still shown."""

MAX_ENDED_SESSIONS = 16
"""Sessions that have ended and are still shown."""

STALE_INTERVALS = 2.5
"""Reports that may be missing until a node's rates count as zero: it sends nothing while nothing changes."""


class _Reading(NamedTuple):
    """Values at a time, and those before."""

    time_ms: int
    values: tuple[int, ...]
    before_ms: int
    before: tuple[int, ...]

    def rate(self, place: int, current_ms: int) -> float:
        """Return how fast a value grew per second; 0 when the newest report did not have it.

        A value below the one before began again from zero, with another process or another link.
        """
        passed = self.time_ms - self.before_ms
        if self.time_ms != current_ms or passed <= 0 or not self.before:
            return 0.0
        value, before = self.values[place], self.before[place]
        return (value - before if value >= before else value) * 1000 / passed


def _next(old: _Reading | None, time_ms: int, values: tuple[int, ...]) -> _Reading:
    if old is None:
        return _Reading(time_ms, values, 0, ())
    if time_ms <= old.time_ms:  # the clock was set back
        return _Reading(time_ms, values, 0, ())
    return _Reading(time_ms, values, old.time_ms, old.values)


class NodeState:
    """What a node has reported."""

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, process: int) -> None:
        """Forget what another process of the node has reported: all counters began again."""
        self._process = process
        self._received = 0.0
        self._newest: m.Metrics | None = None
        self._totals: _Reading | None = None
        self._links: dict[int, _Reading] = {}
        self._drops: dict[int, dict[str, int]] = {}
        self._dropped: dict[int, _Reading] = {}
        self._groups: dict[int, _Reading] = {}
        self._sessions: OrderedDict[int, m.SessionCounter] = OrderedDict()
        self._flows: OrderedDict[tuple[bytes, int], tuple[_Reading, tuple[Any, ...]]] = OrderedDict()
        self._ended: OrderedDict[tuple[bytes, int], tuple[_Reading, tuple[Any, ...]]] = OrderedDict()

    def take(
        self, message: m.Metrics, links: list[tuple[int, ...]], groups: list[tuple[int, ...]], now: float
    ) -> None:
        """Keep a report."""
        if message.process != self._process:
            self._begin(message.process)
        self._received, self._newest, time_ms = now, message, message.time_ms
        self._totals = _next(self._totals, time_ms, (message.bytes_out, message.bytes_in, message.cpu_ms))
        for row in links:
            self._links[row[0]] = _next(self._links.get(row[0]), time_ms, row)
        for row in groups:
            self._groups[row[0]] = _next(self._groups.get(row[0]), time_ms, row)
        for each in message.drops or ():
            node = each.remote_node_id
            self._drops[node] = each.drops
            old = self._dropped.get(node) or _Reading(time_ms - 1000, (0,), 0, ())
            self._dropped[node] = _next(old, time_ms, (sum(each.drops.values()),))
        for session in message.sessions or ():
            self._sessions[session.session] = session
            self._sessions.move_to_end(session.session)
        if message.sessions:
            ended = [key for key, each in self._sessions.items() if each.state not in ("waiting", "active")]
            for key in ended[:-MAX_ENDED_SESSIONS]:
                del self._sessions[key]

    def take_flows(self, node_id: int, time_ms: int, flows: m.AppFlowColumns) -> list[tuple[Any, ...]]:
        """Keep flows of programs; return rows of those that began or ended, for the database."""
        written: list[tuple[Any, ...]] = []
        columns: list[Any] = [getattr(flows, name) for name in flows.__slots__]
        for row in zip(*columns, strict=True):
            flow_id, name, dst, start_us, finish_us, *sent, answered = row
            _, tx_bytes, _, rx_bytes = sent
            key = (flow_id, start_us)
            known = self._flows.pop(key, None) or self._ended.pop(key, None)
            reading = _next(known[0] if known else None, time_ms, (tx_bytes, rx_bytes))
            target = self._ended if finish_us else self._flows
            target[key] = (reading, row)
            if known is None or finish_us:
                finish_ms, ended_us = (finish_us // 1000, finish_us) if finish_us else (None, None)
                counts = (*sent, answered or None)
                head = (flow_id, start_us // 1000, node_id, node_id, dst or None, name, start_us)
                written.append((*head, finish_ms, ended_us, *counts))
        while len(self._flows) > MAX_OPEN_FLOWS:
            self._flows.popitem(last=False)
        while len(self._ended) > MAX_ENDED_FLOWS:
            self._ended.popitem(last=False)
        return written

    def metrics(self, now: float, interval_ms: int) -> m.NodeMetrics:
        """Return the newest counters with their rates."""
        newest, totals = self._newest, self._totals
        assert newest is not None and totals is not None, "a state is made for a report"
        stale = now - self._received > STALE_INTERVALS * max(interval_ms, 100) / 1000
        current = -1 if stale else newest.time_ms
        return m.NodeMetrics(
            time_ms=newest.time_ms,
            cpu_ms=newest.cpu_ms,
            process=newest.process,
            packets_out=newest.packets_out,
            bytes_out=newest.bytes_out,
            packets_in=newest.packets_in,
            bytes_in=newest.bytes_in,
            out_bps=8 * totals.rate(0, current),
            in_bps=8 * totals.rate(1, current),
            drops=self._drops.get(0, {}),
            flows_forgotten=newest.flows_forgotten,
            packets_unrecorded=newest.packets_unrecorded,
            links=tuple(self._link(each, current) for _, each in sorted(self._links.items())),
            app_flows=tuple(
                _flow(*each, current)
                for _, each in sorted(
                    (*self._flows.items(), *self._ended.items()), key=lambda item: item[0][1]
                )
            ),
            groups=tuple(_group(each, current) for _, each in sorted(self._groups.items())),
            sessions=tuple(self._sessions.values()),
            process_cpu=totals.rate(2, current) / 1000,
        )

    def _link(self, each: _Reading, current: int) -> m.LinkMetrics:
        remote, tx_packets, tx_bytes, rx_packets, rx_bytes, queued_packets, queued_bytes = each.values
        dropped = self._dropped.get(remote)
        return m.LinkMetrics(
            remote_node_id=remote,
            tx_packets=tx_packets,
            tx_bytes=tx_bytes,
            rx_packets=rx_packets,
            rx_bytes=rx_bytes,
            queued_packets=queued_packets,
            queued_bytes=queued_bytes,
            drops=self._drops.get(remote, {}),
            tx_bps=8 * each.rate(2, current),
            rx_bps=8 * each.rate(4, current),
            tx_pps=each.rate(1, current),
            drops_pps=dropped.rate(0, current) if dropped else 0.0,
        )


def _group(each: _Reading, current: int) -> m.GroupMetrics:
    group_id, tx_packets, tx_bytes, rx_packets, rx_bytes = each.values
    rates = (8 * each.rate(2, current), 8 * each.rate(4, current))
    return m.GroupMetrics(group_id, tx_packets, tx_bytes, rx_packets, rx_bytes, *rates)


def _flow(reading: _Reading, row: tuple[Any, ...], current: int) -> m.AppFlowMetrics:
    flow_id, name, dst, start_us, finish_us, tx_packets, tx_bytes, rx_packets, rx_bytes, answered = row
    return m.AppFlowMetrics(
        flow_id=flow_id.hex(),
        name=name,
        dst_node_id=dst,
        start_us=start_us,
        finish_us=finish_us or None,
        tx_packets=tx_packets,
        tx_bytes=tx_bytes,
        rx_packets=rx_packets,
        rx_bytes=rx_bytes,
        answered_us=answered or None,
        tx_bps=0.0 if finish_us else 8 * reading.rate(0, current),
        rx_bps=0.0 if finish_us else 8 * reading.rate(1, current),
    )
