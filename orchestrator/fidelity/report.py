"""Compare what links did during a run with what was requested.

The difference of two snapshots is what happened between them. A property is judged where enough was measured
of it, and left open otherwise: the rate while the link was backlogged, the loss where ten losses were
expected. A link whose specification changed meanwhile is judged by its punctuality and by overload alone,
because the measured values belong to several specifications.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.fidelity.snapshot import Snapshot, cpu_share, links_since, overload_since
from orchestrator.fidelity.statistics import gilbert_packets, kurtosis, percentile, wilson
from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.protocol.messages import LinkMeasurement

__all__ = ["KEPT", "SURE", "Verdict", "report"]

Verdict = Literal["kept", "broken", "not-measured"]
KEPT: Verdict = "kept"

LATE_MEAN_US = 200.0
"""The most by which packets may leave late on average, in microseconds."""
LATE_P99_US = 1_000.0
"""The same for the 99th percentile."""
LEAST_PACKETS = 100
"""Packets of which a 99th percentile is known."""
RATE_TOLERANCE = 0.01
FAST_RATE_TOLERANCE = 0.03
FAST_BPS = 1_000_000_000
"""Rates above this have the larger tolerance."""
LEAST_BUSY_NS = 500_000_000
"""Backlogged time that a measured rate needs, in nanoseconds."""
LEAST_LOSSES = 10
"""Expected losses that a comparison of the loss needs."""
JITTER_TOLERANCE = {"normal": 0.05, "uniform": 0.05}
OTHER_JITTER_TOLERANCE = 0.08
"""Of distributions with long tails, in dense streams."""
LEAST_DRAWS = 100
"""Independent delays that a comparison of a delay with jitter needs."""
MOST_PACKETS_PER_DRAW = 3.0
"""Packets close together share a delay. How many did is known of all of them alone, so where the average is
larger, a few bursts may decide the mean and the deviation."""
PARETO_KURTOSIS = 29.0
"""Of the Pareto distribution in use, cut off at ten times its smallest value."""
SURE = 4.0
"""Standard errors beyond which a deviation is not chance: once in 16,000 comparisons. The reported interval
is that of 95 %, which one link in twenty misses without a fault."""

DELAY_BITS = 8
LATE_BITS = 4
"""Significant bits of the buckets of delays and of latenesses; the same in the dataplane."""

FAULT = "node fault"
"""Why a link is not judged: the run stopped or paused one of its nodes."""

MISSING = "node missing"
"""Why a link is not judged: one of its nodes did not say what it had measured, before or after."""

MOST_LINKS = 1_000
"""Directions of links that a report lists, those that broke first."""


def report(
    before: Snapshot,
    after: Snapshot,
    specs: Mapping[tuple[int, int], LinkSpec],
    cpus: int,
    *,
    expected: Iterable[int] = (),
    faulted: Collection[int] = (),
) -> dict[str, Any]:
    """Return the `fidelity` section of a run's results.

    Args:
        before: When the run began.
        after: When it had ended.
        specs: What is requested of the packets from one node to another, at the end.
        cpus: Processors of the machine.
        expected: Nodes that should have answered, besides those that have at least once.
        faulted: Nodes that the run stopped, killed, started, paused or unpaused.

    Returns:
        `verdict`, `links`, `nodes_missing` and `host`, as docs/concepts/emulation.md describes them. Rates
        are bits per second, times seconds.
    """
    missing = (set(expected) | before.nodes.keys() | after.nodes.keys()) - (
        before.nodes.keys() & after.nodes.keys()
    )
    entries = [
        _unknown(a, b, specs.get((a, b), PLAIN)) for a, b in _links_from(missing, before, after, specs)
    ]
    for a, b, link in links_since(before, after):
        if link.offered or link.packets or link.drops:
            reason = MISSING if missing & {a, b} else FAULT if a in faulted or b in faulted else None
            entries.append(_entry(a, b, link, specs.get((a, b), PLAIN), reason))
    entries.sort(key=lambda entry: (entry["ok"] is not False, entry["a"], entry["b"], entry["direction"]))
    drops, at_faults = _drops(before, after, entries, {*faulted, *_neighbours(faulted, before, after, specs)})
    found: dict[str, Any] = {
        "verdict": _verdict((entry["ok"] for entry in entries), drops, missing),
        "links": entries[:MOST_LINKS],
        "nodes_missing": sorted(missing),
        "host": {
            "cpu_share": cpu_share(before, after, cpus),
            "overload_drops": drops,
            "fault_drops": at_faults,
        },
    }
    if len(entries) > MOST_LINKS:
        found["links_omitted"] = len(entries) - MOST_LINKS
    return found


def _links_from(
    nodes: Container[int], before: Snapshot, after: Snapshot, specs: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    known = {*specs, *((a, b) for snapshot in (before, after) for a, b, _ in snapshot.links())}
    return sorted(link for link in known if link[0] in nodes)


def _neighbours(
    nodes: Container[int], before: Snapshot, after: Snapshot, specs: Iterable[tuple[int, int]]
) -> Iterator[int]:
    """Other ends of the links of these nodes; specifications have both directions of a link."""
    return (b for _, b in _links_from(nodes, before, after, specs))


def _drops(
    before: Snapshot, after: Snapshot, entries: Iterable[Mapping[str, Any]], near: Container[int]
) -> tuple[int, int]:
    """Packets lost by overload, and those that a fault may have caused.

    The queues before a node that is paused fill up. Threads count packets of all their nodes together, so
    what a thread with a node near a fault dropped is of no known cause.
    """
    excluded = {(now.process, now.shard) for node, now in after.nodes.items() if node in near}
    overload = at_faults = 0
    for shard, count in overload_since(before, after).items():
        if shard in excluded:
            at_faults += count
        else:
            overload += count
    for entry in entries:
        congested = entry["measured"]["drops"].get("congested", 0)
        if entry["not_judged"] == FAULT:
            at_faults += congested
        else:
            overload += congested
    return overload, at_faults


def _verdict(judged: Iterable[bool | None], overload_drops: int, missing: Collection[int]) -> Verdict:
    results = set(judged)
    if False in results or overload_drops:
        return "broken"
    return KEPT if True in results and not missing else "not-measured"


def _entry(a: int, b: int, link: LinkMeasurement, spec: LinkSpec, not_judged: str | None) -> dict[str, Any]:
    """One direction of a link, as reports have it; `not_judged` is why it is not judged, if so."""
    measured = _Measured.of(link, spec)
    judged = {} if not_judged else dict(measured.judge(spec))
    results = set(judged.values())
    return {
        **_requested(a, b, spec),
        "measured": measured.as_json(),
        "changes": link.changes,
        "not_judged": not_judged,
        "broken": sorted(name for name, ok in judged.items() if ok is False),
        "ok": False if False in results else True if True in results else None,
    }


def _unknown(a: int, b: int, spec: LinkSpec) -> dict[str, Any]:
    """A direction of a link whose node did not say what it measured."""
    nothing = _Measured.of(LinkMeasurement(b, 0), spec).as_json()
    measured = {**nothing, "packets": None}
    rest: dict[str, Any] = {"changes": None, "not_judged": MISSING, "broken": [], "ok": None}
    return {**_requested(a, b, spec), "measured": measured, **rest}


def _requested(a: int, b: int, spec: LinkSpec) -> dict[str, Any]:
    return {
        "a": min(a, b),
        "b": max(a, b),
        "direction": "forward" if a < b else "backward",
        "requested": {
            "rate": spec.rate_bps,
            "delay": (spec.delay_us or 0) / 1e6,
            "jitter": (spec.jitter_us or 0) / 1e6,
            "loss": spec.loss or 0.0,
        },
    }


@dataclass(frozen=True)
class _Measured:
    """One direction of a link; times in microseconds, None for what is not known."""

    link: LinkMeasurement
    packets: int
    rate: float | None
    mean: float | None
    jitter: float | None
    percentiles: tuple[float | None, ...]
    late_mean: float
    late_p99: float
    lost: int
    independent: float

    @classmethod
    def of(cls, link: LinkMeasurement, spec: LinkSpec) -> _Measured:
        packets = sum(count for _, count in link.delay)
        mean = jitter = None
        shares: tuple[float | None, ...] = (None, None, None)
        if packets:
            mean = link.delay_sum_us / packets
            jitter = math.sqrt(max(0.0, link.delay_squares_us / packets - mean * mean))
            shares = tuple(_delay_at(link, spec, share) for share in (0.5, 0.95, 0.99))
        return cls(
            link,
            packets,
            link.busy_bytes * 8e9 / link.busy_ns if link.busy_ns >= LEAST_BUSY_NS else None,
            mean,
            jitter,
            shares,
            link.late_sum_us / packets if packets else 0.0,
            (percentile(link.late, 0.99, LATE_BITS) or 0.0) / 1e3,
            link.drops.get("loss", 0),
            gilbert_packets(link.offered, spec.loss or 0.0, spec.loss_burst),
        )

    def judge(self, spec: LinkSpec) -> Iterator[tuple[str, bool | None]]:
        """Every property with whether it is as requested; None where that is not known."""
        yield "overload", None if not self.link.drops.get("congested") else False
        late = self.late_mean > LATE_MEAN_US or self.late_p99 > LATE_P99_US
        yield "late", None if self.packets < LEAST_PACKETS else not late
        if self.link.changes:
            return
        # What a trace sets changes during the measurement.
        traced = spec.set_by_trace
        yield "rate", None if "rate" in traced else self._rate_ok(spec)
        yield "delay", None if "delay" in traced else self._delay_ok(spec)
        yield "jitter", self._jitter_ok(spec)
        yield "loss", None if "loss" in traced else self._loss_ok(spec)

    def _rate_ok(self, spec: LinkSpec) -> bool | None:
        if spec.rate_bps is None or self.rate is None:
            return None
        tolerance = RATE_TOLERANCE if spec.rate_bps <= FAST_BPS else FAST_RATE_TOLERANCE
        return abs(self.rate / spec.rate_bps - 1.0) <= tolerance

    def _delay_ok(self, spec: LinkSpec) -> bool | None:
        if self.mean is None or self.packets < LEAST_PACKETS or _is_reordered(spec):
            return None
        tolerance = LATE_MEAN_US
        if spec.jitter_us:
            draws = self._draws()
            if draws is None:
                return None
            # A tenth of a deviation: packets that keep their order wait for the one before.
            tolerance += spec.jitter_us * (0.1 + SURE / math.sqrt(draws))
        return abs(self.mean - (spec.delay_us or 0)) <= tolerance

    def _jitter_ok(self, spec: LinkSpec) -> bool | None:
        draws = self._draws()
        if not spec.jitter_us or self.jitter is None or draws is None or _is_reordered(spec):
            return None
        tolerance = JITTER_TOLERANCE.get(spec.jitter_distribution or "normal", OTHER_JITTER_TOLERANCE)
        # The standard error of a deviation is sqrt((k - 1) / 4n), with k the kurtosis.
        tolerance += SURE * math.sqrt((_kurtosis(spec) - 1.0) / (4 * draws))
        return abs(self.jitter / spec.jitter_us - 1.0) <= tolerance

    def _draws(self) -> float | None:
        """The effective number of independent delays; None where too few are known.

        It is (sum of w)^2 / (sum of w^2), with w the packets that share a delay: n m / (2 m - 1) for
        geometrically distributed ones with the mean m, as packets at random times have it.
        """
        if self.link.draws < LEAST_DRAWS:
            return None
        shared = max(1.0, self.packets / self.link.draws)
        return self.link.draws * shared / (2 * shared - 1) if shared < MOST_PACKETS_PER_DRAW else None

    def _loss_ok(self, spec: LinkSpec) -> bool | None:
        loss = spec.loss or 0.0
        if not self.link.offered:
            return None
        if not loss:
            return False if self.lost else None
        if self.independent * min(loss, 1.0 - loss) < LEAST_LOSSES and loss < 1.0:
            return None
        low, high = self._interval(SURE)
        return low <= loss <= high

    def _interval(self, *z: float) -> tuple[float, float]:
        return wilson(self.lost / self.link.offered * self.independent, self.independent, *z)

    def as_json(self) -> dict[str, Any]:
        p50, p95, p99 = (_seconds(value) for value in self.percentiles)
        known = self.link.offered >= LEAST_PACKETS
        return {
            "rate": None if self.rate is None else round(self.rate),
            "delay_mean": _seconds(self.mean),
            "delay_p50": p50,
            "delay_p95": p95,
            "delay_p99": p99,
            "jitter": _seconds(self.jitter),
            "late_mean": _seconds(self.late_mean if self.packets else None),
            "late_p99": _seconds(self.late_p99 if self.packets else None),
            "packets": self.link.offered or self.link.packets,
            "loss": self.lost / self.link.offered if known else None,
            "loss_interval": list(self._interval()) if known else None,
            "drops": dict(self.link.drops),
        }


def _kurtosis(spec: LinkSpec) -> float:
    """Of the distribution of the jitter."""
    if spec.jitter_table is not None:
        return kurtosis(spec.jitter_table)
    return 3.0 if (spec.jitter_distribution or "normal") in JITTER_TOLERANCE else PARETO_KURTOSIS


def _is_reordered(spec: LinkSpec) -> bool:
    """Whether packets are held back so that others overtake them, which their delays then include."""
    return bool(spec.reorder)


def _delay_at(link: LinkMeasurement, spec: LinkSpec, share: float) -> float | None:
    """A percentile of the delay in microseconds.

    A constant delay is known exactly, so that only the lateness has to be looked up: its buckets are
    narrower.
    """
    constant = not spec.jitter_us and "delay" not in spec.set_by_trace
    if constant and not link.changes and not _is_reordered(spec):
        late = percentile(link.late, share, LATE_BITS)
        return None if late is None else (spec.delay_us or 0) + late / 1e3
    delay = percentile(link.delay, share, DELAY_BITS)
    return None if delay is None else delay / 1e3


def _seconds(micros: float | None) -> float | None:
    return None if micros is None else round(micros / 1e6, 9)
