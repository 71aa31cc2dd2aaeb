"""Test link specifications in files, messages and settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.impairment import PLAIN, LinkSpec

SPECS = st.builds(
    LinkSpec,
    rate_bps=st.none() | st.integers(1, 2**62),
    delay_us=st.none() | st.integers(0, 2**62),
    loss=st.none() | st.floats(0, 1),
    limit_bytes=st.none() | st.integers(1, 2**62),
    limit_packets=st.none() | st.integers(1, 2**31),
)


@given(SPECS)
def test_the_wire_carries_a_specification_unchanged(spec: LinkSpec) -> None:
    assert LinkSpec.from_wire(spec.to_wire()) == spec
    assert None not in spec.to_wire().values()


@given(SPECS, SPECS)
def test_what_is_stated_wins_over_what_lies_below(spec: LinkSpec, base: LinkSpec) -> None:
    laid = spec.over(base)
    for name in ("rate_bps", "delay_us", "loss", "limit_bytes", "limit_packets"):
        stated = getattr(spec, name)
        assert getattr(laid, name) == (getattr(base, name) if stated is None else stated)


def test_absent_is_plain_and_zero_is_not() -> None:
    assert PLAIN.is_plain
    assert not LinkSpec(loss=0.0).is_plain


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert LinkSpec.from_wire({"rate_bps": 5, "jitter_us": 3}) == LinkSpec(rate_bps=5)
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
    ],
)
def test_invalid_input_from_the_wire_is_refused(wire: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is .*(needed|expected|between)"):
        LinkSpec.from_wire(wire)
