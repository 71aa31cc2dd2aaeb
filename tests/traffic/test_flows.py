"""Test the flows of entries: their times, their sizes, and that everything comes from the seed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.traffic import (
    PUBLISHED,
    TooManyFlows,
    TrafficEntry,
    expected,
    fixed,
    flows_of,
    from_bytes,
    to_bytes,
)

POISSON = TrafficEntry(
    name="p", kind="poisson", pairs=((1, 2), (3, 2)), rate_bps=8e6, duration_s=100.0, sizes=fixed(10_000)
)


def test_poisson_arrivals_have_exponential_gaps() -> None:
    starts = [flow.start_s for flow in flows_of(POISSON, 1) if flow.src == 1]
    gaps = [b - a for a, b in pairwise(starts)]
    # 100 flows per second for 100 s: 10 000 of them, with a standard deviation of 100.
    assert len(starts) == pytest.approx(10_000, abs=400)
    mean = math.fsum(gaps) / len(gaps)
    deviation = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.05)  # as of an exponential distribution
    for gap, share in ((0.001, 1 - math.exp(-0.1)), (0.01, 1 - math.exp(-1)), (0.03, 1 - math.exp(-3))):
        assert sum(each <= gap for each in gaps) / len(gaps) == pytest.approx(share, abs=0.02)


def test_the_load_of_a_distribution_is_offered_in_the_mean() -> None:
    entry = replace(POISSON, sizes=PUBLISHED["web-search"], rate_bps=1e9, duration_s=200.0)
    offered = expected(entry, 3)["offered_bps"]
    # 30 000 flows whose sizes deviate by twice their mean.
    assert offered == pytest.approx(2e9, rel=0.05)


def test_the_same_seed_gives_the_same_flows_and_another_gives_others() -> None:
    assert flows_of(POISSON, 5) == flows_of(from_bytes(to_bytes([POISSON]))[0], 5)
    assert flows_of(POISSON, 5) != flows_of(POISSON, 6)


def test_another_pair_or_entry_changes_nothing_for_a_pair() -> None:
    alone = flows_of(replace(POISSON, pairs=((3, 2),)), 5)
    assert alone == tuple(flow for flow in flows_of(POISSON, 5) if flow.src == 3)
    other = flows_of(replace(POISSON, name="q", pairs=((3, 2),)), 5)
    assert [flow.start_s for flow in other] != [flow.start_s for flow in alone]


def test_a_constant_bit_rate_is_one_flow_of_rate_times_duration() -> None:
    (flow,) = flows_of(TrafficEntry(name="c", kind="cbr", pairs=((1, 2),), rate_bps=8e6, duration_s=3.0), 1)
    assert (flow.bytes, flow.rate_bps, flow.start_s) == (3_000_000, 8e6, 0.0)


def test_periods_of_on_off_share_the_time_as_their_means_do() -> None:
    entry = TrafficEntry(
        name="o",
        kind="on-off",
        pairs=((1, 2),),
        rate_bps=8e6,
        duration_s=4000.0,
        on_s=1.0,
        off_s=3.0,
        start_s=2.0,
    )
    flows = flows_of(entry, 1)
    on = sum(flow.bytes for flow in flows) / 1e6
    assert on / 4000 == pytest.approx(0.25, rel=0.1)
    ends = [flow.start_s + flow.bytes / 1e6 for flow in flows]
    assert all(end <= after.start_s + 1e-5 for end, after in zip(ends[:-1], flows[1:], strict=True))
    assert flows[0].start_s >= 2.0 and ends[-1] <= 4002.0 + 1e-5


@pytest.mark.parametrize("kind", ["incast", "all-to-all", "request-response"])
def test_kinds_with_rounds_have_a_flow_of_each_pair_in_each(kind: str) -> None:
    entry = TrafficEntry(name="r", kind=kind, pairs=((1, 2), (3, 2)), sizes=fixed(500), requests=3)
    flows = flows_of(entry, 1)
    assert [(flow.src, flow.round) for flow in flows] == [(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (3, 3)]


def test_too_many_flows_are_refused_before_they_are_all_drawn() -> None:
    with pytest.raises(TooManyFlows, match="more than 50000 flows"):
        flows_of(replace(POISSON, duration_s=1e9), 1)
