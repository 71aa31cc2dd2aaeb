"""The rows of the fidelity table: what is requested, how it is measured, and how it is judged. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.fidelity import SURE, wilson

__all__ = ["ROWS", "Kind", "Result", "Row", "inside_95"]

Kind = Literal["tcp", "delays", "numbers", "shares"]

PAYLOAD_SHARE = 1448 / 1500
"""Payload of a full TCP segment with timestamps (RFC 7323), of its bytes with IP and TCP headers."""

Seen = Mapping[str, Any]
"""What the two ends of the traffic program reported."""


@dataclass(frozen=True)
class Result:
    """What was measured of one row.

    Attributes:
        values: The figures by name, in the units of `Row.units`.
        ok: Whether they are within the bar; None when they were not measured.
        reason: Why they were not.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    ok: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: For choosing it, and in records.
        title: For people.
        spec: The link, in the fields of `LinkSpec`.
        kind: What traffic is sent.
        options: Of the traffic program.
        bar: What the figures must be within, for people.
        judge: Computes the figures from what the receiver saw, and judges them.
        kernel: Whether the kernel's shapers can do it: rate alone.
    """

    name: str
    title: str
    spec: Mapping[str, Any]
    kind: Kind
    options: Mapping[str, Any]
    bar: str
    judge: Callable[[Seen], Result]
    kernel: bool = False

    def quick(self) -> Row:
        """The same with a fraction of the traffic; the bar of a statistic is then that of fewer packets."""
        options = dict(self.options)
        if "seconds" in options:
            options["seconds"] = min(options["seconds"], 2.0)
        if "count" in options:
            options["count"] = max(400, options["count"] // 10)
        return Row(**{**self._fields(), "options": options})

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


# Judging.


def _goodput(rate: float, tolerance: float) -> Callable[[Seen], Result]:
    def judge(seen: Seen) -> Result:
        deviation = seen["bps"] / (rate * PAYLOAD_SHARE) - 1.0
        values = {"Mbit/s": seen["bps"] / 1e6, "deviation %": deviation * 100}
        return Result(values, abs(deviation) <= tolerance)

    return judge


def _utilisation(rate: float, least: float) -> Callable[[Seen], Result]:
    def judge(seen: Seen) -> Result:
        share = seen["bps"] / (rate * PAYLOAD_SHARE)
        return Result({"utilisation %": share * 100}, share >= least)

    return judge


@dataclass(frozen=True)
class _Delays:
    """The delays of datagrams, in milliseconds."""

    count: int
    mean: float
    deviation: float
    median: float
    p99: float


def _of_delays(judge: Callable[[_Delays, Seen], Result]) -> Callable[[Seen], Result]:
    """Judge by the delays of the datagrams, if enough of them arrived."""

    def of(seen: Seen) -> Result:
        delays = sorted(each / 1e6 for each in seen["delays"])
        if len(delays) < 100:
            return Result(reason=f"only {len(delays)} datagrams arrived")
        p50, p99 = delays[len(delays) // 2], delays[min(len(delays) - 1, math.ceil(0.99 * len(delays)) - 1)]
        found = _Delays(len(delays), statistics.fmean(delays), statistics.pstdev(delays), p50, p99)
        return judge(found, seen)

    return of


def _unloaded(delay_ms: float) -> Callable[[Seen], Result]:
    def judge(found: _Delays, seen: Seen) -> Result:
        values = {"mean ms": found.mean, "p99 ms": found.p99}
        return Result(values, abs(found.mean - delay_ms) <= 0.1 and found.p99 - delay_ms <= 0.5)

    return _of_delays(judge)


def _loaded(delay_ms: float) -> Callable[[Seen], Result]:
    def judge(found: _Delays, seen: Seen) -> Result:
        return Result({"p99 ms": found.p99}, found.p99 - delay_ms <= 1.0)

    return _of_delays(judge)


def _jitter(deviation_ms: float) -> Callable[[Seen], Result]:
    def judge(found: _Delays, seen: Seen) -> Result:
        # Twice the standard error of a deviation from so many draws.
        error = 2.0 / math.sqrt(2.0 * found.count)
        ok = abs(found.deviation / deviation_ms - 1.0) <= max(0.05, error)
        return Result({"mean ms": found.mean, "deviation ms": found.deviation}, ok)

    return _of_delays(judge)


def _added(most_us: float) -> Callable[[Seen], Result]:
    def judge(found: _Delays, seen: Seen) -> Result:
        median_us, own_us = found.median * 1e3, statistics.median(seen["baseline"]) / 1e3
        return Result({"added µs": median_us - own_us, "in all µs": median_us}, median_us - own_us < most_us)

    return _of_delays(judge)


_FROM, _TO = "95 % from", "to"
"""The ends of an interval of 95 % among the values of a result, in percent."""


def inside_95(row: Row, values: Mapping[str, float]) -> bool | None:
    """Whether the requested loss is in the interval of 95 %; None for rows that have none.

    No verdict: each of the rows misses it once in twenty measurements without a fault.
    """
    if _FROM not in values:
        return None
    return bool(values[_FROM] <= row.spec["loss"] * 100 <= values[_TO])


def _of_losses(judge: Callable[[int, Seen], Result]) -> Callable[[Seen], Result]:
    """Judge by how many datagrams were sent and lost, if the receiver itself lost none."""

    def of(seen: Seen) -> Result:
        if seen["overflow"]:
            return Result(reason=f"the receiver's socket buffer was full for {seen['overflow']} datagrams")
        return judge(int(seen["count"]), seen)

    return of


def _loss(loss: float) -> Callable[[Seen], Result]:
    def judge(count: int, seen: Seen) -> Result:
        lost = seen["lost"]
        low, high = wilson(lost, count)
        least, most = wilson(lost, count, SURE)
        values = {"loss %": lost / count * 100, _FROM: low * 100, _TO: high * 100}
        return Result(values, least <= loss <= most)

    return _of_losses(judge)


def _bursts(loss: float, burst: float) -> Callable[[Seen], Result]:
    def judge(count: int, seen: Seen) -> Result:
        found, mean = seen["lost"] / count, seen["lost"] / max(1, seen["bursts"])
        # 3 % at 10^6 packets, and as much more as fewer packets make uncertain.
        tolerance = 0.03 * math.sqrt(1e6 / count)
        ok = abs(found / loss - 1) <= tolerance and abs(mean / burst - 1) <= tolerance
        return Result({"loss %": found * 100, "mean burst": mean}, ok)

    return _of_losses(judge)


def _shares(weights: Sequence[int], tolerance: float) -> Callable[[Seen], Result]:
    def judge(seen: Seen) -> Result:
        total, weight = sum(seen["bytes"]), sum(weights)
        if not total:
            return Result(reason="nothing arrived")
        shares = [each / total for each in seen["bytes"]]
        wanted = [each / weight for each in weights]
        worst = max(abs(a / b - 1) for a, b in zip(shares, wanted, strict=True))
        values = {f"share {w} %": share * 100 for w, share in zip(weights, shares, strict=True)}
        return Result({**values, "worst deviation %": worst * 100}, worst <= tolerance)

    return judge


def _spacing(rate: float, wire_bytes: int, most: float) -> Callable[[Seen], Result]:
    def judge(seen: Seen) -> Result:
        slot, ahead, least = wire_bytes * 8e9 / rate, 0.0, math.inf
        if len(seen["arrivals"]) < 100:
            return Result(reason=f"only {len(seen['arrivals'])} datagrams arrived")
        # The bytes of any interval against what the rate allows in it: the largest rise of this difference.
        for index, arrival in enumerate(seen["arrivals"]):
            least = min(least, index - arrival / slot)
            ahead = max(ahead, index - arrival / slot - least)
        return Result({"packets ahead of the rate": ahead}, ahead <= most)

    return judge


# The rows.

_TEXT = {1: "1 Mbit", 10: "10 Mbit", 100: "100 Mbit", 1000: "1 Gbit", 5000: "5 Gbit"}


def _rate_row(mbit: int, tolerance: float, seconds: float) -> Row:
    return Row(
        f"rate-{mbit}",
        f"rate {_TEXT[mbit]}, TCP goodput",
        {"rate_bps": mbit * 1_000_000},
        "tcp",
        {"warm_up": 2.0, "seconds": seconds},
        f"within {tolerance:.0%} of {mbit * PAYLOAD_SHARE:.4g} Mbit/s",
        _goodput(mbit * 1e6, tolerance),
        kernel=True,
    )


def _delay_row(millis: int) -> Row:
    return Row(
        f"delay-{millis}",
        f"delay {millis} ms, unloaded",
        {"delay_us": millis * 1000},
        "delays",
        {"count": 1000, "interval": 0.002},
        f"mean {millis} ± 0.1 ms, p99 ≤ {millis + 0.5} ms",
        _unloaded(millis),
    )


def _loss_row(percent: float) -> Row:
    count = 1_000_000
    return Row(
        f"loss-{percent:g}",
        f"loss {percent:g} %",
        {"loss": percent / 100},
        "numbers",
        {"count": count, "rate": 200_000.0},
        "within 4 standard errors",
        _loss(percent / 100),
    )


_WEIGHTS = (1, 2, 4)
_PORTS = (5201, 5202, 5203)

ROWS: tuple[Row, ...] = (
    *(_rate_row(mbit, 0.01, 4.0) for mbit in (1, 10, 100, 1000)),
    _rate_row(5000, 0.03, 4.0),
    *(_delay_row(millis) for millis in (1, 10, 100)),
    Row(
        "delay-loaded",
        "delay 10 ms, 100 Mbit at 50 % load",
        {"rate_bps": 100_000_000, "delay_us": 10_000},
        "delays",
        {"count": 1000, "interval": 0.002, "load_bps": 50e6},
        "p99 ≤ 11 ms",
        _loaded(10.0),
    ),
    Row(
        "jitter",
        "jitter 0.5 ms (normal) at 5 ms",
        {"delay_us": 5_000, "jitter_us": 500},
        "delays",
        {"count": 2000, "interval": 0.0025},
        "deviation within 5 %",
        _jitter(0.5),
    ),
    *(_loss_row(percent) for percent in (0.01, 0.1, 1.0, 10.0)),
    Row(
        "gilbert",
        "loss 5 % in bursts of 5",
        {"loss": 0.05, "loss_burst": 5.0},
        "numbers",
        {"count": 1_000_000, "rate": 200_000.0},
        "mean and burst within 3 %",
        _bursts(0.05, 5.0),
    ),
    Row(
        "wrr",
        "weighted round robin 1:2:4, datagrams of 1400, 700 and 300 bytes",
        {
            "rate_bps": 20_000_000,
            "scheduler": "drr",
            "scheduler_by": "dst_port",
            "scheduler_weights": dict(zip(_PORTS, _WEIGHTS, strict=True)),
        },
        "shares",
        {"ports": list(_PORTS), "sizes": [1400, 700, 300], "seconds": 4.0, "warm_up": 0.5, "bps": 20e6},
        "shares within 2 %",
        _shares(_WEIGHTS, 0.02),
    ),
    Row(
        "long-fat",
        "100 Mbit × 100 ms round trip, one TCP stream, default queue",
        {"rate_bps": 100_000_000, "delay_us": 100_000},
        "tcp",
        {"warm_up": 8.0, "seconds": 4.0},
        "utilisation ≥ 95 %",
        _utilisation(100e6, 0.95),
    ),
    Row(
        "spacing",
        "10 Mbit, super-packets of 30 MTU packets",
        {"rate_bps": 10_000_000},
        "delays",
        {"count": 600, "interval": 0.06, "size": 1472, "batch": 30, "offload": True},
        "at most 2 packets closer than the rate allows",
        _spacing(10e6, 1500, 2.0),
        kernel=True,
    ),
    Row(
        "added",
        "delay added by a link without impairment",
        {},
        "delays",
        {"count": 1000, "interval": 0.002, "baseline": True},
        "median < 60 µs more than over the loopback device",
        _added(60.0),
    ),
)
