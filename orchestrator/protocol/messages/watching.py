"""The request of an operator to follow the lab's events."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U64

__all__ = ["WatchEvents"]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WatchEvents(Message):
    """Send the lab's events after a number, then each new one, as `Events` whose `re` is 0.

    Only events that are in Postgres are sent: their numbers mean the same after a restart of the controller,
    so that a subscriber may continue there. A second request on one connection replaces the first.
    """

    after: U64 = 0
