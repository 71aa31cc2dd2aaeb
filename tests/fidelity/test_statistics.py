"""Test intervals and percentiles."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.fidelity import gilbert_packets, kurtosis, percentile, wilson


def test_known_intervals() -> None:
    """The values of Newcombe 1998, table I: 81 of 263, 15 of 148, none of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_where_all_or_none_are_lost_the_interval_ends_there_exactly() -> None:
    for packets in range(1, 2_000):
        assert wilson(packets, packets, 4.0)[1] == 1.0 and wilson(0, packets, 4.0)[0] == 0.0
    assert wilson(3_000, 2_000)[1] == 1.0


def test_the_mean_of_bursts_varies_as_that_of_so_many_independent_packets() -> None:
    loss, burst, packets, runs = 0.05, 5.0, 2_000, 400
    generator = random.Random(7)
    onset, end = loss / (burst * (1 - loss)), 1 / burst
    means = []
    for _ in range(runs):
        bad, lost = generator.random() < loss, 0
        for _ in range(packets):
            lost += bad
            bad = generator.random() >= end if bad else generator.random() < onset
        means.append(lost / packets)
    mean = sum(means) / runs
    deviation = math.sqrt(sum((each - mean) ** 2 for each in means) / runs)
    expected = math.sqrt(loss * (1 - loss) / gilbert_packets(packets, loss, burst))
    assert deviation == pytest.approx(expected, rel=0.15)
    assert gilbert_packets(packets, loss, None) == packets
    assert gilbert_packets(packets, 0.5, 1.0) == packets  # every second packet is lost


def test_percentiles_of_a_histogram() -> None:
    assert percentile([], 0.5, 8) is None
    exact = [(value, 1) for value in range(100)]
    assert percentile(exact, 0.5, 8) == 49 and percentile(exact, 1.0, 8) == 99
    assert percentile([(1024, 10)], 0.5, 8) == pytest.approx(1024 + 3.5, abs=2)


def test_kurtosis() -> None:
    assert kurtosis([-1.0, 1.0]) == 1.0 and kurtosis([2.0, 2.0]) == 1.0
    assert kurtosis(range(10_001)) == pytest.approx(1.8, rel=1e-3)  # of the uniform distribution
    generator = random.Random(7)
    assert kurtosis([generator.gauss(5, 2) for _ in range(50_000)]) == pytest.approx(3.0, rel=0.05)
