"""The newest counters of a node in memory, and their rates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.protocol import messages as m
from orchestrator.store.metrics import AppFlow

__all__ = ["MAX_OPEN_FLOWS", "NodeState"]

MAX_OPEN_FLOWS = 2_048
"""Flows of programs that are kept for a node while they run; those that changed last."""

MAX_ENDED_FLOWS = 64
"""Flows that have ended and are still shown."""

MAX_ENDED_SESSIONS = 16
"""Sessions that have ended and are still shown."""

STALE_INTERVALS = 2.5
"""Reports that may be missing until a node's rates count as zero: it sends nothing while nothing changes."""

WRITE_MS = 10_000
"""Milliseconds between two times that the counters of a flow that runs are written to the table of flows."""

LEAST_INTERVAL_MS = 100
"""The shortest interval of nodes."""

_Values = tuple[int, ...]


class _Reading(NamedTuple):
    """Values at a time, and those before, which are empty when they are not known."""

    time_ms: int
    values: _Values
    before_ms: int
    before: _Values

    def rate(self, place: int, current_ms: int) -> float:
        """Return how fast a value grew per second; 0 when the newest report did not have it.

        A value below the one before began again from zero, with another process or another link.
        """
        passed = self.time_ms - self.before_ms
        if self.time_ms != current_ms or passed <= 0 or not self.before:
            return 0.0
        value, before = self.values[place], self.before[place]
        return (value - before if value >= before else value) * 1000 / passed


class _KnownFlow(NamedTuple):
    flow: AppFlow
    reading: _Reading
    written_ms: int


_Key = tuple[bytes, int]


class NodeState:
    """What a node has reported.

    Args:
        interval_ms: Milliseconds between two of its reports.
    """

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = max(interval_ms, LEAST_INTERVAL_MS)
        self._begin(0)

    def _begin(self, process: int) -> None:
        """Forget what another process of the node has reported: all counters began again."""
        self._process = process
        self._received = 0.0
        self._time_ms = 0
        self._totals: _Reading | None = None
        self._links: dict[int, _Reading] = {}
        self._drops: dict[int, dict[str, int]] = {}
        self._dropped: dict[int, _Reading] = {}
        self._groups: dict[int, _Reading] = {}
        self._sessions: OrderedDict[int, m.SessionCounter] = OrderedDict()
        self._flows: OrderedDict[_Key, _KnownFlow] = OrderedDict()
        self._ended: OrderedDict[_Key, _KnownFlow] = OrderedDict()

    def begin(self, process: int) -> list[AppFlow]:
        """Take what follows as that of a process; return the flows that ended with another one before it."""
        if process == self._process:
            return []
        ended = self.end()
        self._begin(process)
        return ended

    def end(self) -> list[AppFlow]:
        """End the flows that run, each with its last report, and return them."""
        ended = [known.flow._replace(finish_us=known.flow.seen_ms * 1000) for known in self._flows.values()]
        self._flows.clear()
        return ended

    def take(self, message: m.Metrics, now: float) -> None:
        """Keep a report; its lists have the right lengths."""
        time_ms, first = message.time_ms, self._totals is None
        self._received = now
        self._totals = self._next(self._totals, time_ms, message.totals, first)
        numbers, links, width = message.links or (), self._links, m.LINK_NUMBERS
        for at in range(0, len(numbers), width):
            row = numbers[at : at + width]
            links[row[0]] = self._next(links.get(row[0]), time_ms, row, first)
        numbers, groups, width = message.groups or (), self._groups, m.GROUP_NUMBERS
        for at in range(0, len(numbers), width):
            row = numbers[at : at + width]
            groups[row[0]] = self._next(groups.get(row[0]), time_ms, row, first)
        for each in message.drops or ():
            node = each.remote_node_id
            self._drops[node] = each.drops
            total = (sum(each.drops.values()),)
            self._dropped[node] = self._next(self._dropped.get(node), time_ms, total, first)
        if message.sessions:
            self._take_sessions(message.sessions)
        self._time_ms = time_ms

    def _next(self, old: _Reading | None, time_ms: int, values: _Values, first: bool) -> _Reading:
        """Return the reading that follows another one.

        What a report does not have did not change until then, so the values before are those of the report
        before; what no report had yet was 0.
        """
        if first or time_ms <= self._time_ms:  # nothing is known of before, or the clock was set back
            return _Reading(time_ms, values, 0, ())
        before = self._time_ms
        if time_ms - before > 1.5 * self._interval_ms:  # reports without changes were not sent
            before = time_ms - self._interval_ms
        if old is None:
            return _Reading(time_ms, values, before, (0,) * len(values))
        return _Reading(time_ms, values, before, old.values)

    def _take_sessions(self, sessions: Sequence[m.SessionCounter]) -> None:
        for session in sessions:
            self._sessions[session.session] = session
            self._sessions.move_to_end(session.session)
        ended = [key for key, each in self._sessions.items() if each.state not in ("waiting", "active")]
        for key in ended[:-MAX_ENDED_SESSIONS]:
            del self._sessions[key]

    def take_flows(self, node_id: int, time_ms: int, flows: m.AppFlowColumns) -> list[AppFlow]:
        """Keep flows of programs.

        Returns:
            Those to be written to the database: flows that began, ended or took another route, and every ten
            seconds those that run.
        """
        written: list[AppFlow] = []
        numbers, width = flows.numbers, m.APP_FLOW_NUMBERS
        for place, name in enumerate(flows.names):
            flow_id = flows.flow_ids[16 * place : 16 * place + 16]
            row = numbers[width * place : width * place + width]
            flow = AppFlow(flow_id, name, node_id, time_ms, *row)
            key = (flow_id, flow.start_us)
            known = self._flows.pop(key, None) or self._ended.pop(key, None)
            write_ms = known.written_ms if known is not None else 0
            if (
                known is None
                or flow.finish_us
                or flow.route_id != known.flow.route_id
                or not 0 <= time_ms - write_ms < WRITE_MS
            ):
                written.append(flow)
                write_ms = time_ms
            target = self._ended if flow.finish_us else self._flows
            target[key] = _KnownFlow(flow, _flow_reading(flow, known), write_ms)
        while len(self._flows) > MAX_OPEN_FLOWS:
            self._flows.popitem(last=False)
        while len(self._ended) > MAX_ENDED_FLOWS:
            self._ended.popitem(last=False)
        return written

    def metrics(self, now: float, linked: Sequence[int] | None = None) -> m.NodeMetrics:
        """Return the newest counters with their rates, of the links to these neighbours only."""
        totals = self._totals or _Reading(self._time_ms, (0,) * m.TOTALS, 0, ())
        stale = now - self._received > STALE_INTERVALS * self._interval_ms / 1000
        current = -1 if stale else self._time_ms
        cpu_ms, packets_out, bytes_out, packets_in, bytes_in, forgotten, unrecorded = totals.values
        known = sorted((*self._flows.values(), *self._ended.values()), key=lambda each: each.flow.start_us)
        links = [each for node, each in sorted(self._links.items()) if linked is None or node in linked]
        return m.NodeMetrics(
            time_ms=self._time_ms,
            cpu_ms=cpu_ms,
            process=self._process,
            packets_out=packets_out,
            bytes_out=bytes_out,
            packets_in=packets_in,
            bytes_in=bytes_in,
            out_bps=8 * totals.rate(2, current),
            in_bps=8 * totals.rate(4, current),
            drops=self._drops.get(0, {}),
            flows_forgotten=forgotten,
            packets_unrecorded=unrecorded,
            links=tuple(self._link(each, current) for each in links),
            app_flows=tuple(_flow(each, current) for each in known),
            groups=tuple(_group(each, current) for _, each in sorted(self._groups.items())),
            sessions=tuple(self._sessions.values()),
            process_cpu=totals.rate(0, current) / 1000,
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


def _flow_reading(flow: AppFlow, known: _KnownFlow | None) -> _Reading:
    values = (flow.tx_bytes, flow.rx_bytes)
    if known is None or flow.seen_ms <= known.reading.time_ms:
        return _Reading(flow.seen_ms, values, 0, ())
    return _Reading(flow.seen_ms, values, known.reading.time_ms, known.reading.values)


def _group(each: _Reading, current: int) -> m.GroupMetrics:
    group_id, tx_packets, tx_bytes, rx_packets, rx_bytes = each.values
    rates = (8 * each.rate(2, current), 8 * each.rate(4, current))
    return m.GroupMetrics(group_id, tx_packets, tx_bytes, rx_packets, rx_bytes, *rates)


def _flow(known: _KnownFlow, current: int) -> m.AppFlowMetrics:
    flow, reading = known.flow, known.reading
    return m.AppFlowMetrics(
        flow_id=flow.flow_id.hex(),
        name=flow.name,
        dst_node_id=flow.dst_node_id,
        start_us=flow.start_us,
        tx_packets=flow.tx_packets,
        tx_bytes=flow.tx_bytes,
        rx_packets=flow.rx_packets,
        rx_bytes=flow.rx_bytes,
        tx_bps=0.0 if flow.finish_us else 8 * reading.rate(0, current),
        rx_bps=0.0 if flow.finish_us else 8 * reading.rate(1, current),
        finish_us=flow.finish_us or None,
        answered_us=flow.answered_us or None,
        route_id=flow.route_id or None,
    )
