"""The rules of a session, without sockets: admission, permissions, and matching replies to requests.

`Admission` handles the first frame on the controller's side; `permitted` checks every later one; `Requests`
numbers and matches requests on both sides. The transport moves the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.protocol.codec import SAME_RELEASE, VERSION, Bad, Frame
from orchestrator.protocol.errors import (
    MISTAKES,
    BadRequest,
    Malformed,
    PeerError,
    ProtocolError,
    Refused,
    UnknownType,
    WrongVersion,
)
from orchestrator.protocol.messages import Error, Hello, Message, Role
from orchestrator.protocol.tokens import node_token, token_matches

__all__ = ["Admission", "Peer", "Requests", "error_reply", "peer_error", "permitted", "reply_to"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated peer; `node` is the node of its token, 0 for an operator."""

    role: Role
    software: str
    process: int
    node: int = 0


class Admission:
    """Decides about a peer's first frame, and later about each further node that it speaks for.

    Args:
        node_key: What the tokens of nodes are derived from.
        operator_token: The operator's token.
    """

    def __init__(self, node_key: str, operator_token: str) -> None:
        self._node_key = node_key
        self._operator_token = operator_token

    def speaks_for(self, node: int, token: str) -> bool:
        """Tell whether a token is that of a node."""
        return token_matches(token, node_token(self._node_key, node)) and node != 0 and bool(self._node_key)

    def admit(self, first: Frame | Bad) -> Peer:
        """Return who the peer is.

        Raises:
            ProtocolError: It is of another version, has the wrong token, or said something else first. The
                error says nothing about which part of a secret was right.
        """
        if isinstance(first, Bad):
            raise first.error
        hello = first.message
        if not isinstance(hello, Hello):
            raise Malformed(f"the first message has to be Hello, not {hello.type}")
        if hello.protocol != VERSION:
            raise WrongVersion(
                f"the peer has protocol version {hello.protocol}, expected {VERSION}",
                found=str(hello.protocol),
                expected=str(VERSION),
                hint=SAME_RELEASE,
            )
        # Both are always compared, so that the time taken does not tell which roles exist.
        operator = token_matches(hello.token, self._operator_token)
        node = self.speaks_for(first.node, hello.token)
        role = _role(hello.role)
        if not (operator if role is Role.OPERATOR else node and role is not None):
            whose = f" of node {first.node}" if first.node else ""
            raise Refused(
                f"the token is not valid for the role `{hello.role[:20]}`{whose}",
                id="control.token",
                hint="a token belongs to one start of a lab; read it from the lab's files again",
            )
        assert role is not None, "an unknown role is refused above"
        return Peer(role, hello.software[:100], hello.process, 0 if role is Role.OPERATOR else first.node)


def permitted(role: Role, message: Message) -> None:
    """Check that a peer of this role may send this message after its `Hello`.

    Raises:
        UnknownType: The message travels only the other way, or not any more.
        Refused: Another role may send it, this one may not.
    """
    if role in message.SENDERS and not isinstance(message, Hello):
        return
    if Role.CONTROLLER in message.SENDERS or isinstance(message, Hello):
        raise UnknownType(f"{message.type} is not expected here", found=message.type)
    allowed = " or ".join(sorted(each.value for each in message.SENDERS))
    raise Refused(f"{message.type} may be sent by {allowed}, not by {role.value}", found=message.type)


class Requests(Generic[_T]):
    """Numbers requests and finds what waits for a reply; numbers wrap, and 0 is never used."""

    def __init__(self) -> None:
        self._next = 1
        self._waiting: dict[int, _T] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, waiter: _T) -> int:
        """Return a number for a new request."""
        number = self._next
        while number in self._waiting or number == 0:
            number = (number + 1) & 0xFFFF_FFFF
        self._next = (number + 1) & 0xFFFF_FFFF
        self._waiting[number] = waiter
        return number

    def close(self, number: int) -> _T | None:
        """Return what waits for a reply to this number, and forget it; None if nothing does."""
        return self._waiting.pop(number, None)

    def close_all(self) -> list[_T]:
        """Forget all requests, and return what waited: no reply will come any more."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting


def reply_to(message: Message) -> int:
    """Return the number of the request that a message answers, 0 when it is no reply."""
    number = getattr(message, "re", 0)
    return number if isinstance(number, int) else 0


def error_reply(error: ProtocolError, re: int) -> Error:
    """Return the message that tells a peer about an error."""
    return Error(re, error.id, error.message, error.hint)


def peer_error(message: Error) -> PeerError:
    """Return the exception for an `Error` that the peer sent."""
    code = BadRequest.exit_code if message.error in MISTAKES else None
    return PeerError(message.message, id=message.error, hint=message.hint, exit_code=code)


def _role(text: str) -> Role | None:
    try:
        role = Role(text)
    except ValueError:
        return None
    return None if role is Role.CONTROLLER else role
