"""What the answers of the REST API hold where the controller answers with an `Ack` or a part of a message.

The classes describe values for the OpenAPI document; the functions make the values.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.controller.errors import GroupUnknown, LinkUnknown, NodeUnknown, RunUnknown
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import Frame, Message
from orchestrator.protocol import messages as m
from orchestrator.protocol.schema import U32, U64, Json

__all__ = ["ACK", "Answer", "Nothing", "acknowledged", "of_status"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        kind: The class that describes it, or a list of such, as an annotation.
        make: Makes it from the reply, from the messages that came before the reply, and from the parameters.
        params: Parameters of the path that only `make` reads, with their annotations.
    """

    kind: Any
    make: Callable[[Any, Sequence[Frame], Mapping[str, Any]], Any]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Nothing:
    """The request was carried out; there is nothing to tell."""


@dataclass(frozen=True, slots=True)
class NodeAdded:
    """The number of the node."""

    node_id: U32


@dataclass(frozen=True, slots=True)
class LabChanged:
    """What was changed: `{do, kind, what, keys, live}` each, as `nm plan -o json` has it."""

    changes: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link does now from `a` to `b` and back; `reason` says why not, where it does not."""

    forward: LinkSpec
    backward: LinkSpec
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LinkState:
    """The state of a link, as in `LinkStatus`."""

    state: str
    down: str
    reason: str


@dataclass(frozen=True, slots=True)
class LinksReset:
    """The ends of the links that were changed; of very many the first, with their number."""

    links: tuple[tuple[U32, U32], ...]
    links_count: U32 | None = None


@dataclass(frozen=True, slots=True)
class LinksCut:
    """The ends of links that went down and came up, and pairs of groups that other nodes still connect.

    Of very many the first, with their number.
    """

    down: tuple[tuple[U32, U32], ...]
    up: tuple[tuple[U32, U32], ...]
    connected: tuple[tuple[U32, U32], ...]
    down_count: U32 | None = None
    up_count: U32 | None = None
    connected_count: U32 | None = None


@dataclass(frozen=True, slots=True)
class NodesWanted:
    """The nodes for which the wanted state is a change, and those for which it was so already."""

    changed: tuple[U32, ...]
    already: tuple[U32, ...]


@dataclass(frozen=True, slots=True)
class NextHop:
    """The neighbour to which packets for a node go by shortest path."""

    dst_node_id: U32
    next_hop: U32


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """The routes of a node: by shortest path, and its part of the explicit ones, which come first."""

    node_id: U32
    table: tuple[NextHop, ...]
    explicit: tuple[m.Route, ...]


@dataclass(frozen=True, slots=True)
class ExplicitRoute:
    """An explicit route.

    Attributes:
        share: Its share of the flows of its pair at the moment; 0 while it is down.
        state: `up`, `down` where a link of it carries nothing, or `invalid` where it cannot be used.
        origin: `file`, `computed`, `sql` or `operator`.
        pins: The numbers of the pins to it.
    """

    route_id: U64
    src_node_id: U32
    dst_node_id: U32
    edges: tuple[tuple[U32, U32], ...]
    weight: float
    share: float
    state: str
    origin: str
    pins: tuple[U64, ...]


@dataclass(frozen=True, slots=True)
class FlowRoute:
    """A flow that begins at a node, and the explicit route that it takes.

    Attributes:
        by: Why: `only`, `hash`, `pin`, or `fallback` where the route of its pin is down or gone.
        idle_ms: Since its last packet.
    """

    node_id: U32
    flow: str
    route_id: U64
    by: str
    idle_ms: U64


@dataclass(frozen=True, slots=True)
class FlowRoutes:
    """The latest flows of nodes, how many they know and have forgotten, and nodes without an answer."""

    flows: tuple[FlowRoute, ...]
    known: U64
    forgotten: U64
    silent: tuple[U32, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of their numbers; `more` when the limit cut them off."""

    events: tuple[m.Event, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class ProbeStarted:
    """The number of a probe."""

    id: U64


@dataclass(frozen=True, slots=True)
class ProbePage:
    """Probes in order of their numbers; `more` when the limit cut them off."""

    probes: tuple[m.ProbeStatus, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class MaxFlowPage:
    """Flows in max mode, the latest first; `more` when the limit cut them off."""

    flows: tuple[m.MaxFlowStatus, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class NodeMeasurement:
    """What a node measured of its links since the start: see `LinkMeasurements`."""

    node_id: U32
    time_ms: U64
    cpu_ms: U64
    overload_drops: U64
    links: tuple[m.LinkMeasurement, ...]


@dataclass(frozen=True, slots=True)
class NodeCounters:
    """The newest counters of a node."""

    node_id: U32
    counters: m.NodeMetrics


@dataclass(frozen=True, slots=True)
class LabMetrics:
    """The newest counters of all nodes that have reported, and how they are collected: see `MetricsState`."""

    interval_ms: U32
    keep_s: U64
    reports: U64
    refused: U64
    lost_rows: U64
    nodes: tuple[NodeCounters, ...]


@dataclass(frozen=True, slots=True)
class MetricPage:
    """Rows of a table of metrics; `next` is `after` of the next request, 0 when there is no more."""

    columns: tuple[str, ...]
    rows: tuple[Json, ...]
    next: U64


def acknowledged(kind: Any) -> Answer:
    """Return the answer that is the value of an `Ack`."""
    return Answer(kind, lambda reply, frames, params: reply.value or {}, {})


def of_status(kind: Any, make: Callable[..., Any], **params: Any) -> Answer:
    """Return an answer made from the `Status` and from parameters of the path."""
    return Answer(kind, lambda reply, frames, given: make(reply, *(given[name] for name in params)), params)


def node(status: m.Status, node_id: int) -> m.NodeStatus:
    """Return a node."""
    for each in status.nodes:
        if each.id == node_id:
            return each
    raise NodeUnknown(f"there is no node {node_id}")


def link(status: m.Status, a: int, b: int) -> m.LinkStatus:
    """Return a link, its directions as seen from `a`."""
    for each in status.links:
        if (each.a, each.b) == (a, b):
            return each
        if (each.a, each.b) == (b, a):
            down = {"forward": "backward", "backward": "forward"}.get(each.down, each.down)
            ends = (a, b, each.state, each.backward, each.forward)
            return m.LinkStatus(*ends, each.kind, each.reason, down)
    raise LinkUnknown(f"there is no link between node {a} and node {b}")


def group(status: m.Status, group_id: int) -> m.GroupStatus:
    """Return a group."""
    for each in status.groups:
        if each.group_id == group_id:
            return each
    raise GroupUnknown(f"there is no group {group_id}")


def run(status: m.Status, name: str) -> m.RunStatus:
    """Return a run."""
    for each in status.runs:
        if each.run == name:
            return each
    raise RunUnknown(
        f"there is no run `{name[:100]}` among those under way and the last that ended",
        hint="`nm results list` lists all runs",
    )


def routes(reply: m.Routes, frames: Sequence[Frame], params: Mapping[str, Any]) -> NodeRoutes:
    """Return the routes of a node with its table as a list."""
    table = array("I", reply.table)
    if sys.byteorder == "big":
        table.byteswap()
    hops = tuple(NextHop(node_id, hop) for node_id, hop in enumerate(table) if hop)
    return NodeRoutes(reply.node_id, hops, reply.explicit)


def events(reply: m.Events, frames: Sequence[Frame], params: Mapping[str, Any]) -> EventPage:
    """Return a page of events."""
    return EventPage(reply.events, reply.more)


def probes(reply: m.ProbeList, frames: Sequence[Frame], params: Mapping[str, Any]) -> ProbePage:
    """Return a page of probes."""
    return ProbePage(reply.probes, reply.more)


def max_flows(reply: m.MaxFlowList, frames: Sequence[Frame], params: Mapping[str, Any]) -> MaxFlowPage:
    """Return a page of flows in max mode."""
    return MaxFlowPage(reply.flows, reply.more)


def measurements(reply: Message, frames: Sequence[Frame], params: Mapping[str, Any]) -> list[NodeMeasurement]:
    """Return what the nodes measured that answered in time, in order of node."""
    found = []
    for frame in frames:
        seen = frame.message
        if isinstance(seen, m.LinkMeasurements):
            head = (frame.node, seen.time_ms, seen.cpu_ms, seen.overload_drops)
            found.append(NodeMeasurement(*head, seen.links))
    return sorted(found, key=lambda each: each.node_id)


def lab_metrics(reply: m.MetricsState, frames: Sequence[Frame], params: Mapping[str, Any]) -> LabMetrics:
    """Return the newest counters of all nodes."""
    nodes = tuple(
        NodeCounters(frame.node, frame.message)
        for frame in frames
        if isinstance(frame.message, m.NodeMetrics)
    )
    return LabMetrics(reply.interval_ms, reply.keep_s, reply.reports, reply.refused, reply.lost_rows, nodes)


def metric_page(reply: m.MetricRows, frames: Sequence[Frame], params: Mapping[str, Any]) -> MetricPage:
    """Return a page of rows."""
    return MetricPage(reply.columns, tuple(reply.rows), reply.next)


ACK = acknowledged(Nothing)
"""The answer to a request that has no result."""
