"""Messages about probes of links, between operators and the controller."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, U64

__all__ = ["GetProbe", "GetProbes", "ProbeList", "ProbeStatus", "StartProbe", "WaitProbe"]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class StartProbe(Message):
    """Measure one direction of a link; acknowledged when that is stored. `Ack.value` is `{id}`, its number.

    Attributes:
        src: The node that sends.
        dst: Its neighbour.
        below: Measure the transport below the impairments of the link.
        probe_bytes: The most bytes that are sent.
        time_ms: How long it may take.
    """

    src: U32
    dst: U32
    below: bool = False
    probe_bytes: U64 = 64 * 1024 * 1024
    time_ms: U32 = 3_000


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetProbe(Message):
    """Ask for a `ProbeList` of one probe."""

    id: U64


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class WaitProbe(Message):
    """Ask for a `ProbeList` of one probe once it has ended, or for `probe.not-ended` after so long."""

    id: U64
    timeout_ms: U32


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetProbes(Message):
    """Ask for a `ProbeList` of the probes after a number."""

    after: U64 = 0
    limit: U32 = 1_000


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """A probe of one direction of a link, and what it measured; times are microseconds since 1970.

    Attributes:
        id: Its number.
        src: The node that sends.
        dst: Its neighbour.
        below: Whether the transport is measured, below the impairments of the link.
        probe_bytes: The most bytes that are sent.
        time_ms: How long it may take.
        origin: `operator` or `sql`.
        state: `waiting`, `running`, `finished` or `failed`.
        reason: Why it failed.
        capacity_bps: Capacity in bits per second, with the headers of IP; absent if too little arrived.
        round_trip_p50_us: Median of the round trip in microseconds; absent if no echo was answered.
        round_trip_p99_us: Its 99th percentile.
        loss: Share of the echo requests that did not reach the neighbour.
        packets_sent: Echo requests that were sent.
        packets_received: Those that reached the neighbour.
        packets_answered: Those whose answer came back.
        sent_bytes: Bytes that were sent.
        start_us: When it began.
        finish_us: When it ended.
    """

    id: U64
    src: U32
    dst: U32
    below: bool
    probe_bytes: U64
    time_ms: U32
    origin: str
    state: str
    reason: str = ""
    capacity_bps: U64 | None = None
    round_trip_p50_us: float | None = None
    round_trip_p99_us: float | None = None
    loss: float | None = None
    packets_sent: U32 = 0
    packets_received: U32 = 0
    packets_answered: U32 = 0
    sent_bytes: U64 = 0
    start_us: U64 | None = None
    finish_us: U64 | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing comes of it any more."""
        return self.state in ("finished", "failed")


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class ProbeList(Message):
    """Answers requests for probes, in order of the numbers; `more` says that there are further ones."""

    re: U32
    probes: tuple[ProbeStatus, ...]
    more: bool = False
