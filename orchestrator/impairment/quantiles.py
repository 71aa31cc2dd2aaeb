"""Distributions given by their quantiles, as nodes draw from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["moments"]


def moments(quantiles: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of the distribution that a node draws from.

    A node interpolates linearly between the quantiles, so what lies between two neighbours `a` and `b` has
    the mean `(a + b) / 2` and the mean square `(a² + ab + b²) / 3`. The dataplane computes the same.

    Args:
        quantiles: At least two, at equal steps of probability.
    """
    steps = len(quantiles) - 1
    mean = math.fsum((a + b) / 2 for a, b in pairwise(quantiles)) / steps
    # Around the mean, because the difference of two large squares is imprecise.
    around = [number - mean for number in quantiles]
    return mean, math.sqrt(math.fsum((a * a + a * b + b * b) / 3 for a, b in pairwise(around)) / steps)
