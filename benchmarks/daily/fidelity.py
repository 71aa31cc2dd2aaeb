"""Measure whether a link has the rate, delay and loss of its file."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import datagrams, iperf, testbed
from benchmarks.daily.limits import binomial_interval
from benchmarks.iperf import Timing

__all__ = ["delay_error_ms", "measure", "rate_error_percent"]

_RATE_GBPS = 0.1
_DELAY_MS = 20.0
_LOSS = 0.01
_PACKETS = 100_000
_PAYLOAD_OF_MTU = 1448 / 1500  # TCP payload of a segment with timestamps, and the segment with its headers


def measure() -> Iterator[tuple[str, float, str]]:
    """Measure rate, delay and loss on a line of two nodes; yields key, value and how it was measured.

    Raises:
        NotRunnable: No lab came up.
    """
    with testbed.line(2, link="rate: 100 Mbit") as path:
        goodput = iperf.tcp(path, Timing(seconds=6, warm_up=2), None).value
    how = f"{goodput * 1000:.2f} Mb/s over 6 s against the rate less headers"
    yield "rate", rate_error_percent(goodput), how

    timing = Timing(pings=200)
    with testbed.line(2) as path:
        base = iperf.rtt(path, timing).detail["mean"] / 1000
    with testbed.line(2, link="delay: 20 ms") as path:
        delayed = iperf.rtt(path, timing).detail["mean"] / 1000
    how = f"round trip {delayed:.3f} ms, {base:.3f} ms without the delay, halved"
    yield "delay", delay_error_ms(delayed, base), how

    with testbed.line(2, link="loss: 1 %") as path:
        before = datagrams.count(path)
        iperf.send_datagrams(path, packets=_PACKETS, size=1000, bits_per_second=80_000_000)
        seen = datagrams.between(before, datagrams.count(path))
    low, high = binomial_interval(seen.sent, _LOSS)
    how = (
        f"{seen.lost} of {seen.sent} lost, interval {low} to {high}; {seen.queue_drops} in the sender's queue"
    )
    yield "loss", max(0, low - seen.lost, seen.lost - high), how


def rate_error_percent(goodput_gbps: float) -> float:
    """Return by how much a goodput misses a 100 Mbit link less TCP/IP headers, in percent."""
    return abs(goodput_gbps / (_RATE_GBPS * _PAYLOAD_OF_MTU) - 1) * 100


def delay_error_ms(round_trip_ms: float, base_ms: float) -> float:
    """Return by how much the mean one-way delay added misses 20 ms."""
    return abs((round_trip_ms - base_ms) / 2 - _DELAY_MS)
