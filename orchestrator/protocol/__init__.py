"""The control protocol: messages, bytes and the rules of a conversation; no sockets.

The Rust crate `nm-messages` defines the part that nodes need once more. Shared vectors under `tests/vectors`
hold the two together.
"""

from __future__ import annotations

from orchestrator.protocol.codec import (
    MAX_MESSAGE,
    VERSION,
    Bad,
    Frame,
    batches,
    decode_batch,
    decode_frames,
    encode,
)
from orchestrator.protocol.errors import (
    BadBody,
    Malformed,
    Oversized,
    PeerError,
    ProtocolError,
    Refused,
    Truncated,
    UnknownType,
    WrongVersion,
)
from orchestrator.protocol.messages import MESSAGES, Message, Role
from orchestrator.protocol.session import (
    Admission,
    Peer,
    Requests,
    error_reply,
    peer_error,
    permitted,
    reply_to,
)
from orchestrator.protocol.tokens import node_token

__all__ = [
    "MAX_MESSAGE",
    "MESSAGES",
    "VERSION",
    "Admission",
    "Bad",
    "BadBody",
    "Frame",
    "Malformed",
    "Message",
    "Oversized",
    "Peer",
    "PeerError",
    "ProtocolError",
    "Refused",
    "Requests",
    "Role",
    "Truncated",
    "UnknownType",
    "WrongVersion",
    "batches",
    "decode_batch",
    "decode_frames",
    "encode",
    "error_reply",
    "node_token",
    "peer_error",
    "permitted",
    "reply_to",
]
