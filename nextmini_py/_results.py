"""The results of lossless transfers, and the events of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "LosslessResult", "ReceiverResult"]


@dataclass(frozen=True, slots=True)
class ReceiverResult:
    """How a transfer went for one receiver.

    Attributes:
        node_id: The receiver.
        state: `complete`, `failed`, `timed_out` or `left`; `waiting` or `active` while the transfer runs.
        bytes: Bytes of payload that it is known to have.
        seconds: From the start of the data to its last byte.
        repair_rounds: Rounds of repair that it needed.
        reason: Why it did not complete; empty when it did.
    """

    node_id: int
    state: str
    bytes: int
    seconds: float
    repair_rounds: int
    reason: str


@dataclass(frozen=True, slots=True)
class LosslessResult:
    """How a transfer went.

    Attributes:
        session_id: The number that `send_data` or `receive_data` returned here.
        role: `sender` or `receiver`: our side of it.
        source_node_id: The sending node.
        state: As in `ReceiverResult`, for the whole.
        complete: Every listed receiver has every byte, and has confirmed it by their digest.
        reason: Why not; empty when complete.
        total_bytes: Bytes of payload.
        seconds: Since the start of the data.
        repair_rounds: Rounds of repair.
        bytes_sent: Bytes that this node put on the wire for it, headers included, once per copy.
        repair_bytes: Bytes of payload among them that were repair.
        receivers: Every receiver by node id; on the receiving side only this node.
    """

    session_id: int
    role: str
    source_node_id: int
    state: str
    complete: bool
    reason: str
    total_bytes: int
    seconds: float
    repair_rounds: int
    bytes_sent: int
    repair_bytes: int
    receivers: dict[int, ReceiverResult]


@dataclass(frozen=True, slots=True)
class Event:
    """An event at this node, or one reported to it.

    Attributes:
        kind: `TopologyReady`, `GroupCreated`, `GroupRemoved`, `GroupRoutesInstalled`, `LocalMemberJoined`,
            `LocalMemberLeft`, `MemberChanged`, `NodeState`, `LinkState`, `SessionFinished`, `SessionPeer` or
            `Controller`.
        detail: The facts by name, `group_id` for instance.
    """

    kind: str
    detail: dict[str, Any]


def lossless_result(report: dict[str, Any]) -> LosslessResult:
    """Build a result from the native report."""
    receivers = {node: ReceiverResult(**entry) for node, entry in report["receivers"].items()}
    return LosslessResult(**{**report, "receivers": receivers})
