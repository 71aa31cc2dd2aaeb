"""The tables of `nm top`: which columns a view has, and its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.lab.metrics import MetricsSnapshot
    from orchestrator.protocol.messages import AppFlowMetrics, NodeMetrics

__all__ = ["COLUMNS", "VIEWS", "Row", "rows_of", "sorted_rows"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "links": ("from", "to", "rate", "packets/s", "bytes", "queue", "drops/s", "drops"),
    "nodes": ("node", "out", "in", "forwarded", "bytes out", "bytes in", "process cpu", "drops"),
    "flows": (
        "flow",
        "from",
        "to",
        "rate",
        "back",
        "bytes",
        "bytes back",
        "answered",
        "seconds",
        "route",
        "state",
    ),
    "groups": ("group", "node", "sent", "received", "bytes sent", "bytes received"),
    "sessions": ("node", "session", "role", "source", "state", "done", "bytes", "repair", "rtt"),
}
VIEWS: Mapping[str, str] = {
    "links": "rate",
    "nodes": "out",
    "flows": "rate",
    "groups": "sent",
    "sessions": "session",
}
"""The views, and the column that each is sorted by at first."""

_ASCENDING = frozenset({"from", "to", "node", "group", "session", "flow", "role", "route", "source", "state"})


@dataclass(frozen=True, slots=True)
class Row:
    """A row: what is shown, and what it is sorted by, one for each column."""

    cells: tuple[str, ...]
    keys: tuple[Any, ...]


def rows_of(snapshot: MetricsSnapshot, view: str) -> list[Row]:
    """Return the rows of a view."""
    return [row for node, each in snapshot.nodes.items() for row in _MAKERS[view](node, each)]


def sorted_rows(rows: list[Row], view: str, column: str) -> list[Row]:
    """Return rows in the order of a column: numbers from the largest, names and states from the first."""
    place = COLUMNS[view].index(column)
    return sorted(rows, key=lambda row: row.keys[place], reverse=column not in _ASCENDING)


def _links(node: int, found: NodeMetrics) -> list[Row]:
    return [
        _row(
            (node, None),
            (link.remote_node_id, None),
            (link.tx_bps, rate),
            (link.tx_pps, _count),
            (link.tx_bytes, _count),
            (link.queued_packets, _count),
            (link.drops_pps, _count),
            (_Drops(link.drops), str),
        )
        for link in found.links
    ]


def _nodes(node: int, found: NodeMetrics) -> list[Row]:
    forwarded = sum(link.tx_bps for link in found.links)
    return [
        _row(
            (node, None),
            (found.out_bps, rate),
            (found.in_bps, rate),
            (max(0.0, forwarded - found.out_bps), rate),
            (found.bytes_out, _count),
            (found.bytes_in, _count),
            (found.process_cpu, lambda share: f"{share:.0%}"),
            (_Drops(found.drops), str),
        )
    ]


def _flows(node: int, found: NodeMetrics) -> list[Row]:
    return [
        _row(
            (flow.name, None),
            (node, None),
            (flow.dst_node_id, lambda dst: str(dst or "")),
            (flow.tx_bps, rate),
            (flow.rx_bps, rate),
            (flow.tx_bytes, _count),
            (flow.rx_bytes, _count),
            (flow.answered_us or 0, _milliseconds),
            (_seconds(flow), lambda seconds: f"{seconds:.1f}"),
            (flow.route_id or 0, lambda route: str(route or "")),
            ("open" if flow.finish_us is None else "ended", None),
        )
        for flow in found.app_flows
    ]


def _groups(node: int, found: NodeMetrics) -> list[Row]:
    return [
        _row(
            (group.group_id, None),
            (node, None),
            (group.tx_bps, rate),
            (group.rx_bps, rate),
            (group.tx_bytes, _count),
            (group.rx_bytes, _count),
        )
        for group in found.groups
    ]


def _sessions(node: int, found: NodeMetrics) -> list[Row]:
    return [
        _row(
            (node, None),
            (each.session, None),
            (each.role, None),
            (each.source, None),
            (each.state, None),
            (each.done_bytes / each.total_bytes if each.total_bytes else 0.0, lambda share: f"{share:.0%}"),
            (each.total_bytes, _count),
            (each.repair_bytes, _count),
            (each.rtt_us, _milliseconds),
        )
        for each in found.sessions
    ]


_MAKERS: Mapping[str, Callable[[int, NodeMetrics], list[Row]]] = {
    "links": _links,
    "nodes": _nodes,
    "flows": _flows,
    "groups": _groups,
    "sessions": _sessions,
}


def _row(*parts: tuple[Any, Callable[[Any], str] | None]) -> Row:
    cells = tuple(str(value) if show is None else show(value) for value, show in parts)
    return Row(cells, tuple(value for value, _ in parts))


def rate(bps: float) -> str:
    """Return bits per second for people; nothing for 0."""
    for unit, size in (("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3)):
        if bps >= size:
            return f"{bps / size:.3g} {unit}"
    return f"{bps:.0f} bit" if bps else ""


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value else ""


def _milliseconds(micros: int) -> str:
    return f"{micros / 1000:.3g} ms" if micros else ""


class _Drops(int):
    """Dropped packets: their number, shown by cause."""

    causes: Mapping[str, int]

    def __new__(cls, causes: Mapping[str, int]) -> _Drops:
        """Return the sum of the causes."""
        self = super().__new__(cls, sum(causes.values()))
        self.causes = causes
        return self

    def __str__(self) -> str:
        return " ".join(f"{cause}={n}" for cause, n in sorted(self.causes.items(), key=lambda each: -each[1]))


def _seconds(flow: AppFlowMetrics) -> float:
    end = flow.finish_us if flow.finish_us is not None else round(time.time() * 1e6)
    return max(0.0, (end - flow.start_us) / 1e6)
