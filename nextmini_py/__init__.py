"""The Python API of a node: send and receive messages, groups, and lossless transfers.

`Dataplane` starts the node that a settings file describes, in this process; `attach` returns the dataplane of
the node in which the program runs. All other objects come from them.
All packet work is native and runs on threads of its own.

The result classes and `attach` are imported on first use, so that a program that only hosts a node, as every
container of a lab does, starts without them. For the same reason no module that it needs imports `typing` or
`pathlib`.
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
    NotAttached,
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
    from nextmini_py._attach import AttachedDataplane, attach
    from nextmini_py._results import Event, LosslessResult, ReceiverResult

__all__ = [
    "MAX_MESSAGE",
    "AttachedDataplane",
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
    "NotAttached",
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
    "attach",
]

_LATER = {
    "AttachedDataplane": "_attach",
    "Event": "_results",
    "LosslessResult": "_results",
    "ReceiverResult": "_results",
    "attach": "_attach",
}
"""The modules that are imported on first use, by the names that they define."""


def __getattr__(name: str) -> object:
    """Load what is imported on first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"nextmini_py.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
