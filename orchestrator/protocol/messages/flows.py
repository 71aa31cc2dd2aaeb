"""Messages about user-space flows, between operators or roles and the controller."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, U64, Name

__all__ = [
    "EndFlows",
    "FlowList",
    "FlowRequest",
    "FlowStatus",
    "GetFlows",
    "RunFlow",
    "RunFlowEnded",
    "StartFlows",
    "WaitFlows",
]


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """User-space flows between two nodes; exactly one of `size_bytes` and `duration_ms` is given.

    Attributes:
        src: The node that sends.
        dst: The node that receives.
        size_bytes: Payload to transfer.
        duration_ms: How long the source sends.
        rate_bps: The most payload that it sends, in bits per second.
        weight: Its weight at links whose scheduler knows weights.
        transport: `tcp` or `lossless_unicast`.
        count: How many such flows.
        route: The path of the explicit route that they take.
    """

    src: U32
    dst: U32
    size_bytes: U64 | None = None
    duration_ms: U64 | None = None
    rate_bps: U64 | None = None
    weight: U32 | None = None
    transport: str = "tcp"
    count: U32 = 1
    route: tuple[U32, ...] | None = None


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class StartFlows(Message):
    """Start flows, all or none; acknowledged when they are stored. `Ack.value` is `{ids}`, their numbers."""

    flows: tuple[FlowRequest, ...]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class EndFlows(Message):
    """Stop flows, all that have not ended without `ids`; with `remove`, delete them as well.

    Acknowledged when that is stored; `Ack.value` is `{ids}`, the flows that this stops or deletes.
    """

    ids: tuple[U64, ...] | None = None
    remove: bool = False


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetFlows(Message):
    """Ask for a `FlowList`: of these flows, or of all after a number; `open_only` leaves out ended ones."""

    ids: tuple[U64, ...] | None = None
    after: U64 = 0
    limit: U32 = 1_000
    open_only: bool = False


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """A user-space flow, and what became of it; times are microseconds since 1970.

    Attributes:
        id: Its number.
        src: The node that sends.
        dst: The node that receives.
        transport: `tcp` or `lossless_unicast`.
        origin: `file`, `sql`, `operator`, or the id of a run.
        state: `waiting`, `running`, `finished`, `stopped` or `failed`.
        bytes: Payload that has arrived; about a second old while it runs.
        reason: Why it failed or was stopped.
        size_bytes: Payload to transfer.
        duration_ms: How long the source sends, in place of `size_bytes`.
        rate_bps: The most payload that it sends, in bits per second.
        weight: Its weight at links whose scheduler knows weights.
        route_id: The explicit route that it has to take.
        start_us: When it began.
        finish_us: When it ended.
        taken_route: The explicit route that its packets take, or took last.
    """

    id: U64
    src: U32
    dst: U32
    transport: str
    origin: str
    state: str
    bytes: U64
    reason: str = ""
    size_bytes: U64 | None = None
    duration_ms: U64 | None = None
    rate_bps: U64 | None = None
    weight: U32 | None = None
    route_id: U64 | None = None
    start_us: U64 | None = None
    finish_us: U64 | None = None
    taken_route: U64 | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing comes of it any more."""
        return self.state not in ("waiting", "running")

    @property
    def seconds(self) -> float | None:
        """How long it took, once it has ended."""
        if self.start_us is None or self.finish_us is None:
            return None
        return (self.finish_us - self.start_us) / 1e6


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class FlowList(Message):
    """Answers `GetFlows`, in order of the numbers; `more` says that there are further ones."""

    re: U32
    flows: tuple[FlowStatus, ...]
    more: bool = False


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WaitFlows(Message):
    """Answer with `Ack` once these flows, or all, have ended, or with `flow.not-ended` after so long."""

    timeout_ms: U32
    ids: tuple[U64, ...] | None = None


@sent_by(Role.AGENT)
@dataclass(frozen=True, slots=True)
class RunFlow(Message):
    """Run a flow for generated traffic; acknowledged with `RunFlowEnded` when it has ended.

    Attributes:
        run: The run.
        node: The node of the role.
        number: Counts what the role has asked for, from 1; repeated after a reconnect.
        flow: The flow; its source or its destination is the node.
    """

    run: Name
    node: U32
    number: U32
    flow: FlowRequest


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class RunFlowEnded(Message):
    """What became of a `RunFlow`, or an error that says why there is no flow."""

    run: Name
    node: U32
    number: U32
    flow: FlowStatus | None = None
    error: str = ""
    error_id: str = ""
