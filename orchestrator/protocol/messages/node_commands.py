"""Messages from the controller to a node's dataplane (Nextmini: `ControllerToDataplane`).

Where a message may concern all nodes of a process at once (`TopologyReady`, `NodeState`,
`InstallGroupDirectory`), node 0 in the frame's header means "every node on this connection".

Versions are digests of content, made by the controller and opaque to the node: it keeps the latest one per
thing and shows them in `StartUp.have` when it comes back, so that only what differs is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U8, U16, U32, U64

__all__ = [
    "AddFlows",
    "AddNode",
    "AddNodeAddress",
    "AgentWanted",
    "Flow",
    "Group",
    "GroupCreated",
    "GroupRoute",
    "InstallGroupDirectory",
    "InstallGroupRoutes",
    "InstallRoutes",
    "ListFlowRoutes",
    "MeasureLinks",
    "MemberChanged",
    "NodeSettings",
    "NodeSpec",
    "NodeState",
    "Pin",
    "ProbeLink",
    "RemoveNode",
    "Route",
    "SetLink",
    "StopFlows",
    "TopologyReady",
]


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """How this node runs."""

    node_id: U32
    operating_mode: str = "normal"


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class NodeSettings(Message):
    """Who the node is: Nextmini's `ControllerToDataplane::StartUp`."""

    node_id: U32
    net_mask: str
    virtual_base_addr: str
    user_space_base_addr: str
    external_base_addr: str
    multicast_pool_base: str
    multicast_pool_mask: str
    max_server_port: U16
    protocol: str
    scheduler_type: str
    seed: U64
    node_spec: NodeSpec


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class AddNode(Message):
    """There is a link to this neighbour, which has registered; sent to both ends.

    Attributes:
        remote_node_id: The neighbour.
        remote_name: Its name.
        remote_addr: `host:port` to dial; empty when this side does not dial.
        remote_process: The neighbour's process; another number than before means that it was restarted.
        same_process: The link stays in memory and no side dials.
        dial: This side dials; the other accepts.
        link: What happens to the packets that leave here for there.
        version: Of all of the above; report it in `Have.links`.
        remote_socket: The path of the unix socket of the neighbour's process, tried first; empty if there is
            none. It changes with that process alone and is not part of `version`.
        secret: The link's key, 32 bytes, which both ends prove to each other to have; empty within a process.
            It is the lab's and the pair's and changes with these alone, so that no version counts it.
        down: This direction was taken down: all packets to the neighbour are dropped, while the link stays.
    """

    remote_node_id: U32
    remote_name: str
    remote_addr: str
    remote_process: U64
    same_process: bool
    dial: bool
    link: LinkSpec
    version: U64
    remote_socket: str = ""
    secret: bytes = field(default=b"", repr=False)
    down: bool = False


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class RemoveNode(Message):
    """There is no link to this node any more."""

    remote_node_id: U32


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class AddNodeAddress(Message):
    """Where a node takes flows on demand (max mode)."""

    remote_node_id: U32
    remote_max_server_addr: str


@dataclass(frozen=True, slots=True)
class Route:
    """An explicit route's part at one node; several next hops mean a copy to each.

    Attributes:
        route_id: The route.
        src_node_id: Its source.
        dst_node_id: Its destination.
        next_hops: Where this node sends its packets.
        weight: Its share of the flows of its pair, by the sum of the weights of all routes of the pair.
    """

    route_id: U64
    src_node_id: U32
    dst_node_id: U32
    next_hops: tuple[U32, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pin:
    """Flows of a pair of nodes that shall take a route; a field that is left out matches every value.

    Attributes:
        pin_id: Its number.
        src_node_id: The source of the flows, to which it is sent.
        dst_node_id: Their destination.
        route_id: The route.
        protocol: The number of the protocol above IP.
        src_port: The source's port.
        dst_port: The destination's port.
    """

    pin_id: U64
    src_node_id: U32
    dst_node_id: U32
    route_id: U64
    protocol: U8 | None = None
    src_port: U16 | None = None
    dst_port: U16 | None = None


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class InstallRoutes(Message):
    """Change where packets go.

    Attributes:
        version: Of the routes after this message.
        table: Next-hop node ids as little-endian `u32`, indexed by destination id, 0 for none; absent when
            the table stays as it is.
        routes: Explicit routes that are new or changed; several with one source and destination are shared
            out by flow.
        removed: Route ids that are gone.
        reset: Forget all explicit routes and pins before applying those of this message.
        pins: Pins that are new or changed.
        removed_pins: Numbers of pins that are gone.
    """

    version: U64
    table: bytes | None = None
    routes: tuple[Route, ...] = ()
    removed: tuple[U64, ...] = ()
    reset: bool = False
    pins: tuple[Pin, ...] = ()
    removed_pins: tuple[U64, ...] = ()


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class ListFlowRoutes(Message):
    """List the flows for which this node, their first one, chose an explicit route.

    `Ack.value` is `{flows: [[flow, route_id, by, idle_ms], …], known, forgotten}`, the latest flows first;
    `by` is `only`, `hash`, `pin` or `fallback`.
    """

    limit: U32


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class SetLink(Message):
    """Impair the packets to a neighbour like this from now on; `version` replaces that of `AddNode`.

    `down` is as in `AddNode`.
    """

    remote_node_id: U32
    link: LinkSpec
    version: U64
    down: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """A user-space flow to run; exactly one of `size_bytes` and `duration_ms` is given.

    Attributes:
        controller_id: The controller's number for it, never used twice in a lab.
        src_node_id: Its source.
        dst_node_id: Its destination.
        size_bytes: Payload to transfer.
        duration_ms: How long the source sends.
        rate_bps: The source sends at most at this rate of payload.
        weight: Its weight where a link's scheduler knows weights.
        route_id: The explicit route that it must take.
        transport: `tcp` or `lossless_unicast`.
    """

    controller_id: U64
    src_node_id: U32
    dst_node_id: U32
    size_bytes: U64 | None = None
    duration_ms: U64 | None = None
    rate_bps: U64 | None = None
    weight: U32 | None = None
    route_id: U64 | None = None
    transport: str = "tcp"


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class AddFlows(Message):
    """Run these flows; sent to both ends, whichever order they get it in.

    Safe to repeat: a flow that runs goes on, with the rate and the weight of the repeated message, and one
    that has ended is reported in `FlowFinished` again. The source starts a flow after `TopologyReady`. Only
    the source of a flow reports about it.
    """

    flows: tuple[Flow, ...]


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class StopFlows(Message):
    """Stop these flows; sent to both ends, and safe to repeat.

    The source reports each flow that it has in `FlowFinished`, with the reason `stopped` unless it has ended
    before. Flows that the node does not have are skipped.
    """

    controller_ids: tuple[U64, ...]


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class TopologyReady(Message):
    """Every node is ready; traffic may start."""


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class AgentWanted(Message):
    """Roles are to run in nodes of this process, and no agent of it is connected.

    What runs roles is much larger than a node, so a process loads it when it is first called for;
    `AgentHello` follows on a connection of its own.
    """


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class GroupCreated(Message):
    """The group that this node asked for exists."""

    group_id: U32
    group_ip: str
    src_node_id: U32
    label: str


@dataclass(frozen=True, slots=True)
class Group:
    """A line of the group directory."""

    group_id: U32
    group_ip: str
    src_node_id: U32
    label: str


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class InstallGroupDirectory(Message):
    """Groups that are new, and ids of those that are gone; `version` covers the whole directory after it."""

    version: U64
    groups: tuple[Group, ...] = ()
    removed: tuple[U32, ...] = ()
    reset: bool = False


@dataclass(frozen=True, slots=True)
class GroupRoute:
    """What this node does with a group's packets on one tree; `local` delivers a copy here."""

    tree_id: U16
    route_id: U64
    next_hops: tuple[U32, ...]
    local: bool
    weight: float | None = None


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class InstallGroupRoutes(Message):
    """All of this node's routes for a group; none means that it has no part in it any more."""

    group_id: U32
    src_node_id: U32
    version: U64
    routes: tuple[GroupRoute, ...] = ()


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class MemberChanged(Message):
    """A node joined or left; sent to that node and to the group's source."""

    group_id: U32
    node_id: U32
    joined: bool


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class NodeState(Message):
    """A node's state changed: `starting`, `ready`, `unreachable`, `stopped` or `vacant`."""

    node_id: U32
    state: str


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class ProbeLink(Message):
    """Measure the link to a neighbour with at most this many bytes and milliseconds.

    With `below`, what carries the link is measured, and not its impairments. `ProbeResult` has the result.
    """

    remote_node_id: U32
    probe_id: U64
    probe_bytes: U64
    time_ms: U32 = 3_000
    below: bool = False


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class MeasureLinks(Message):
    """Send a `LinkMeasurements` for each node concerned; acknowledged behind the last one."""
