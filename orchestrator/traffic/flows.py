"""Draw the flows of an entry from the seed.

Each pair of nodes has a stream of its own, derived from the seed, the entry's name and the pair, so that
another entry or another pair changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.traffic.entry import MOST_FLOWS, TrafficEntry

if TYPE_CHECKING:
    from random import Random

__all__ = ["Flow", "TooManyFlows", "expected", "flows_of"]


class TooManyFlows(ValueError):
    """An entry has more flows than a run may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One flow.

    Attributes:
        src: The node that sends.
        dst: The node that receives.
        bytes: How many.
        start_s: When it begins, after the start of all traffic; with a round, when the entry begins.
        rate_bps: Its pace; 0 for as fast as it can.
        round: From 1 for a flow that begins when the round before has ended; 0 for one with a time.
    """

    src: int
    dst: int
    bytes: int
    start_s: float
    rate_bps: float = 0.0
    round: int = 0


def flows_of(entry: TrafficEntry, seed: int) -> tuple[Flow, ...]:
    """Return the flows of an entry, by pair and in order of time.

    Raises:
        TooManyFlows: There are more than `MOST_FLOWS`.
    """
    from random import Random  # reading a scenario needs none

    flows: list[Flow] = []
    for src, dst in entry.pairs:
        for flow in _of_pair(entry, src, dst, Random(f"{seed}/{entry.name}/{src}>{dst}")):
            flows.append(flow)
            if len(flows) > MOST_FLOWS:
                raise TooManyFlows(f"it has more than {MOST_FLOWS} flows")
    return tuple(flows)


def expected(entry: TrafficEntry, seed: int) -> dict[str, Any]:
    """Return what an entry would send, as `nm run --dry-run` prints it and results compare with it."""
    flows = flows_of(entry, seed)
    total = sum(flow.bytes for flow in flows)
    return {
        "entry": entry.name,
        "kind": entry.kind,
        "transport": entry.transport,
        "pairs": len(entry.pairs),
        "flows": len(flows),
        "bytes": total,
        "start_s": entry.start_s,
        "duration_s": entry.duration_s,
        "offered_bps": round(total * 8 / entry.duration_s, 1) if entry.duration_s else None,
        "requested_bps": round(entry.rate_bps * len(entry.pairs), 1) or None,
    }


def _of_pair(entry: TrafficEntry, src: int, dst: int, stream: Random) -> Iterator[Flow]:
    match entry.kind:
        case "cbr":
            size = max(1, round(entry.rate_bps * entry.duration_s / 8))
            yield Flow(src=src, dst=dst, bytes=size, start_s=entry.start_s, rate_bps=entry.rate_bps)
        case "poisson":
            yield from _poisson(entry, src, dst, stream)
        case "on-off":
            yield from _on_off(entry, src, dst, stream)
        case _:
            if entry.sizes is None:
                raise AssertionError(f"an entry of the kind {entry.kind} without sizes")
            for number in range(1, entry.requests + 1):
                size = entry.sizes.draw(stream)
                yield Flow(src=src, dst=dst, bytes=size, start_s=entry.start_s, round=number)


def _poisson(entry: TrafficEntry, src: int, dst: int, stream: Random) -> Iterator[Flow]:
    if entry.sizes is None:
        raise AssertionError("an entry of the kind poisson without sizes")
    per_second = entry.rate_bps / 8 / entry.sizes.mean
    at = stream.expovariate(per_second)
    while at < entry.duration_s:
        yield Flow(src=src, dst=dst, bytes=entry.sizes.draw(stream), start_s=entry.start_s + at)
        at += stream.expovariate(per_second)


def _on_off(entry: TrafficEntry, src: int, dst: int, stream: Random) -> Iterator[Flow]:
    at = stream.expovariate(1 / entry.off_s)
    while at < entry.duration_s:
        length = min(stream.expovariate(1 / entry.on_s), entry.duration_s - at)
        size = max(1, round(entry.rate_bps * length / 8))
        yield Flow(src=src, dst=dst, bytes=size, start_s=entry.start_s + at, rate_bps=entry.rate_bps)
        at += length + stream.expovariate(1 / entry.off_s)
