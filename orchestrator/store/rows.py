"""The rows of the tables as frozen classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.impairment import PLAIN, LinkSpec

__all__ = [
    "EventRow",
    "GroupRow",
    "LabRow",
    "LinkRow",
    "NodeRow",
    "PinRow",
    "RoleRow",
    "RouteRow",
    "RunRow",
    "Snapshot",
    "TreeRow",
]

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node, and where it was last seen."""

    node_id: int
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    state: str = "starting"
    private_network_name: str = ""
    private_network_addr: str = ""
    public_network_addr: str = ""
    process: int = 0
    mtu: int = 1500
    wanted: str = "running"
    prefixes: tuple[str, ...] = ()
    uplink: bool = False


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A link, declared and in force; `a` is less than `b`.

    Attributes:
        refusal: Why the impairments in the row, written by SQL, are those of no link; empty if they are.
        in_words: They were written in the words of the topology file, and have to be written as fields.
    """

    a: int
    b: int
    forward: LinkSpec = PLAIN
    backward: LinkSpec = PLAIN
    forward_now: LinkSpec | None = None
    backward_now: LinkSpec | None = None
    origin: str = "file"
    forward_down: bool = False
    backward_down: bool = False
    partitioned: bool = False
    refusal: str = ""
    in_words: bool = False


@dataclass(frozen=True, slots=True)
class RouteRow:
    """An explicit route as directed edges."""

    route_id: int
    src: int
    dst: int
    edges: Edges
    origin: str = "file"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PinRow:
    """Flows of a pair of nodes that shall take one of its explicit routes; None matches every value."""

    pin_id: int
    src: int
    dst: int
    route_id: int
    protocol: int | None = None
    src_port: int | None = None
    dst_port: int | None = None


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A tree that was set for a group."""

    tree_id: int
    edges: Edges
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group with its members and trees."""

    group_id: int
    label: str
    src_node_id: int
    group_ip: str | None
    members: tuple[int, ...] = ()
    trees: tuple[TreeRow, ...] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    """An entry of the lab's log."""

    seq: int
    time_ms: int
    name: str
    node: int = 0
    detail: Any = None


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role of a run in a node."""

    node: int
    role: str
    state: str
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run that was under way when the controller ended, with all it needs to continue.

    Attributes:
        rows: The number of the last row of each node.
        counts: How many rows of each node there are.
        started_monotonic: When it started, in seconds since `boot`.
        timeline: Its events of a timeline: kind, milliseconds since 1970, data.
    """

    run: str
    scenario: str
    state: str
    reason: str
    entry: str
    params: Mapping[str, Any]
    seed: int
    timeout_s: float
    started_ms: int
    files: Mapping[str, bytes]
    roles: tuple[RoleRow, ...]
    rows: Mapping[int, int]
    values: Mapping[str, Any]
    barriers: Mapping[str, int]
    last_event: int
    counts: Mapping[int, int] = field(default_factory=dict)
    started_monotonic: float = 0.0
    boot: str = ""
    timeline: tuple[tuple[str, int, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class WantedRow:
    """What a node shall be by request: `running`, `stopped` or `paused`."""

    node_id: int
    wanted: str


@dataclass(frozen=True, slots=True)
class LabRow:
    """The lab itself."""

    name: str
    incarnation: int
    was_ready: bool
    partition: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All state that a controller needs to continue after a restart.

    Attributes:
        deleted_links: The ends of links of the controller's file that were deleted by SQL.
        file_routes: The number of each route of the controller's file, as a row; one that is not among
            `routes` was deleted.
        pins: The pins of flows to routes.
    """

    lab: LabRow
    nodes: tuple[NodeRow, ...]
    links: tuple[LinkRow, ...]
    routes: tuple[RouteRow, ...]
    groups: tuple[GroupRow, ...]
    last_event: int
    runs: tuple[RunRow, ...]
    traces: Mapping[str, bytes] = field(default_factory=dict)
    deleted_links: frozenset[tuple[int, int]] = frozenset()
    file_routes: tuple[RouteRow, ...] = ()
    pins: tuple[PinRow, ...] = ()
