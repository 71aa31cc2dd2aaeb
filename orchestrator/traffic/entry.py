"""An entry of `traffic:` with its nodes and rates found, as nodes are given it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.traffic.sizes import Sizes

__all__ = ["FILE", "KINDS", "MOST_FLOWS", "ROLE", "TRANSPORTS", "TrafficEntry", "from_bytes", "to_bytes"]

ROLE = "traffic"
"""The role of rows about flows, and of nodes that only carry traffic."""

FILE = ".nm/traffic.json"
"""The file among those of a run that has its entries; a scenario's own hidden files are not sent."""

KINDS: Mapping[str, str] = {
    "cbr": "a constant bit rate",
    "poisson": "flows that arrive at random, independent of each other",
    "on-off": "a constant bit rate that goes on and off at random",
    "incast": "one node asks many at once, and all answer at once",
    "all-to-all": "every node sends to every other at once",
    "request-response": "clients ask a server, each one question at a time",
}

TRANSPORTS = ("tcp", "udp", "user")

MOST_FLOWS = 50_000
"""Flows of an entry, and of all entries together: each is a row of the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficEntry:
    """An entry of `traffic:`.

    Attributes:
        name: What its rows are called; the draws depend on it.
        kind: One of `KINDS`.
        pairs: Which node sends to which.
        transport: One of `TRANSPORTS`.
        port: The port on which those that are connected to listen.
        start_s: When it begins, after the start of all traffic.
        duration_s: How long it sends; 0 for kinds that end after their requests.
        rate_bps: Bits per second that each pair offers; 0 for kinds that send as fast as they can.
        sizes: Sizes of flows.
        requests: How many rounds, for kinds that have them.
        packet: Payload of a datagram in bytes.
        on_s: The mean length of a period with traffic.
        off_s: The mean length of a period without.
    """

    name: str
    kind: str
    pairs: tuple[tuple[int, int], ...]
    transport: str = "tcp"
    port: int = 20_000
    start_s: float = 0.0
    duration_s: float = 0.0
    rate_bps: float = 0.0
    sizes: Sizes | None = None
    requests: int = 0
    packet: int = 1200
    on_s: float = 0.0
    off_s: float = 0.0

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes that take part."""
        return tuple(sorted({node for pair in self.pairs for node in pair}))

    @property
    def pulls(self) -> bool:
        """Whether the receiver of the bytes asks for them."""
        return self.kind in ("incast", "request-response")

    @property
    def mean_bytes(self) -> float:
        """The mean size of a flow; 0 where there is no distribution."""
        return self.sizes.mean if self.sizes is not None else 0.0


def to_bytes(entries: Sequence[TrafficEntry]) -> bytes:
    """Return entries as the content of `FILE`."""
    return json.dumps([asdict(entry) for entry in entries]).encode()


def from_bytes(content: bytes) -> tuple[TrafficEntry, ...]:
    """Return the entries in `FILE`."""
    return tuple(_entry(raw) for raw in json.loads(content))


def _entry(raw: Mapping[str, Any]) -> TrafficEntry:
    sizes = raw["sizes"]
    points = None if sizes is None else Sizes(tuple((size, share) for size, share in sizes["points"]))
    return TrafficEntry(**{**raw, "pairs": tuple((src, dst) for src, dst in raw["pairs"]), "sizes": points})
