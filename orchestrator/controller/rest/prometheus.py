"""The counters of the lab in the text format of Prometheus, version 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats. Counters begin again with another process of a
node, which `rate()` of Prometheus takes into account. Single flows are left out: each would be a series of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestrator.protocol import messages as m

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Sample = tuple[Mapping[str, str | int], float]
_Family = tuple[str, str, str, Iterable[_Sample]]


def exposition(nodes: Sequence[tuple[int, m.NodeMetrics]], state: m.MetricsState) -> str:
    """Return the text for the newest counters of nodes."""
    lines: list[str] = []
    for name, kind, text, samples in _families(nodes, state):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(nodes: Sequence[tuple[int, m.NodeMetrics]], state: m.MetricsState) -> Iterator[_Family]:
    for field, kind, text in _LINK:
        samples = [
            ({"node": node, "remote": link.remote_node_id}, getattr(link, field))
            for node, each in nodes
            for link in each.links
        ]
        yield f"nm_link_{field}{'_total' if kind == 'counter' else ''}", kind, text, samples
    drops: list[_Sample] = [
        ({"node": node, "remote": remote, "cause": cause}, count)
        for node, each in nodes
        for remote, causes in ((0, each.drops), *((link.remote_node_id, link.drops) for link in each.links))
        for cause, count in causes.items()
    ]
    text = "Packets dropped on the way to a neighbour; remote 0: before a link was chosen, or after it."
    yield "nm_dropped_packets_total", "counter", text, drops
    for field, text in _NODE:
        yield (
            f"nm_node_{field}_total",
            "counter",
            text,
            [({"node": node}, getattr(each, field)) for node, each in nodes],
        )
    yield (
        "nm_node_open_flows",
        "gauge",
        "Flows of programs that began at a node and run.",
        [({"node": node}, sum(flow.finish_us is None for flow in each.app_flows)) for node, each in nodes],
    )
    for field, text in _GROUP:
        yield (
            f"nm_group_{field}_total",
            "counter",
            text,
            [
                ({"node": node, "group": group.group_id}, getattr(group, field))
                for node, each in nodes
                for group in each.groups
            ],
        )
    running = [
        (node, session) for node, each in nodes for session in each.sessions if session.state == "active"
    ]
    for field, kind, text in _SESSION:
        yield (
            f"nm_session_{field}{'_total' if kind == 'counter' else ''}",
            kind,
            text,
            [
                ({"node": node, "session": each.session, "role": each.role}, getattr(each, field))
                for node, each in running
            ],
        )
    yield (
        "nm_session_rtt_seconds",
        "gauge",
        "Smoothed round trip of a lossless session that runs, to its farthest receiver.",
        [
            ({"node": node, "session": each.session}, each.rtt_us / 1e6)
            for node, each in running
            if each.rtt_us
        ],
    )
    cpu: dict[int, float] = {}  # of a process the newest, which is that of its node that reported last
    for _, each in nodes:
        cpu[each.process] = max(cpu.get(each.process, 0.0), each.cpu_ms / 1000)
    yield (
        "nm_process_cpu_seconds_total",
        "counter",
        "CPU time of a process that carries nodes.",
        [({"process": f"{process:x}"}, seconds) for process, seconds in cpu.items()],
    )
    for name, text, value in (
        ("reports", "Reports taken from nodes.", state.reports),
        ("refused", "Reports refused.", state.refused),
        ("lost_rows", "Rows given up while Postgres was away.", state.lost_rows),
    ):
        yield f"nm_metrics_{name}_total", "counter", text, [({}, value)]


_LINK = (
    ("tx_packets", "counter", "MTU segments sent to a neighbour."),
    ("tx_bytes", "counter", "Their bytes with headers."),
    ("rx_packets", "counter", "MTU segments received from a neighbour."),
    ("rx_bytes", "counter", "Their bytes with headers."),
    ("queued_packets", "gauge", "MTU segments that wait for the serializer or for their delay."),
    ("queued_bytes", "gauge", "Their bytes."),
)
_NODE = (
    ("packets_out", "MTU segments from the programs of a node."),
    ("bytes_out", "Their bytes with headers."),
    ("packets_in", "MTU segments to the programs of a node."),
    ("bytes_in", "Their bytes with headers."),
    ("flows_forgotten", "Flows of which a part is not recorded."),
    ("packets_unrecorded", "Packets of flows that are not recorded."),
)
_SESSION = (
    ("total_bytes", "gauge", "Payload of a lossless session that runs."),
    ("done_bytes", "gauge", "Payload that its slowest receiver has."),
    ("sent_bytes", "counter", "Bytes that the node sent for it."),
    ("repair_bytes", "counter", "Payload that was sent again."),
)
_GROUP = (
    ("tx_packets", "MTU segments of a group sent to neighbours, each copy counted."),
    ("tx_bytes", "Their bytes with headers."),
    ("rx_packets", "MTU segments of a group that arrived."),
    ("rx_bytes", "Their bytes with headers."),
)


def _labels(labels: Mapping[str, str | int]) -> str:
    """Return labels in braces; backslash, quote and line feed are escaped, as the format wants."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str | int) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
