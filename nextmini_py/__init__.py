"""The Python face of a node: send, receive, groups and lossless transfers inside a program of one's own.

`Dataplane` starts the node that a settings file describes, in this process; everything else comes from it.
All packet work is native and runs on threads of its own, so that Python neither slows it down nor is slowed
down by it.
"""

from nextmini_py._dataplane import Dataplane
from nextmini_py._native import MAX_MESSAGE, PacketBuilder, PacketView, PayloadDelivery
from nextmini_py._receiver import PacketReceiver
from nextmini_py._results import Event, LosslessResult, ReceiverResult
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
    UnknownGroup,
    UnknownNode,
    UnknownSession,
)

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
    "UnknownGroup",
    "UnknownNode",
    "UnknownSession",
]
