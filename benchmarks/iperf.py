"""Take one sample of a path: one TCP stream, small UDP packets, or round trips when idle.

iperf3 and ping are used unmodified, so that a sample can be repeated by hand. CPU time is that of the
whole machine during the stream, warm-up included, per bit transferred in that time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.commands import Background, run
from benchmarks.errors import BenchmarkError, CommandFailed
from benchmarks.figures import Sample, percentile
from benchmarks.paths import Path
from benchmarks.proc import CpuMeter

__all__ = [
    "Placement",
    "Timing",
    "parse_ping",
    "parse_tcp",
    "parse_udp",
    "rtt",
    "send_datagrams",
    "tcp",
    "udp",
]

_PORT = 5301
_SLACK_SECONDS = 15.0  # for iperf3 to connect, exchange results and end


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a sample takes: iperf3 counts in whole seconds."""

    seconds: int = 3
    warm_up: int = 1
    pings: int = 200
    ping_interval: float = 0.01


@dataclass(frozen=True, slots=True)
class Placement:
    """Which CPU runs what; None leaves it to the scheduler."""

    sender: int
    receiver: int
    relays: frozenset[int]

    @classmethod
    def pinned(cls) -> Placement | None:
        """Put the sender on the first CPU, the receiver on the second, relays on the rest.

        With two CPUs the relays share the receiver's: on the sender's CPU they halve the throughput.
        """
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            return None
        return cls(cpus[0], cpus[1], frozenset(cpus[2:]) or frozenset(cpus[1:]))

    def anywhere(self) -> Placement:
        """Return the same for the ends, with relays on every CPU."""
        return replace(self, relays=frozenset(os.sched_getaffinity(0)))


def tcp(path: Path, timing: Timing, placement: Placement | None) -> Sample:
    """Measure one TCP stream with cubic, in Gb/s at the receiver."""
    record, busy, wall = _iperf(path, timing, placement, ["-C", "cubic"])
    return parse_tcp(record, busy, wall)


def udp(path: Path, timing: Timing, placement: Placement | None, *, size: int = 64) -> Sample:
    """Measure UDP datagrams with `size` bytes of payload, in delivered packets per second."""
    record, busy, wall = _iperf(path, timing, placement, ["-u", "-b", "0", "-l", str(size)])
    return parse_udp(record, busy, wall, size=size)


def rtt(path: Path, timing: Timing) -> Sample:
    """Measure round trips on an idle path, p50 in microseconds."""
    argv = ["ping", "-n", "-c", str(timing.pings), "-i", str(timing.ping_interval), "-W", "1"]
    limit = timing.pings * (timing.ping_interval + 0.05) + _SLACK_SECONDS
    return parse_ping(run(path.sender.argv(*argv, path.receiver.address), timeout=limit).stdout)


def send_datagrams(path: Path, *, packets: int, size: int, bits_per_second: int) -> None:
    """Send a fixed number of datagrams at a fixed rate; the caller counts them."""
    seconds = packets * size * 8 / bits_per_second
    options = ["-u", "-b", str(bits_per_second), "-l", str(size), "-k", str(packets)]
    _iperf(path, Timing(seconds=0, warm_up=0), None, options, extra=seconds)


def parse_tcp(record: Mapping[str, Any], busy: float, wall: float) -> Sample:
    """Parse the client's JSON of a TCP test into a sample in Gb/s."""
    end = record["end"]
    carried = sum(interval["sum"]["bytes"] for interval in record["intervals"]) * 8 / 1e9
    return Sample(
        value=end["sum_received"]["bits_per_second"] / 1e9,
        cpu_seconds_per_gigabit=busy / carried if carried > 0 else None,
        cores_busy=busy / wall if wall > 0 else None,
        retransmits=end["sum_sent"].get("retransmits"),
        detail={"mss": float(record["start"].get("tcp_mss_default", 0))},
    )


def parse_udp(record: Mapping[str, Any], busy: float, wall: float, *, size: int) -> Sample:
    """Parse the client's JSON of a UDP test into a sample in delivered packets per second."""
    received = record["end"]["sum_received"]
    sent = record["end"]["sum_sent"]
    seconds = received["seconds"]
    delivered = received["bytes"] / size
    carried = delivered * size * 8 / 1e9
    return Sample(
        value=delivered / seconds if seconds > 0 else 0.0,
        cpu_seconds_per_gigabit=busy / carried if carried > 0 else None,
        cores_busy=busy / wall if wall > 0 else None,
        detail={
            "offered_per_second": sent["packets"] / seconds if seconds > 0 else 0.0,
            "lost_percent": float(received["lost_percent"]),
        },
    )


def parse_ping(text: str) -> Sample:
    """Parse the output of ping into a sample: p50 in microseconds, with minimum, mean, p99 and maximum.

    Raises:
        BenchmarkError: There was no reply.
    """
    times = [float(word) * 1000 for word in re.findall(r"time=([\d.]+) ms", text)]
    if not times:
        raise BenchmarkError("ping got no answer")
    sent = re.search(r"(\d+) packets transmitted", text)
    return Sample(
        value=percentile(times, 0.5),
        detail={
            "min": min(times),
            "mean": sum(times) / len(times),
            "p99": percentile(times, 0.99),
            "max": max(times),
            "lost": float((int(sent.group(1)) if sent else len(times)) - len(times)),
        },
    )


def _iperf(
    path: Path, timing: Timing, placement: Placement | None, options: list[str], *, extra: float = 0.0
) -> tuple[dict[str, Any], float, float]:
    serve = ["iperf3", "-s", "-1", "-p", str(_PORT), "-B", path.receiver.address, "--forceflush"]
    client = ["iperf3", "-c", path.receiver.address, "-p", str(_PORT), "-J", "--connect-timeout", "5000"]
    if timing.seconds:
        client += ["-t", str(timing.seconds), "-O", str(timing.warm_up)]
    client += options
    if placement is not None:
        client += ["-A", f"{placement.sender},{placement.receiver}"]
    limit = timing.seconds + timing.warm_up + extra + _SLACK_SECONDS
    with Background(path.receiver.argv(*serve)) as server:
        server.wait_for_line("Server listening", timeout=_SLACK_SECONDS)
        meter = CpuMeter.start()
        finished = run(path.sender.argv(*client), timeout=limit, check=False)
        busy, wall = meter.read()
    try:
        record: dict[str, Any] = json.loads(finished.stdout)
    except ValueError:
        raise CommandFailed(f"iperf3 gave no result: {(finished.stderr or finished.stdout)[:200]}") from None
    if "error" in record:
        raise CommandFailed(f"iperf3: {record['error']}")
    return record, busy, wall
