"""The base class of all messages, and the registry of message types with their allowed senders.

The name of a class is its type on the wire, so there is no table to keep in step. `SENDERS` says who may send
it; the session refuses a message that comes from the wrong side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar

__all__ = ["MESSAGES", "Message", "Role", "sent_by"]

_M = TypeVar("_M", bound="Message")


class Role(StrEnum):
    """What a peer of the controller may be; it says so in `Hello`, and its token has to allow it."""

    NODE = "node"
    AGENT = "agent"
    OPERATOR = "operator"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class Message:
    """A control message; a subclass per type."""

    SENDERS: ClassVar[frozenset[Role]] = frozenset()

    @property
    def type(self) -> str:
        """The message's type on the wire."""
        return type(self).__name__


MESSAGES: dict[str, type[Message]] = {}
"""Every message class by its type on the wire."""


def sent_by(*roles: Role) -> Callable[[type[_M]], type[_M]]:
    """Register a message class and say who may send it."""

    def register(cls: type[_M]) -> type[_M]:
        cls.SENDERS = frozenset(roles)
        MESSAGES[cls.__name__] = cls
        return cls

    return register
