"""Test changes of links in the words of the topology file, as the SDK and roles state them."""

from __future__ import annotations

import pytest

from orchestrator.errors import TopologyInvalid, UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.lab.link import stated
from orchestrator.topology.links import read_values


def test_words_mean_what_they_mean_in_the_file() -> None:
    assert _read({"delay": "20 ms", "loss": "1 %"}) == LinkSpec(delay_us=20_000, loss=0.01)
    assert _read({"loss": {"mean": 0.01, "burst": 5}, "delay": 0}) == LinkSpec(
        loss=0.01, loss_burst=5.0, delay_us=0
    )
    assert _read({"limit": "10 packets", "rate": "1 Gbit"}) == LinkSpec(
        limit_packets=10, rate_bps=1_000_000_000
    )


def test_a_profile_is_a_change_of_the_whole_link_with_both_of_its_directions() -> None:
    change = read_values({"profile": "dsl", "delay": "1 ms"}, "x")
    assert change.whole and change.forward.rate_bps != change.backward.rate_bps
    assert change.forward.delay_us == change.backward.delay_us == 1_000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latency": "1 ms"}, "unknown key `latency` in link"),
        ({"down": True}, "unknown key `down` in link"),
        ({"delay": "20"}, "delay is `20`"),
        ({"delay": 20}, "delay is `20`"),
        ({"delay": "none"}, "a running link keeps what a change does not state"),
        ({"loss": {"mean": "50 %", "burst": 0.5}}, "at least 1 is needed"),
        ({"rate": None}, "rate is empty"),
        ({"loss": object()}, "loss is"),
    ],
)
def test_wrong_words_are_refused_with_a_reason(values: dict[str, object], message: str) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        read_values(values, "link.set")
    assert message in caught.value.problems[0].message


def test_a_change_is_stated_in_one_way() -> None:
    spec = LinkSpec(delay_us=1)
    assert stated(spec, {}).forward is spec
    assert stated(None, {"delay": "1 us"}).forward == spec
    for given, values in ((None, {}), (spec, {"delay": "1 us"})):
        with pytest.raises(UsageError) as caught:
            stated(given, values)
        assert caught.value.id == "link.nothing"


def _read(values: dict[str, object]) -> LinkSpec:
    change = read_values(values, "x")
    assert change.forward == change.backward and not change.whole
    return change.forward
