"""The Python API of a node: send and receive messages, groups, and lossless transfers.

`Dataplane` starts the node that a settings file describes, in this process; all other objects come from it.
All packet work is native and runs on threads of its own.

The result classes are imported on first use, so that a program that only hosts a node, as every container of
a lab does, starts without them. For the same reason no module that it needs imports `typing` or `pathlib`.
"""

from __future__ import annotations

from nextmini_py._dataplane import Dataplane
from nextmini_py._native import MAX_MESSAGE, PacketBuilder, PacketView, PayloadDelivery
from nextmini_py._receiver import PacketReceiver
from nextmini_py.errors import (
    ConfigError,
    ControllerError,
    ControllerUnreachable,
    InternalError,
    InvalidArgument,
    MessageTooLarge,
    NextminiError,
    NoData,
    NodeClosed,
    ProtocolMismatch,
    RequestTimeout,
    StartError,
    TokenRefused,
    TreeRefused,
    TunDenied,
    TunMissing,
    Unfetched,
    UnknownGroup,
    UnknownNode,
    UnknownSession,
)

TYPE_CHECKING = False  # without importing `typing`, which takes longer than all of this package
if TYPE_CHECKING:
    from nextmini_py._results import Event, LosslessResult, ReceiverResult

__all__ = [
    "MAX_MESSAGE",
    "ConfigError",
    "ControllerError",
    "ControllerUnreachable",
    "Dataplane",
    "Event",
    "InternalError",
    "InvalidArgument",
    "LosslessResult",
    "MessageTooLarge",
    "NextminiError",
    "NoData",
    "NodeClosed",
    "PacketBuilder",
    "PacketReceiver",
    "PacketView",
    "PayloadDelivery",
    "ProtocolMismatch",
    "ReceiverResult",
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

_RESULTS = ("Event", "LosslessResult", "ReceiverResult")


def __getattr__(name: str) -> object:
    """Load a class of results."""
    if name not in _RESULTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nextmini_py import _results

    value: object = getattr(_results, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
