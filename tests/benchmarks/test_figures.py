"""Test the arithmetic of the published figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import (
    Round,
    Sample,
    discard_slow_rounds,
    paired_ratios,
    percentile,
    summarise,
)


def test_a_round_whose_loopback_fell_below_seventy_percent_of_the_best_is_discarded() -> None:
    rounds = [_round(1, loopback=40.0), _round(2, loopback=27.9), _round(3, loopback=28.0)]
    kept, dropped = discard_slow_rounds(rounds, loopback="loopback")
    assert [entry.number for entry in kept] == [1, 3]
    assert [entry.number for entry in dropped] == [2]
    assert "70%" in dropped[0].reason and "27.9 Gb/s" in dropped[0].reason


def test_pinned_and_unpinned_rounds_are_compared_separately() -> None:
    rounds = [_round(1, loopback=40.0), _round(2, pinned=False, loopback=20.0)]
    kept, dropped = discard_slow_rounds(rounds, loopback="loopback")
    assert len(kept) == 2 and not dropped


def test_a_round_without_a_loopback_cannot_count() -> None:
    broken = Round(1, True, {"nm": Sample(9.0)}, {"loopback": "iperf3: refused"})
    kept, dropped = discard_slow_rounds([broken], loopback="loopback")
    assert not kept
    assert dropped[0].reason == "no loopback reference: iperf3: refused"


def test_the_paired_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    rounds = [_round(1, veth=10.0, nm=9.0), _round(2, veth=20.0, nm=10.0), _round(3, veth=30.0, nm=24.0)]
    summary = summarise(rounds, "nm", reference="veth")
    assert summary is not None
    assert summary.ratios == pytest.approx((0.9, 0.5, 0.8))
    assert summary.paired == pytest.approx(0.8)
    assert summary.best_to_best == pytest.approx(24.0 / 30.0)
    assert (summary.median, summary.best) == (10.0, 24.0)


def test_a_round_that_lacks_one_of_the_pair_gives_no_ratio() -> None:
    rounds = [_round(1, veth=10.0), _round(2, nm=10.0), _round(3, veth=0.0, nm=1.0)]
    assert paired_ratios(rounds, "nm", "veth") == []
    summary = summarise(rounds, "nm", reference="veth")
    assert summary is not None and summary.paired is None


def test_the_best_round_trip_is_the_shortest() -> None:
    summary = summarise([_round(1, rtt=60.0), _round(2, rtt=50.0)], "rtt", higher_is_better=False)
    assert summary is not None and summary.best == 50.0


def test_a_case_without_samples_has_no_figures() -> None:
    assert summarise([_round(1, veth=1.0)], "nm") is None


def test_costs_are_medians_and_retransmits_are_added_up() -> None:
    samples = [Sample(1.0, 0.1, 1.5, 3), Sample(1.0, 0.3, 1.7, 4), Sample(1.0, 0.2, None, None)]
    summary = summarise([Round(i, True, {"nm": s}) for i, s in enumerate(samples)], "nm")
    assert summary is not None
    assert summary.cpu_seconds_per_gigabit == pytest.approx(0.2)
    assert summary.cores_busy == pytest.approx(1.6)
    assert summary.retransmits == 7


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_one_of_the_values_by_nearest_rank(share: float, expected: float) -> None:
    assert percentile([4.0, 2.0, 1.0, 3.0], share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs values"):
        percentile([], 0.5)


@given(
    st.lists(st.floats(0, 1e6), min_size=1),
    st.floats(0, 1),
)
def test_at_least_the_share_of_all_values_lies_at_or_below_the_percentile(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20))
def test_the_best_round_always_counts(loopbacks: list[float]) -> None:
    rounds = [_round(i, loopback=value) for i, value in enumerate(loopbacks)]
    kept, dropped = discard_slow_rounds(rounds, loopback="loopback")
    assert max(loopbacks) in [entry.samples["loopback"].value for entry in kept]
    assert len(kept) + len(dropped) == len(rounds)


def _round(number: int, *, pinned: bool = True, **values: float) -> Round:
    return Round(number, pinned, {name: Sample(value) for name, value in values.items()})
