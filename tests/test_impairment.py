"""Test link specifications in files, messages and settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.impairment import DISTRIBUTIONS, PLAIN, LinkSpec

SPECS = st.builds(
    LinkSpec,
    rate_bps=st.none() | st.integers(1, 2**62),
    delay_us=st.none() | st.integers(0, 2**62),
    loss=st.none() | st.floats(0, 1),
    limit_bytes=st.none() | st.integers(1, 2**62),
    limit_packets=st.none() | st.integers(1, 2**31),
)

VARYING = st.builds(
    LinkSpec,
    jitter_us=st.integers(0, 2**62),
    jitter_distribution=st.none() | st.sampled_from(DISTRIBUTIONS),
    jitter_reorder=st.none() | st.booleans(),
    loss=st.floats(0, 0.5),
    loss_burst=st.none() | st.floats(1, 1e6),
)


@given(SPECS | VARYING)
def test_the_wire_carries_a_specification_unchanged(spec: LinkSpec) -> None:
    assert LinkSpec.from_wire(spec.to_wire()) == spec
    assert None not in spec.to_wire().values()


@given(SPECS, SPECS)
def test_what_is_stated_wins_over_what_lies_below(spec: LinkSpec, base: LinkSpec) -> None:
    laid = spec.over(base)
    for name in ("rate_bps", "delay_us", "loss"):
        stated = getattr(spec, name)
        assert getattr(laid, name) == (getattr(base, name) if stated is None else stated)


def test_a_limit_replaces_one_in_the_other_unit() -> None:
    in_bytes, in_packets = LinkSpec(rate_bps=5, limit_bytes=64_000), LinkSpec(limit_packets=100)
    assert in_packets.over(in_bytes) == LinkSpec(rate_bps=5, limit_packets=100)
    assert in_bytes.over(in_packets) == in_bytes
    both = LinkSpec(limit_bytes=1, limit_packets=2)
    assert both.over(in_bytes) == LinkSpec(rate_bps=5, limit_bytes=1, limit_packets=2)
    assert LinkSpec(rate_bps=6).over(in_packets) == LinkSpec(rate_bps=6, limit_packets=100)


def test_absent_is_plain_and_zero_is_not() -> None:
    assert PLAIN.is_plain
    assert not LinkSpec(loss=0.0).is_plain


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert LinkSpec.from_wire({"rate_bps": 5, "mood_us": 3}) == LinkSpec(rate_bps=5)
    assert LinkSpec.from_wire(None) == PLAIN


@pytest.mark.parametrize(
    "wire",
    [
        {"rate_bps": 0},
        {"loss": 1.5},
        {"loss": "0.1"},
        {"delay_us": -1},
        {"rate_bps": True},
        {"delay_us": 1.5},
        {"jitter_us": -1},
        {"jitter_us": 5, "jitter_distribution": "even"},
        {"jitter_us": 5, "jitter_distribution": 3},
        {"jitter_us": 5, "jitter_reorder": 1},
        {"jitter_reorder": True},
        {"loss": 0.1, "loss_burst": True},
        {"loss": 0.1, "loss_burst": 0.5},
        {"loss": 0.1, "loss_burst": float("inf")},
        {"loss": 0.1, "loss_burst": float("nan")},
        {"loss": 0.9, "loss_burst": 5},
        {"loss": 1.0, "loss_burst": 5},
        {"loss_burst": 5},
    ],
)
def test_invalid_input_from_the_wire_is_refused(wire: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needed|expected|between|one of|at least|needs"):
        LinkSpec.from_wire(wire)


def test_the_fields_of_one_key_are_replaced_together() -> None:
    base = LinkSpec(
        jitter_us=5, jitter_distribution="uniform", jitter_reorder=True, loss=0.1, loss_burst=3.0, delay_us=9
    )
    assert LinkSpec(jitter_us=2, loss=0.2).over(base) == LinkSpec(jitter_us=2, loss=0.2, delay_us=9)
    assert LinkSpec(delay_us=1).over(base).loss_burst == 3.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LinkSpec(jitter_us=2_000, delay_us=1_000), "jitter of 2 ms is larger than the delay, 1 ms"),
        (LinkSpec(jitter_us=2_000, jitter_reorder=False), "larger than the delay, 0 ms"),
        (LinkSpec(jitter_us=4_000, delay_us=1_000, jitter_reorder=True), "more than 3 times the delay"),
    ],
)
def test_what_no_link_can_do_is_refused(spec: LinkSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.check()


@pytest.mark.parametrize(
    "spec",
    [
        LinkSpec(jitter_us=0),
        LinkSpec(jitter_us=1_000, delay_us=1_000),
        LinkSpec(jitter_us=3_000, delay_us=1_000, jitter_reorder=True),
        LinkSpec(loss=0.0, loss_burst=5.0),
        LinkSpec(loss=0.9, loss_burst=9.0),
    ],
)
def test_what_a_link_can_just_do_is_taken(spec: LinkSpec) -> None:
    spec.check()
