"""The limits of the daily benchmark, and their evaluation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from benchmarks.limits import Limit, LimitResult

__all__ = ["LIMITS", "binomial_interval", "compare_all"]


LIMITS: tuple[Limit, ...] = (
    Limit("help", "`nm --help`", "s", 0.3),
    Limit("validate", "`nm validate topologies/ring.yaml`", "s", 0.3),
    Limit("up-ring-native", "`nm up`, ring of 4, native", "s", 3),
    Limit("up-ring-docker", "`nm up`, ring of 4, docker", "s", 15),
    Limit("up-tree-native", "`nm up`, fat tree of 36, native", "s", 4),
    Limit("up-tree-docker", "`nm up`, fat tree of 36, docker", "s", 60),
    Limit("sync-native", "weights-sync, 90 MB to 3 receivers, native, slowest", "MB/s", 250, at_least=True),
    Limit("sync-docker", "weights-sync, 90 MB to 3 receivers, docker, slowest", "MB/s", 100, at_least=True),
    Limit("sync-tree-native", "weights-sync, 90 MB to 35 receivers, native, whole run", "s", 20),
    Limit("wire", "sender's bytes / (payload × out-degree), no loss", "ratio", 1.03),
    Limit("pingall-native", "pingall, all pairs of 36, native", "s", 15),
    Limit("rate", "100 Mbit link: TCP goodput off by", "%", 3),
    Limit("delay", "20 ms link: mean delay off by", "ms", 0.5),
    Limit("loss", "1 % loss at 100,000 packets: distance to the 95 % interval", "packets", 0),
)


def compare_all(values: Mapping[str, tuple[float, str]], reasons: Mapping[str, str]) -> list[LimitResult]:
    """Return every limit with its value and detail, or with the reason why there is none."""
    results = []
    for limit in LIMITS:
        if limit.key in values:
            value, detail = values[limit.key]
            results.append(limit.result(value, detail))
        else:
            results.append(LimitResult(limit, None, None, reasons.get(limit.key, "left out of this run")))
    return results


def binomial_interval(trials: int, probability: float) -> tuple[int, int]:
    """Return the 95 % interval of losses among `trials` packets, by the normal approximation.

    With 100,000 packets at 1 % the approximation is off by less than one packet.
    """
    mean, deviation = trials * probability, sqrt(trials * probability * (1 - probability))
    return round(mean - 1.96 * deviation), round(mean + 1.96 * deviation)
