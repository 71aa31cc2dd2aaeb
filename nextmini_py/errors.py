"""The tree of all errors that the Python API of a node raises.

    NextminiError
    ├── ConfigError              the settings file cannot be used: file, line, column, key
    ├── StartError               the node cannot start on this machine
    │   ├── TunMissing           there is no TUN device
    │   └── TunDenied            the TUN device or an interface setting needs a permission
    ├── ControllerError          the controller did not do what was asked
    │   ├── ControllerUnreachable   no connection within the configured time (also ConnectionError)
    │   ├── TokenRefused         it does not accept the token
    │   ├── ProtocolMismatch     it speaks another version
    │   ├── RequestTimeout       it did not answer in time (also TimeoutError)
    │   └── TreeRefused          the edges make no tree to the members
    ├── InvalidArgument          an argument that cannot be meant (also ValueError)
    │   └── MessageTooLarge      more than one packet carries; `largest` says how much it does
    ├── UnknownNode              no such node, or no way to it (also LookupError)
    ├── UnknownGroup             no such group (also LookupError)
    ├── UnknownSession           no such session on this node (also KeyError)
    ├── NoData                   the session has no bytes to hand out (also KeyError)
    ├── Unfetched                too many received bytes wait to be fetched
    ├── NodeClosed               the dataplane was closed
    ├── NotAttached              a program found no node to attach to (also ConnectionError)
    └── InternalError            our own mistake; please report it

Each error carries a stable `id` that scripts and documentation hold on to; the text may improve at any time.
All of them survive pickling.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "ConfigError",
    "ControllerError",
    "ControllerUnreachable",
    "InternalError",
    "InvalidArgument",
    "MessageTooLarge",
    "NextminiError",
    "NoData",
    "NodeClosed",
    "NotAttached",
    "ProtocolMismatch",
    "RequestTimeout",
    "StartError",
    "TokenRefused",
    "TreeRefused",
    "TunDenied",
    "TunMissing",
    "Unfetched",
    "UnknownGroup",
    "UnknownNode",
    "UnknownSession",
]


class NextminiError(Exception):
    """The root of the tree.

    Attributes:
        id: Stable name of this kind of failure.
        message: One sentence that says what failed.
        hint: How to fix it, where that is known.
    """

    id: str = "nextmini"

    def __init__(self, message: str, *, id: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if id is not None:
            self.id = id

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__))


def _rebuild(cls: type[NextminiError], message: str, state: dict[str, Any]) -> NextminiError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class ConfigError(NextminiError):
    """A node's settings file cannot be used.

    Attributes:
        file: The file, as it was named.
        line: Line of the first problem, from 1, or None when the whole file is meant.
        column: Column of the first problem, from 1.
        key: The key of the first problem, with its table.
        nearest: For an unknown key the known name nearest to it, if one is near.
        problems: One line for every problem, in the order of the file.
    """

    id = "config"

    def __init__(
        self,
        message: str,
        *,
        id: str | None = None,
        hint: str | None = None,
        file: str = "",
        line: int | None = None,
        column: int | None = None,
        key: str | None = None,
        nearest: str | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message, id=id, hint=hint)
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.nearest = nearest
        self.problems = list(problems)


class StartError(NextminiError):
    """The node cannot start on this machine."""

    id = "node.start"


class TunMissing(StartError):
    """There is no TUN device here."""

    id = "tun.missing"


class TunDenied(StartError):
    """The TUN device, or a setting of its interface, needs a permission that this process lacks."""

    id = "tun.denied"


class ControllerError(NextminiError):
    """The controller refused a request, or cannot be asked."""

    id = "control.failed"


class ControllerUnreachable(ControllerError, ConnectionError):
    """No connection to the controller within `controller_connect_timeout_ms`."""

    id = "control.unreachable"


class TokenRefused(ControllerError):
    """The controller does not accept `controller_token`."""

    id = "control.token"


class ProtocolMismatch(ControllerError):
    """The controller speaks another version of the control protocol."""

    id = "protocol.version"


class RequestTimeout(ControllerError, TimeoutError):
    """The controller did not answer a request in time."""

    id = "control.timeout"


class TreeRefused(ControllerError):
    """The edges make no tree from the source to the members of the group."""

    id = "group.tree"


class InvalidArgument(NextminiError, ValueError):
    """An argument that cannot be meant: an empty buffer, no receivers, a zero chunk."""

    id = "argument"


class MessageTooLarge(InvalidArgument):
    """A message is larger than one packet carries.

    Attributes:
        largest: The most bytes that a message may have.
    """

    id = "message.too_large"

    def __init__(
        self, message: str, *, id: str | None = None, hint: str | None = None, largest: int = 0
    ) -> None:
        super().__init__(message, id=id, hint=hint)
        self.largest = largest


class UnknownNode(NextminiError, LookupError):
    """No such node, or no route to it."""

    id = "node.unknown"


class UnknownGroup(NextminiError, LookupError):
    """No such group."""

    id = "group.unknown"


class UnknownSession(NextminiError, KeyError):
    """This node has no such session, or has forgotten it."""

    id = "session.unknown"


class NoData(NextminiError, KeyError):
    """A session has no bytes to hand out: it sends, is not complete, or they were consumed."""

    id = "session.no_data"


class Unfetched(NextminiError):
    """Received transfers hold so many unfetched bytes that no further one is accepted."""

    id = "session.unfetched"


class NodeClosed(NextminiError):
    """The dataplane was closed."""

    id = "node.closed"


class NotAttached(NextminiError, ConnectionError):
    """The program found no node in its network namespace, or the node refused it."""

    id = "attach.not_found"


class InternalError(NextminiError):
    """Something that cannot happen did; please report it."""

    id = "internal"
