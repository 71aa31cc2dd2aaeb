"""Confidence intervals of loss, and percentiles of histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Z_95", "gilbert_packets", "kurtosis", "percentile", "wilson"]

Z_95 = 1.959964
"""The quantile of the normal distribution for a two-sided interval of 95 %."""


def wilson(lost: float, packets: float, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a loss.

    It keeps its coverage for few losses and for none, where the normal approximation fails.

    Args:
        lost: Packets that were lost.
        packets: Packets in all, more than 0.
        z: The quantile of the normal distribution; that of 95 % unless given.

    Returns:
        Its ends, between 0 and 1; exactly 0 or 1 where no packet or every packet was lost.

    Source:
        E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927;
        recommended by Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", 2001.
    """
    share, square = lost / packets, z * z
    centre = (share + square / (2 * packets)) / (1 + square / packets)
    spread = share * (1 - share) / packets + square / (4 * packets * packets)
    half = z * math.sqrt(max(0.0, spread)) / (1 + square / packets)
    # Rounding would leave 0.999... where every packet was lost.
    low = 0.0 if lost <= 0 else max(0.0, centre - half)
    return low, 1.0 if lost >= packets else min(1.0, centre + half)


def gilbert_packets(packets: float, loss: float, burst: float | None) -> float:
    """Return the number of independent packets whose mean loss is known as well as that of lossy bursts.

    The states of a two-state Markov chain have the autocorrelation (1 - p - r)^k at distance k, with p and r
    the probabilities of its transitions; the variance of their mean is (1 + c) / (1 - c) times that of
    independent ones, with c = 1 - p - r. A negative correlation counts as none.

    Args:
        packets: Packets in all.
        loss: The mean loss, 0 to 1.
        burst: The mean burst in packets; None for independent losses.
    """
    if burst is None or not 0.0 < loss < 1.0:
        return packets
    correlation = max(0.0, 1.0 - loss / (burst * (1.0 - loss)) - 1.0 / burst)
    return packets * (1.0 - correlation) / (1.0 + correlation)


def kurtosis(values: Sequence[float]) -> float:
    """Return the fourth central moment over the square of the variance; values that are all equal have 1."""
    mean = math.fsum(values) / len(values)
    squares = [(value - mean) ** 2 for value in values]
    variance = math.fsum(squares) / len(values)
    return math.fsum(each * each for each in squares) / len(values) / variance**2 if variance else 1.0


def percentile(buckets: Sequence[tuple[int, int]], share: float, bits: int) -> float | None:
    """Return the value below which a share of a histogram lies; None when it is empty.

    Values within a bucket count as evenly distributed.

    Args:
        buckets: Smallest value and count of each bucket, ascending.
        share: 0 to 1.
        bits: Significant bits of a bucket's smallest value, which say how wide it is.
    """
    total = sum(count for _, count in buckets)
    wanted = share * total
    for low, count in buckets:
        if count >= wanted:
            width = 1 << max(0, low.bit_length() - bits)
            return low + (width - 1) * wanted / count
        wanted -= count
    return float(buckets[-1][0]) if total else None
