"""Requests of operators about the routes of nodes, explicit routes, and pins of flows to them.

`Ack.value` answers all but `GetRoutes`. A route in an answer is a map: `route_id`, `src_node_id`,
`dst_node_id`, `edges`, `weight`, `share` (of the flows of its pair at the moment, 0 while it is down),
`state` (`up`, `down`, or `invalid` for one that cannot be used), `origin` and `pins` (their numbers). A pin
is a map with the fields of `Pin`. Every change is in force and stored when it is acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.messages.node_commands import Route
from orchestrator.protocol.schema import U8, U16, U32, U64

__all__ = [
    "AddPin",
    "AddRoute",
    "ChangeRoute",
    "DeletePin",
    "DeleteRoute",
    "GetExplicitRoutes",
    "GetFlowRoutes",
    "GetPins",
    "GetRoutes",
    "Routes",
]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetRoutes(Message):
    """Ask for the `Routes` that a node should have."""

    node_id: U32


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class Routes(Message):
    """The routes that a node should have; answers `GetRoutes`.

    Attributes:
        re: The request.
        node_id: The node.
        table: Its next hops by shortest path, as in `InstallRoutes`.
        explicit: Its part of the explicit routes, which take precedence.
    """

    re: U32
    node_id: U32
    table: bytes
    explicit: tuple[Route, ...] = ()


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetExplicitRoutes(Message):
    """Ask for all explicit routes, or for those of one pair."""

    src_node_id: U32 = 0
    dst_node_id: U32 = 0


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class AddRoute(Message):
    """Add an explicit route of a pair, as a path of nodes or as directed edges; `Ack.value` is the route."""

    src_node_id: U32
    dst_node_id: U32
    path: tuple[U32, ...] = ()
    edges: tuple[tuple[U32, U32], ...] = ()
    weight: float = 1.0
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class ChangeRoute(Message):
    """Change the weight of an explicit route, its path or edges, or both; `Ack.value` is the route."""

    route_id: U64
    path: tuple[U32, ...] = ()
    edges: tuple[tuple[U32, U32], ...] = ()
    weight: float | None = None
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class DeleteRoute(Message):
    """Delete an explicit route with the pins to it; `Ack.value` is what it was."""

    route_id: U64
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetPins(Message):
    """Ask for all pins."""


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class AddPin(Message):
    """Let flows of the pair of a route take this route; `Ack.value` is the pin.

    Attributes:
        route_id: The route.
        protocol: The number of the protocol above IP; None for every one, as for what follows.
        src_port: The source's port.
        dst_port: The destination's port.
        cause: Who or what asked, for the history.
    """

    route_id: U64
    protocol: U8 | None = None
    src_port: U16 | None = None
    dst_port: U16 | None = None
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class DeletePin(Message):
    """Delete a pin, so that its flows are spread again; `Ack.value` is what it was."""

    pin_id: U64
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetFlowRoutes(Message):
    """Ask for the flows that nodes have assigned to explicit routes, of one node or (0) of all.

    `Ack.value` is `{flows, known, forgotten, silent}`: the latest flows of each node, each with `node_id`
    (where it begins), `flow`, `route_id`, `by` (`only`, `hash`, `pin`, or `fallback` where the route of its
    pin is down or gone) and `idle_ms`; how many flows the nodes know in all, and have forgotten; and which
    nodes did not answer.
    """

    node_id: U32 = 0
    limit: U32 = 1_000
