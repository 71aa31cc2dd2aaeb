"""The control protocol: messages, their encoding, and the rules of a session; no sockets.

The Rust crate `nm-messages` defines the part that nodes need once more. Shared vectors under `tests/vectors`
hold the two together.
"""

from __future__ import annotations

from orchestrator.protocol.codec import (
    MAX_FIRST_MESSAGE,
    MAX_MESSAGE,
    VERSION,
    Bad,
    Frame,
    Payload,
    batches,
    decode_batch,
    decode_frames,
    encode,
    encode_payload,
)
from orchestrator.protocol.errors import (
    MISTAKES,
    BadBody,
    BadRequest,
    Malformed,
    Oversized,
    PeerError,
    ProtocolError,
    Refused,
    Truncated,
    UnknownType,
    Unsendable,
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
    "MAX_FIRST_MESSAGE",
    "MAX_MESSAGE",
    "MESSAGES",
    "MISTAKES",
    "VERSION",
    "Admission",
    "Bad",
    "BadBody",
    "BadRequest",
    "Frame",
    "Malformed",
    "Message",
    "Oversized",
    "Payload",
    "Peer",
    "PeerError",
    "ProtocolError",
    "Refused",
    "Requests",
    "Role",
    "Truncated",
    "UnknownType",
    "Unsendable",
    "WrongVersion",
    "batches",
    "decode_batch",
    "decode_frames",
    "encode",
    "encode_payload",
    "error_reply",
    "node_token",
    "peer_error",
    "permitted",
    "reply_to",
]
