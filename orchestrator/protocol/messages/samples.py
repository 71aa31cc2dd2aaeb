"""Samples of a node's counters, from the dataplane through the controller to an operator, every second."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.schema import U32, U64

__all__ = ["FlowSample", "GetSamples", "LinkSample", "NodeSample", "SampleNodes"]


@dataclass(frozen=True, slots=True)
class LinkSample:
    """Counters of one link since it was made, and its queue at this moment.

    Attributes:
        remote_node_id: The neighbour to which the packets went.
        packets: MTU segments that passed the impairments.
        bytes: Their bytes with headers.
        queued_packets: MTU segments that wait for the serializer or for their delay.
        queued_bytes: Their bytes.
        delay_sum_us: The sum of the delays in microseconds.
        drops: MTU segments that were dropped, by cause.
    """

    remote_node_id: U32
    packets: U64
    bytes: U64
    queued_packets: U64 = 0
    queued_bytes: U64 = 0
    delay_sum_us: float = 0.0
    drops: dict[str, U64] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FlowSample:
    """Counters of one flow where it enters or leaves the network.

    Attributes:
        flow: Protocol, addresses and ports, such as `tcp 10.0.0.1:40000 > 10.0.0.2:80`.
        packets: MTU segments.
        bytes: Their bytes with headers.
    """

    flow: str
    packets: U64
    bytes: U64


@sent_by(Role.NODE, Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class NodeSample(Message):
    """Counters of a node and of its links, without histograms; small enough to be read every second.

    Attributes:
        time_ms: When, in milliseconds since 1970.
        process: The process, as in `Hello`.
        cpu_ms: Its CPU time.
        shard: The thread of the process that carries the node.
        overload_drops: Packets that this thread dropped because a ring, a socket or a TUN queue was full.
        packets_out: MTU segments from the node's programs.
        bytes_out: Their bytes with headers.
        packets_in: MTU segments to the node's programs.
        bytes_in: Their bytes with headers.
        drops: MTU segments that were dropped before a link was chosen or at a receiver, by cause.
        links: By link; those without packets are left out.
        flows: The flows with the most bytes that enter or leave here.
    """

    time_ms: U64
    process: U64
    cpu_ms: U64
    shard: U32
    overload_drops: U64
    packets_out: U64 = 0
    bytes_out: U64 = 0
    packets_in: U64 = 0
    bytes_in: U64 = 0
    drops: dict[str, U64] = field(default_factory=dict)
    links: tuple[LinkSample, ...] = ()
    flows: tuple[FlowSample, ...] = ()


@sent_by(Role.CONTROLLER)
@dataclass(frozen=True, slots=True)
class SampleNodes(Message):
    """Send a `NodeSample` for each node concerned; acknowledged behind the last one."""


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetSamples(Message):
    """Send the `NodeSample` of every node that answers in time; acknowledged behind the last one."""

    timeout_ms: U32
