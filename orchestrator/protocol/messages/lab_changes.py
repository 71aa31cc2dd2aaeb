"""Messages with which an operator changes what a running lab consists of."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, Json

__all__ = ["AddLabLink", "AddLabNode", "ChangeLab", "RemoveLabLink", "RemoveLabNode"]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class ChangeLab(Message):
    """Make nodes, links, routes and flows of the lab those of another controller file; all or nothing.

    Nodes that it lacks have to be stopped by request and gone. Only differences take effect: what the file
    states as before keeps its live changes.

    The value of the `Ack` is `{added, removed, uses}`: the nodes, and what of the running lab uses removed
    nodes and links, as `{"kind", "id", "what"}`.

    Attributes:
        settings: The text of the file, compressed (zlib).
        check: Only check it, and answer what it would do.
        force: Remove what uses removed nodes and links; otherwise such a change is refused.
        cause: Who or what asked, for the history.
        drain: Only move routes away from what the file lacks, and wait until packets under way have left it.
    """

    settings: bytes
    check: bool = False
    force: bool = False
    cause: str = "operator"
    drain: bool = False


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class AddLabNode(Message):
    """Add a node, and acknowledge once it is ready; refused where the controller is not beside the nodes.

    The value of the `Ack` is `{node_id}`.

    Attributes:
        node_id: Its number; the first free one if none.
        name: Its name; `node-<number>` if none.
        links: The nodes that it gets links to, by number or name, each with what the link does in the words
            of the topology file: `{"1": {"delay": "5 ms"}, "2": {}}`; `forward` is from the new node.
        labels: Its labels.
        external: Whether a program of the user's own runs it.
        cause: Who or what asked, for the history.
    """

    node_id: U32 | None = None
    name: str | None = None
    links: dict[str, dict[str, Json]] | None = None
    labels: dict[str, str] | None = None
    external: bool = False
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class RemoveLabNode(Message):
    """Remove a node with its links; its programs are asked to end first. Refused as `AddLabNode` is.

    The value of the `Ack` is `{changes}`: what was changed, as `nm node remove -o json` has it.

    Attributes:
        node_id: The node.
        force: Remove routes, groups, flows, services and tests that need it as well.
        cause: Who or what asked, for the history.
    """

    node_id: U32
    force: bool = False
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class AddLabLink(Message):
    """Add a link. Refused as `AddLabNode` is. The value of the `Ack` is `{changes}`.

    Attributes:
        a: One end.
        b: The other end.
        values: What it does, in the words of the topology file; `forward` is from a to b.
        cause: Who or what asked, for the history.
    """

    a: U32
    b: U32
    values: dict[str, Json] | None = None
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class RemoveLabLink(Message):
    """Remove a link. Refused as `AddLabNode` is. The value of the `Ack` is `{changes}`.

    Attributes:
        a: One end.
        b: The other end.
        force: Remove explicit routes over it as well.
        cause: Who or what asked, for the history.
    """

    a: U32
    b: U32
    force: bool = False
    cause: str = "operator"
