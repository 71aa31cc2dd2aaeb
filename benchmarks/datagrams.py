"""Count datagrams at both ends with the kernel's counters.

A receiver that is too slow loses datagrams in its socket. A tool that counts
what the program read takes that for loss on the path; the kernel counts it separately.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.commands import run
from benchmarks.paths import Endpoint, Path

__all__ = ["Arrivals", "Counted", "between", "count", "parse_udp_counters"]

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Counted:
    """Counters since the ends' namespaces were created."""

    sent: int
    arrived: int
    overflowed: int
    queue_drops: int


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Datagrams of a measurement by outcome.

    Attributes:
        sent: Handed to the sender's device.
        lost: Never seen by the receiver's kernel.
        overflowed: Seen by it, but not read by the program in time.
        queue_drops: Of the lost ones, those that found the queue of the sender's device full.
    """

    sent: int
    lost: int
    overflowed: int
    queue_drops: int


def count(path: Path) -> Counted:
    """Read the counters of both ends."""
    out, _, _ = parse_udp_counters(_snmp(path.sender))
    _, arrived, overflowed = parse_udp_counters(_snmp(path.receiver))
    words = path.sender.argv("ip", "-s", "-j", "link", "show", "dev", path.sender.interface)
    device = json.loads(run(words, timeout=_SECONDS).stdout)[0]
    return Counted(out, arrived, overflowed, int(device["stats64"]["tx"]["dropped"]))


def between(before: Counted, after: Counted) -> Arrivals:
    """Return what happened between two counts."""
    sent = after.sent - before.sent
    overflowed = after.overflowed - before.overflowed
    arrived = after.arrived - before.arrived + overflowed
    return Arrivals(sent, sent - arrived, overflowed, after.queue_drops - before.queue_drops)


def parse_udp_counters(text: str) -> tuple[int, int, int]:
    """Return datagrams sent, read, and lost in full sockets, from the text of /proc/net/snmp."""
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Udp:"))
    found = dict(zip(names, map(int, values), strict=True))
    return found["OutDatagrams"], found["InDatagrams"], found["RcvbufErrors"]


def _snmp(end: Endpoint) -> str:
    return run(end.argv("cat", "/proc/net/snmp"), timeout=_SECONDS).stdout
