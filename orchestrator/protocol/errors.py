"""Errors of the control protocol, each with a stable id that is sent in an `Error` reply.

ProtocolError (orchestrator.errors)
├── Malformed        the bytes are no frame: not msgpack, not five parts, nested too deeply
│   └── Truncated    the bytes end inside a frame
├── Unsendable       a message of ours holds what msgpack cannot
├── Oversized        more than one websocket message may carry
├── WrongVersion     a frame, or a peer, of another protocol version
├── UnknownType      a type that this side does not know
├── BadBody          a field is missing, or has the wrong type or range
├── Refused          the token or the role does not allow it
├── BadRequest       the peer asks for something that is not there, or that makes no sense
└── PeerError        the peer answered a request with an `Error`
"""

from __future__ import annotations

from orchestrator.errors import ProtocolError, UsageError

__all__ = [
    "MISTAKES",
    "BadBody",
    "BadRequest",
    "Malformed",
    "Oversized",
    "PeerError",
    "ProtocolError",
    "Refused",
    "Truncated",
    "UnknownType",
    "Unsendable",
    "WrongVersion",
]


class Malformed(ProtocolError):
    """The bytes are not a frame."""

    id = "protocol.malformed"


class Truncated(Malformed):
    """The bytes end inside a frame."""

    id = "protocol.truncated"


class Unsendable(ProtocolError):
    """A message holds something that cannot be sent: an integer of more than 64 bits, half of a character."""

    id = "protocol.unsendable"


class Oversized(ProtocolError):
    """A websocket message is larger than the protocol allows."""

    id = "protocol.too-large"


class WrongVersion(ProtocolError):
    """The peer speaks another version of the protocol."""

    id = "protocol.version"


class UnknownType(ProtocolError):
    """No message has that name, or not in this direction."""

    id = "protocol.unknown-type"


class BadBody(ProtocolError):
    """A message lacks a field, or a field has the wrong type or range."""

    id = "protocol.body"


class Refused(ProtocolError):
    """The peer's token or role does not allow what it asked for."""

    id = "control.refused"


class BadRequest(ProtocolError):
    """An invalid request, by a mistake of the requesting peer; its ids are in `MISTAKES`."""

    id = "control.request"
    exit_code = UsageError.exit_code


class PeerError(ProtocolError):
    """The peer could not do what a request asked; `id` is the one that the peer gave."""

    id = "control.failed"


MISTAKES = frozenset(
    {
        "control.request",
        "flow.count",
        "flow.invalid",
        "flow.route",
        "flow.unknown",
        "group.invalid",
        "group.label-taken",
        "group.unknown",
        "lab.change",
        "lab.in-use",
        "link.change",
        "link.direction",
        "link.nothing",
        "link.traces",
        "link.unknown",
        "link.value",
        "metrics.invalid",
        "metrics.table",
        "node.backend",
        "node.external",
        "node.fault",
        "node.in-use",
        "node.paused",
        "node.runs",
        "node.stopped",
        "node.unknown",
        "partition.invalid",
        "partition.no-links",
        "partition.twice",
        "probe.invalid",
        "probe.unknown",
        "rest.body",
        "rest.field",
        "rest.method",
        "rest.no-route",
        "rest.parameter",
        "rest.request",
        "rest.slow",
        "rest.token",
        "rest.too-large",
        "pin.invalid",
        "pin.unknown",
        "route.invalid",
        "route.unknown",
        "route.weight",
        "run.invalid",
        "run.taken",
        "run.unknown",
        "tree.forbidden",
        "tree.invalid",
        "tree.kind",
        "tree.weight",
    }
)
"""The ids of every `BadRequest`. An `Error` carries the id alone, and whoever receives one has to know its
exit code: that of a wrong use, as if the mistake had been noticed here."""
