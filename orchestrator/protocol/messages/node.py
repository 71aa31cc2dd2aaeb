"""Messages from a node's dataplane to the controller (Nextmini: `DataplaneToController`).

The frame's `node` says which node a message concerns, since one connection carries all nodes of a process.
The answers are in `orchestrator.protocol.messages.node_commands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U16, U32, U64, Json, Name

__all__ = [
    "ComputeGroupRoutes",
    "CreateGroup",
    "FinishedFlow",
    "FlowFinished",
    "FlowProgress",
    "Have",
    "JoinGroup",
    "LeaveGroup",
    "LinkMeasurement",
    "LinkMeasurements",
    "LinkState",
    "NodeEvent",
    "NodeTopologyReady",
    "ProbeResult",
    "RouteAssigned",
    "RouteAssignment",
    "SetGroupRoutes",
    "SetGroupRoutesMulti",
    "StartUp",
    "Tree",
    "UserFlow",
    "UserFlowProgress",
    "UserFlowStart",
]

Edge = tuple[U32, U32]


@dataclass(frozen=True, slots=True)
class Have:
    """What a returning node still holds, as versions; all absent for a node that has just started."""

    routes: U64 | None = None
    groups: U64 | None = None
    links: dict[U32, U64] = field(default_factory=dict)
    trees: dict[U32, U64] = field(default_factory=dict)


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class StartUp(Message):
    """A node registers, or comes back after either side was away. Answered by `Ack` and `NodeSettings`.

    Attributes:
        private_network_name: Nodes that share it reach each other by their private address.
        private_network_addr: `host:port` where links may be dialled.
        public_network_addr: The same for nodes elsewhere; empty when there is none.
        external: The node is external, run by a program of the user's own.
        process: As in `Hello`; equal on two nodes means that a link between them stays in memory.
        mtu: Of the node's interface.
        have: What it still holds.
        link_socket: The path of the unix socket that accepts links from processes on this machine; empty when
            there is none.
        token: The node's own token. It may be left out by the node that the connection's `Hello` named.
    """

    private_network_name: str
    private_network_addr: str
    public_network_addr: str = ""
    external: bool = False
    process: U64 = 0
    mtu: U32 = 1500
    have: Have = field(default_factory=Have)
    link_socket: str = ""
    token: str = field(default="", repr=False)


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class LinkState(Message):
    """A link of this node came up or went down.

    Attributes:
        remote_node_id: The neighbour.
        up: Whether it carries packets.
        reason: Why, for a person.
        kind: What carries it while it is up: `memory`, `shared`, `unix` or `tcp`.
    """

    remote_node_id: U32
    up: bool
    reason: str = ""
    kind: str = ""


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class NodeTopologyReady(Message):
    """The node has installed its routes and all of its links are up."""


@dataclass(frozen=True, slots=True)
class UserFlow:
    """A flow that the controller asked for and that has begun: its connection is established.

    `flow_id` is 16 bytes and equal to that of its packets.
    """

    controller_id: U64
    flow_id: bytes
    start_ms: U64


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class UserFlowStart(Message):
    """Flows that the controller asked for began; sent by their source, and again after a reconnect."""

    flows: tuple[UserFlow, ...]


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """How far a flow that the controller asked for has come: bytes that its destination has acknowledged."""

    controller_id: U64
    size_bytes: U64


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class UserFlowProgress(Message):
    """Flows of this source that came further since the last such message; about once per second."""

    time_ms: U64
    flows: tuple[FlowProgress, ...]


@dataclass(frozen=True, slots=True)
class RouteAssignment:
    """Which of several routes a flow took."""

    flow_id: bytes
    route_id: U64
    time_ms: U64


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class RouteAssigned(Message):
    """Flows were given routes."""

    assignments: tuple[RouteAssignment, ...]


@dataclass(frozen=True, slots=True)
class FinishedFlow:
    """A flow that ended.

    Attributes:
        flow_id: 16 bytes, as in `UserFlow`.
        start_ms: When it began; when it was requested if it never began.
        finish_ms: When it ended.
        size_bytes: For a flow that the controller asked for: payload that the destination counted, or,
            when the destination did not answer, those that it had acknowledged.
        controller_id: Only for a flow that the controller asked for.
        reason: Empty when it came to its end; else `stopped`, `timed out`, `route is gone` (timed out, and a
            router reported that it has no route), `refused` or `reset` (by the destination: before and after
            its beginning).
        start_us: `start_ms` in microseconds, for durations of short flows; 0 if unknown.
        finish_us: The same for `finish_ms`.
    """

    flow_id: bytes
    start_ms: U64
    finish_ms: U64
    size_bytes: U64 = 0
    controller_id: U64 | None = None
    reason: str = ""
    start_us: U64 = 0
    finish_us: U64 = 0


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class FlowFinished(Message):
    """Flows ended; sent by their source until acknowledged, and again whenever `AddFlows` repeats them."""

    flows: tuple[FinishedFlow, ...]


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class CreateGroup(Message):
    """Make a group with this node as its source; again with the same label: the same group.

    `Ack.value` is `{group_id, group_ip, src_node_id, label}`; a `GroupCreated` comes as well.
    """

    label: Name


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class JoinGroup(Message):
    """Become a member; acknowledged when the membership is stored.

    With `wait_ms`, a group that does not exist yet is waited for that long.
    """

    group_id: U32
    wait_ms: U32 = 0


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class LeaveGroup(Message):
    """Stop being a member."""

    group_id: U32


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class SetGroupRoutes(Message):
    """Give a group one tree, as directed edges; refused with the reason when it is none to the members."""

    group_id: U32
    edges: tuple[Edge, ...]
    wait_ms: U32 = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """One of a group's trees."""

    tree_id: U16
    edges: tuple[Edge, ...]
    weight: float | None = None


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class SetGroupRoutesMulti(Message):
    """Give a group several trees, replacing those it had."""

    group_id: U32
    trees: tuple[Tree, ...]
    wait_ms: U32 = 0


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class ComputeGroupRoutes(Message):
    """Compute a tree to these receivers and install it; `Ack.value` is the list of its edges.

    No receivers means: the group's members. The only kind is `shortest_path`.
    """

    group_id: U32
    receivers: tuple[U32, ...] = ()
    kind: str = "shortest_path"


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class NodeEvent(Message):
    """Something worth remembering happened in a node; it goes to the event log."""

    name: str
    detail: Json = None


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class ProbeResult(Message):
    """What a `ProbeLink` measured, or why it could not.

    Attributes:
        remote_node_id: The neighbour.
        probe_id: The probe.
        mbps: Capacity towards the neighbour; 0 if it could not be measured.
        error: Why the probe failed; nothing else counts then.
        round_trip_p50_us: Median of the round trip in microseconds.
        round_trip_p99_us: Its 99th percentile.
        packets_sent: Packets that were sent to measure the loss.
        packets_received: Those that reached the neighbour.
        packets_answered: Those whose answer came back.
        sent_bytes: Bytes that were sent.
    """

    remote_node_id: U32
    probe_id: U64
    mbps: float
    error: str = ""
    round_trip_p50_us: float | None = None
    round_trip_p99_us: float | None = None
    packets_sent: U32 = 0
    packets_received: U32 = 0
    packets_answered: U32 = 0
    sent_bytes: U64 = 0


Buckets = tuple[tuple[U64, U64], ...]


@dataclass(frozen=True, slots=True)
class LinkMeasurement:
    """What a node did to the packets of one link, since the link was made.

    Attributes:
        remote_node_id: The neighbour to which the packets went.
        packets: MTU segments that passed the impairments.
        drops: Those that were dropped, by cause.
        offered: MTU segments that reached the impairments.
        changes: How often the specification changed.
        draws: Delays that were drawn from the distribution of the jitter.
        busy_ns: Time during which the serializer was busy, in periods of at least 100 ms.
        busy_bytes: Bytes that it transmitted in those periods.
        delay: Delays in nanoseconds: smallest value and count of each bucket that is not empty.
        delay_sum_us: Their sum in microseconds.
        delay_squares_us: The sum of their squares.
        late: Nanoseconds by which packets were released late, in the same form.
        late_sum_us: Their sum in microseconds.
    """

    remote_node_id: U32
    packets: U64
    drops: dict[str, U64] = field(default_factory=dict)
    offered: U64 = 0
    changes: U64 = 0
    draws: U64 = 0
    busy_ns: U64 = 0
    busy_bytes: U64 = 0
    delay: Buckets = ()
    delay_sum_us: float = 0.0
    delay_squares_us: float = 0.0
    late: Buckets = ()
    late_sum_us: float = 0.0


@sent_by(Role.NODE, Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class LinkMeasurements(Message):
    """What a node measured of its links, and what its process took for it.

    Attributes:
        time_ms: When, in milliseconds since 1970.
        process: The process, as in `Hello`.
        cpu_ms: Its CPU time.
        shard: The thread of the process that carries the node.
        overload_drops: Packets that this thread dropped because a ring, a socket or a TUN queue was full.
        links: By link; those without packets are left out.
    """

    time_ms: U64
    process: U64
    cpu_ms: U64
    shard: U32
    overload_drops: U64
    links: tuple[LinkMeasurement, ...] = ()
