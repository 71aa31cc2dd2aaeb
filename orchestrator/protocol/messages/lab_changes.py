"""Messages with which an operator changes what a running lab consists of."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by

__all__ = ["ChangeLab"]


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
