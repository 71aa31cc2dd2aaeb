"""Test link specifications in files, messages and settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.impairment import DISTRIBUTIONS, PLAIN, Impossible, LinkSpec
from orchestrator.impairment.checks import check_link
from orchestrator.node import dataplane

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

QUEUED = st.builds(
    LinkSpec,
    rate_bps=st.integers(1, 2**62),
    rate_burst_bytes=st.none() | st.integers(1, 2**62),
    duplicate=st.none() | st.floats(0, 1),
    reorder=st.floats(0, 1, exclude_min=True),
    reorder_gap=st.none() | st.integers(1, 2**16),
    corrupt=st.none() | st.floats(0, 1),
    limit_us=st.none() | st.integers(1, 2**62),
    queue=st.just("red"),
    red_min_bytes=st.none() | st.integers(1, 1000),
    red_max_bytes=st.none() | st.integers(1001, 2**62),
    red_probability=st.none() | st.floats(0, 1),
    ecn=st.none() | st.booleans(),
    scheduler=st.sampled_from(["drr", "priority"]),
    scheduler_by=st.sampled_from(["source", "destination"]),
    scheduler_weights=st.dictionaries(
        st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1), min_size=1, max_size=5
    ),
    mtu=st.none() | st.integers(576, 9216),
)
TABLE = {"jitter_us": 5, "jitter_distribution": "table", "jitter_table": [-1.134, -1.134, 1.134, 1.134]}


@given(SPECS | VARYING | QUEUED)
def test_the_packet_engine_takes_what_passes_the_checks(spec: LinkSpec) -> None:
    try:
        check_link(spec)
    except Impossible:
        return
    nodes = [(1, "a", 1500), (2, "b", 1500)]
    network = dataplane.simulation(
        nodes,
        base_addr="10.0.0.0",
        net_mask="255.255.0.0",
        user_base_addr="192.168.0.0",
        seed=1,
        pipe=False,
        until_us=1,
    )
    network.connect(1, 2, (spec.to_message(), False), (PLAIN.to_message(), False))


@given(SPECS | VARYING | QUEUED)
def test_the_wire_carries_a_specification_unchanged(spec: LinkSpec) -> None:
    assert LinkSpec.from_wire(spec.to_wire()) == spec
    assert None not in spec.to_wire().values()
    assert LinkSpec.from_wire(json.loads(json.dumps(spec.to_wire()))) == spec  # Postgres keeps it as JSON
    assert hash(spec) == hash(LinkSpec.from_wire(spec.to_wire()))


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
    in_time = LinkSpec(limit_us=20_000)
    assert in_time.over(in_bytes) == LinkSpec(rate_bps=5, limit_us=20_000)
    assert in_bytes.over(in_time) == in_bytes
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
        {"loss": 10**400},
        {"delay_us": 10**400},
        {"jitter_us": 5, "jitter_distribution": "table"},
        {"jitter_us": 5, "jitter_table": [-1, 1]},
        {**TABLE, "jitter_table": [1, -1]},
        {**TABLE, "jitter_table": [-3, 3]},
        {**TABLE, "jitter_table": [0, 2]},
        {**TABLE, "jitter_table": [-1, "1"]},
        {**TABLE, "jitter_table": [-1, float("nan")]},
        {**TABLE, "jitter_table": [-1, 1] * 129},
        {**TABLE, "jitter_table": 5},
        {"reorder_gap": 3},
        {"reorder": 0, "reorder_gap": 3},
        {"rate_bps": 5, "scheduler": "priority"},
        {"rate_bps": 5, "scheduler": "priority", "scheduler_by": "dscp", "scheduler_weights": {}},
        {"reorder": 0.1, "reorder_gap": 0},
        {"duplicate": 1.5},
        {"reorder": -0.1},
        {"corrupt": float("nan")},
        {"limit_us": 0},
        {"queue": "sfq"},
        {"queue": ["red"]},
        {"red_min_bytes": 5},
        {"queue": "red", "red_probability": 2},
        {"ecn": 1},
        {"scheduler_by": "flow"},
        {"scheduler": "drr", "scheduler_by": "colour"},
        {"scheduler": "drr", "scheduler_by": "dscp", "scheduler_weights": {"1": 0}},
        {"scheduler": "drr", "scheduler_by": "dscp", "scheduler_weights": {"-1": 1}},
        {"scheduler": "drr", "scheduler_by": "dscp", "scheduler_weights": {"x": 1}},
        {"scheduler": "drr", "scheduler_by": "source", "scheduler_weights": {2**32: 1}},
        {"scheduler": "drr", "scheduler_by": "source", "scheduler_weights": [1, 2]},
        {"scheduler": "drr", "scheduler_by": "source", "scheduler_weights": dict.fromkeys(range(1025), 1)},
        {"mtu": 500},
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
    queued = LinkSpec(rate_bps=5, queue="red", red_min_bytes=9, ecn=True, reorder=0.1, reorder_gap=3)
    codel = LinkSpec(queue="codel", reorder=0.2)
    assert codel.over(queued) == LinkSpec(rate_bps=5, queue="codel", ecn=True, reorder=0.2)
    assert LinkSpec(jitter_us=2).over(LinkSpec.from_wire(TABLE)) == LinkSpec(jitter_us=2)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"queue": "red", "red_min_bytes": 5, "red_max_bytes": 5}, "no range in which it drops"),
        ({"queue": "codel", "codel_target_us": 100_000}, "CoDel with a target of 100 ms"),
        ({"queue": "codel", "red_min_bytes": 5}, "`min` belongs to the queue `red`"),
        ({"queue": "red", "codel_interval_us": 5}, "`interval` belongs to the queue `codel`"),
        ({"scheduler": "fifo", "scheduler_by": "dscp"}, "`fifo` has no classes"),
        ({"scheduler": "drr", "scheduler_weights": {1: 1}}, "weights need a property"),
        ({"scheduler": "drr", "scheduler_by": "dscp", "scheduler_weights": {64: 1}}, "they end at 63"),
    ],
)
def test_what_one_key_cannot_mean_is_refused_with_a_hint(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(Impossible, match=message):
        LinkSpec(**stated)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LinkSpec(jitter_us=2_000, delay_us=1_000), "jitter of 2 ms is larger than the delay, 1 ms"),
        (LinkSpec(jitter_us=2_000, jitter_reorder=False), "larger than the delay, 0 ms"),
        (LinkSpec(jitter_us=4_000, delay_us=1_000, jitter_reorder=True), "more than 3 times the delay"),
        (LinkSpec(rate_bps=5, rate_burst_bytes=1_499), "smaller than one packet of 1500 B"),
        (LinkSpec(rate_bps=5, rate_burst_bytes=1_279, mtu=1_280), "smaller than one packet of 1280 B"),
        (LinkSpec(rate_burst_bytes=1_500), "`burst` needs a `rate`"),
        (LinkSpec(limit_us=5), "`limit` in time needs a `rate`"),
        (LinkSpec(queue="red"), "`queue` needs a `rate`"),
        (LinkSpec(scheduler="drr"), "`scheduler` needs a `rate`"),
        (LinkSpec(ecn=True), "`ecn` needs a `rate`"),
        (LinkSpec(rate_bps=5, ecn=True), "`taildrop` does not"),
        (LinkSpec(rate_bps=5, ecn=True, queue="taildrop"), "`taildrop` does not"),
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
        LinkSpec(rate_bps=5, rate_burst_bytes=1_500, limit_us=1, queue="codel", ecn=True, scheduler="drr"),
        LinkSpec(queue="taildrop", ecn=False, scheduler="fifo"),
        LinkSpec.from_wire(TABLE | {"delay_us": 5}),
    ],
)
def test_what_a_link_can_just_do_is_taken(spec: LinkSpec) -> None:
    spec.check()
