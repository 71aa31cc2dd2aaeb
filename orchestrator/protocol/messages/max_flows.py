"""Messages about flows that nodes in max mode carry."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, U64

__all__ = ["GetMaxFlows", "MaxFlow", "MaxFlowList", "MaxFlowStatus", "MaxFlows"]


@dataclass(frozen=True, slots=True)
class MaxFlow:
    """A flow that entered at the reporting node, with what is known of it now.

    Attributes:
        flow_id: Its number, random.
        entry: How it entered: `socks5` or `redirected`.
        client: `host:port` of its client.
        destination: `host:port` of its destination, as the client named it.
        start_us: When its destination was known, in microseconds since 1970.
        route: The nodes that it passes, the reporting one first; empty when it was not connected.
        finish_us: When it ended; None while it runs.
        bytes_out: Bytes from the client.
        bytes_in: Bytes to the client.
        reason: Why it failed or was reset; empty when it runs or ended in order.
    """

    flow_id: U64
    entry: str
    client: str
    destination: str
    start_us: U64
    route: tuple[U32, ...] = ()
    finish_us: U64 | None = None
    bytes_out: U64 = 0
    bytes_in: U64 = 0
    reason: str = ""


@sent_by(Role.NODE)
@dataclass(frozen=True, slots=True)
class MaxFlows(Message):
    """Flows in max mode began, progressed or ended; begin and end are sent until acknowledged."""

    flows: tuple[MaxFlow, ...]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetMaxFlows(Message):
    """Ask for the latest flows in max mode; `running` leaves out ended ones. Answered by `MaxFlowList`."""

    running: bool = False
    limit: U32 = 1_000


@dataclass(frozen=True, slots=True)
class MaxFlowStatus:
    """A flow in max mode, and what became of it; times are microseconds since 1970.

    Attributes:
        flow_id: Its number, random.
        node: The node at which it entered.
        entry: How it entered: `socks5` or `redirected`.
        client: `host:port` of its client.
        destination: `host:port` of its destination, as the client named it.
        state: `running`, `finished` or `failed`.
        start_us: When its destination was known.
        route: The nodes that it passes; empty when it was not connected.
        finish_us: When it ended.
        bytes_out: Bytes from the client; about a second old while it runs.
        bytes_in: Bytes to the client.
        reason: Why it failed or was reset.
    """

    flow_id: U64
    node: U32
    entry: str
    client: str
    destination: str
    state: str
    start_us: U64
    route: tuple[U32, ...] = ()
    finish_us: U64 | None = None
    bytes_out: U64 = 0
    bytes_in: U64 = 0
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took, once it has ended."""
        return None if self.finish_us is None else (self.finish_us - self.start_us) / 1e6


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class MaxFlowList(Message):
    """Answers `GetMaxFlows`, the latest first; `more` says that there are further ones."""

    re: U32
    flows: tuple[MaxFlowStatus, ...]
    more: bool = False
