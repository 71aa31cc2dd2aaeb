"""Counters of nodes: what a node sends each second, and what an operator reads.

A controller takes a thousand `Metrics` a second, so they hold lists of numbers: the decoder checks a list at
once, not number by number, and a list is written to Postgres as it is. What operators read (`NodeMetrics`)
has rates and names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, U64, Counters, Json

__all__ = [
    "APP_FLOW_NUMBERS",
    "FLOW_NUMBERS",
    "GROUP_NUMBERS",
    "LINK_NUMBERS",
    "TOTALS",
    "AppFlowColumns",
    "AppFlowMetrics",
    "AppFlowStart",
    "DropCounter",
    "GetMetricRows",
    "GetMetrics",
    "GroupMetrics",
    "LinkMetrics",
    "MetricRows",
    "Metrics",
    "MetricsState",
    "NodeMetrics",
    "SessionCounter",
]


TOTALS = 7
"""Numbers in `Metrics.totals`: CPU time of the node's process in milliseconds, MTU segments from its programs
and their bytes with headers, MTU segments to its programs and their bytes, flows of which a part is not
recorded because there were too many, packets of flows that are not recorded at all."""

LINK_NUMBERS = 7
"""Numbers of a link in `Metrics.links`: the neighbour, packets and bytes sent, packets and bytes received,
packets and bytes in the queue. Packets are MTU segments."""

FLOW_NUMBERS = 2
"""Numbers of a direction of a flow in `Metrics.flows`: packets and bytes since the flow began."""

APP_FLOW_NUMBERS = 9
"""Numbers of a flow in `AppFlowColumns`: the node to which it goes (0 for none), its first packet and, when
it has ended, its last one (in microseconds since 1970, else 0), MTU segments sent, their bytes with headers,
MTU segments that came back, their bytes, microseconds from the first packet to the first one back (0 for none
yet), the explicit route that its packets take (0 for none)."""

GROUP_NUMBERS = 5
"""Numbers of a group in `Metrics.groups`: the group, packets and bytes sent, packets and bytes received; each
copy that is sent to a neighbour counts."""


@dataclass(frozen=True, slots=True)
class DropCounter:
    """Packets that were dropped on the way to a neighbour, by cause.

    The neighbour is 0 for packets that were dropped before a link was chosen or after they were received.
    """

    remote_node_id: U32
    drops: dict[str, U64]


@dataclass(frozen=True, slots=True)
class AppFlowColumns:
    """Flows of programs that began at this node.

    Attributes:
        flow_ids: 16 bytes each, one after the other.
        names: Protocol, addresses and ports, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
        numbers: `APP_FLOW_NUMBERS` of each.
    """

    flow_ids: bytes
    names: tuple[str, ...]
    numbers: Counters


@dataclass(frozen=True, slots=True)
class SessionCounter:
    """A lossless session that runs, or has ended.

    Attributes:
        session: Its number at this node.
        role: `sender` or `receiver`.
        source: The node that sends.
        state: `waiting`, `active`, `complete`, `failed`, `timed_out` or `left`.
        total_bytes: Bytes of payload.
        done_bytes: Bytes of payload that the slowest receiver has.
        sent_bytes: Bytes that this node sent for it.
        repair_bytes: Bytes of payload that were sent again.
        receivers: The number of receivers.
        rtt_us: The smoothed round trip to the farthest receiver in microseconds; 0 if unknown.
    """

    session: U64
    role: str
    source: U32
    state: str
    total_bytes: U64
    done_bytes: U64
    sent_bytes: U64
    repair_bytes: U64
    receivers: U32
    rtt_us: U64


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class Metrics(Message):
    """The counters of a node that changed since its last message; those of another process began again.

    Attributes:
        time_ms: When they were read, in milliseconds since 1970.
        totals: `TOTALS` numbers.
        links: `LINK_NUMBERS` of each link.
        drops: Links and causes.
        flow_ids: Directions of flows that enter or leave the network here, 16 bytes each.
        flows: `FLOW_NUMBERS` of each of them.
        app_flows: Flows of programs.
        groups: `GROUP_NUMBERS` of each group.
        sessions: Sessions.
    """

    time_ms: U64
    totals: Counters
    links: Counters | None = None
    drops: tuple[DropCounter, ...] | None = None
    flow_ids: bytes | None = None
    flows: Counters | None = None
    app_flows: AppFlowColumns | None = None
    groups: Counters | None = None
    sessions: tuple[SessionCounter, ...] | None = None


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class AppFlowStart(Message):
    """Flows of programs began at a node; the next `Metrics` has them as well."""

    time_ms: U64
    flows: AppFlowColumns


@dataclass(frozen=True, slots=True)
class LinkMetrics:
    """One direction of a link: what the node sent to the neighbour, what it received, and the rates now.

    Attributes:
        remote_node_id: The neighbour.
        tx_packets: MTU segments sent since the node started.
        tx_bytes: Their bytes with headers.
        rx_packets: MTU segments received.
        rx_bytes: Their bytes with headers.
        queued_packets: MTU segments that wait.
        queued_bytes: Their bytes.
        drops: MTU segments that were dropped, by cause.
        tx_bps: Bits sent per second.
        rx_bps: Bits received per second.
        tx_pps: MTU segments sent per second.
        drops_pps: MTU segments dropped per second.
    """

    remote_node_id: U32
    tx_packets: U64
    tx_bytes: U64
    rx_packets: U64
    rx_bytes: U64
    queued_packets: U64
    queued_bytes: U64
    drops: dict[str, U64]
    tx_bps: float
    rx_bps: float
    tx_pps: float
    drops_pps: float


@dataclass(frozen=True, slots=True)
class AppFlowMetrics:
    """A flow of programs, as in `AppFlowColumns`, with its rates now.

    `finish_us` is None while it runs, `route_id` where its packets take no explicit route.
    """

    flow_id: str
    name: str
    dst_node_id: U32
    start_us: U64
    tx_packets: U64
    tx_bytes: U64
    rx_packets: U64
    rx_bytes: U64
    tx_bps: float
    rx_bps: float
    finish_us: U64 | None = None
    answered_us: U64 | None = None
    route_id: U64 | None = None


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """A group at a node, with its rates now; each copy that is sent counts."""

    group_id: U32
    tx_packets: U64
    tx_bytes: U64
    rx_packets: U64
    rx_bytes: U64
    tx_bps: float
    rx_bps: float


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class NodeMetrics(Message):
    """The newest counters of a node, and the rates between the last two reports.

    Attributes:
        time_ms: When the newest ones were read, in milliseconds since 1970.
        cpu_ms: CPU time of the process that carries the node.
        process: That process.
        packets_out: MTU segments from the node's programs.
        bytes_out: Their bytes with headers.
        packets_in: MTU segments to the node's programs.
        bytes_in: Their bytes with headers.
        out_bps: Bits from its programs per second.
        in_bps: Bits to its programs per second.
        drops: MTU segments that were dropped before a link was chosen or after they were received, by cause.
        flows_forgotten: Flows of which a part is not recorded, because there were too many.
        packets_unrecorded: Packets of flows that are not recorded at all.
        links: Links that carried something.
        app_flows: Flows of programs that began here: those that run, and the last that ended.
        groups: Groups that carried something.
        sessions: Sessions that run, and the last that ended.
        process_cpu: Processors that the process used between the last two reports: 0.5 is half of one.
    """

    time_ms: U64
    cpu_ms: U64
    process: U64
    packets_out: U64
    bytes_out: U64
    packets_in: U64
    bytes_in: U64
    out_bps: float
    in_bps: float
    drops: dict[str, U64] = field(default_factory=dict)
    flows_forgotten: U64 = 0
    packets_unrecorded: U64 = 0
    links: tuple[LinkMetrics, ...] = ()
    app_flows: tuple[AppFlowMetrics, ...] = ()
    groups: tuple[GroupMetrics, ...] = ()
    sessions: tuple[SessionCounter, ...] = ()
    process_cpu: float = 0.0


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetMetrics(Message):
    """Send the `NodeMetrics` of each node that has reported, then `MetricsState`."""


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class MetricsState(Message):
    """How metrics are collected.

    Attributes:
        re: The request.
        interval_ms: Milliseconds between two reports of a node; 0 for none.
        keep_s: Seconds for which Postgres keeps them.
        reports: Reports that were taken since the controller started.
        refused: Reports or parts of reports that were refused, because they contradict themselves or the lab.
        lost_rows: Rows that were given up while Postgres was away.
    """

    re: U32
    interval_ms: U32
    keep_s: U64
    reports: U64
    refused: U64
    lost_rows: U64


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetMetricRows(Message):
    """Send rows of a table of metrics as `MetricRows`, oldest first.

    Attributes:
        table: `links`, `flows`, `nodes`, `groups`, `sessions`, `app-flows` or `route-changes`.
        after: Only what follows this place, which the last answer named; 0 from the first.
        since_ms: Only rows from this time on, in milliseconds since 1970.
        limit: Reports to read at most, each of which is one or more rows.
    """

    table: str
    after: U64 = 0
    since_ms: U64 = 0
    limit: U32 = 1000


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class MetricRows(Message):
    """Rows of metrics.

    Attributes:
        re: The request.
        columns: The names of the columns.
        rows: The rows.
        next: `after` of the next request; 0 when there is no more.
    """

    re: U32
    columns: tuple[str, ...]
    rows: Json
    next: U64 = 0
