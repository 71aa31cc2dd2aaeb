"""Messages about the connection itself: hello, replies to requests, goodbye.

A peer's first frame is `Hello`; the controller answers with `Welcome`, or with an `Error` and closes. After
that, whoever sends a frame with an id other than 0 gets exactly one reply with that number in `re`: `Ack`,
`Error`, or a typed answer such as `Status`.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U16, U32, U64, Json

__all__ = ["Ack", "Error", "Goodbye", "Hello", "Welcome"]

_PEERS = (Role.NODE, Role.AGENT, Role.OPERATOR)
_ALL = (*_PEERS, Role.CONTROLLER)


@sent_by(*_PEERS)
@dataclass(frozen=True, slots=True)
class Hello(Message):
    """A peer's first frame; its header names the node whose token it carries, 0 for an operator.

    Attributes:
        token: The secret of its role: of that one node, or of the lab's operators.
        protocol: The version it speaks.
        role: `node`, `agent` or `operator`.
        software: Name and version, for the log.
        process: A random number that names the process, so that nodes can tell that they share one.
    """

    token: str
    protocol: U16
    role: str
    software: str = ""
    process: U64 = 0


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The peer is authenticated.

    Attributes:
        protocol: The version that the controller speaks.
        lab: The lab's name.
        incarnation: How many times this lab's controller has started; another number means that it came back.
    """

    protocol: U16
    lab: str
    incarnation: U64


@sent_by(*_ALL)
@dataclass(frozen=True, slots=True)
class Ack(Message):
    """A request was carried out; `value` is its result, if it has one."""

    re: U32
    value: Json = None


@sent_by(*_ALL)
@dataclass(frozen=True, slots=True)
class Error(Message):
    """A request was not carried out, or (with `re` 0) something else went wrong.

    Attributes:
        re: The request's number, 0 when it had none or could not be read.
        error: Stable id, such as `protocol.version` or `group.unknown`.
        message: One sentence.
        hint: What to do about it.
    """

    re: U32
    error: str
    message: str
    hint: str | None = None


@sent_by(*_ALL)
@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """The sender leaves on purpose: the node in the frame's header, or with node 0 the whole connection."""

    reason: str = ""
