"""The routes of a node, from the controller to an operator."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.messages.node_commands import Route
from orchestrator.protocol.schema import U32

__all__ = ["GetRoutes", "Routes"]


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
