"""Test the keys of links: profiles, tables of jitter, short and full forms, and the words for them."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path

import pytest

from orchestrator import topology
from orchestrator.errors import LinkChangeInvalid, TopologyInvalid
from orchestrator.impairment import FIELDS, PLAIN, Impossible, LinkSpec
from orchestrator.topology import Topology
from orchestrator.topology.link_keys import LINK_FIELDS, PARTS
from orchestrator.topology.link_words import describe, label
from orchestrator.topology.links import read_change, read_values
from orchestrator.topology.profiles import PROFILES

LINE = "topology: {type: line, n_nodes: 3}\n"
FULL = (
    "{rate: 1 Gbit, burst: 15 KB, delay: 30 ms, jitter: {std: 5 ms, distribution: uniform, reorder: true}, "
    "loss: {mean: 1 %, burst: 5}, duplicate: 0.1 %, reorder: {share: 0.5 %, gap: 3}, corrupt: 0.01 %, "
    "limit: 20 ms, queue: {type: red, min: 30 KB, max: 90 KB, p: 10 %}, ecn: true, "
    "scheduler: {type: drr, by: dst_port, weights: {5201: 1, 5202: 4}}, mtu: 1280}"
)


def test_every_field_has_a_key_and_every_key_its_fields() -> None:
    assert set(LINK_FIELDS) - {"profile", "down"} == {rule.key for rule in FIELDS.values()} == set(PARTS)
    for key, parts in PARTS.items():
        table = getattr(LINK_FIELDS[key].kind, "table", None)
        if key == "trace":
            stated = {FIELDS[name].part for name in parts.values()} - {""}
            assert set(table.fields) == stated | {"column"}
        elif table is not None:
            assert set(table.fields) == parts.keys() - {"jitter_table"}
            assert next(iter(parts)) == next(iter(table.fields))


def test_all_keys_are_read_shown_and_written_again() -> None:
    read = _loads(f"{LINE}defaults: {{link: {FULL}}}")
    spec = read.links[0].forward
    assert spec == read.links[1].backward
    assert set(spec.to_wire()) == {name for name, rule in FIELDS.items() if rule.key != "trace"} - {
        "jitter_table",
        "limit_bytes",
        "limit_packets",
        "codel_target_us",
        "codel_interval_us",
    }
    assert spec.scheduler_weights == {5201: 1, 5202: 4}
    assert describe(spec) == (
        "rate 1 Gbit, burst 15 KB, delay 30 ms, jitter 5 ms (distribution uniform, reorder), "
        "loss 1 % (burst 5), duplicate 0.1 %, reorder 0.5 % (gap 3), corrupt 0.01 %, limit 20 ms, "
        "queue red (min 30 KB, max 90 KB, p 10 %), ecn, "
        "scheduler drr (by dst_port, weights 5201: 1, 5202: 4), mtu 1280"
    )
    assert label(spec) == (
        "1 Gbit · burst 15 KB · 30 ms ± 5 ms · 1 % in bursts of 5 · duplicate 0.1 % · reorder 0.5 % · "
        "corrupt 0.01 % · 20 ms · red · ecn · drr · mtu 1280"
    )
    assert topology.loads(topology.dump(read)).links == read.links


def test_short_forms_state_the_first_part() -> None:
    read = _loads(
        LINE + "links: [{endpoints: [1, 2], rate: 1 Mbit, reorder: 1 %, queue: codel, scheduler: drr}]"
    )
    spec = LinkSpec(rate_bps=10**6, reorder=0.01, queue="codel", scheduler="drr")
    assert read.links[0].forward == spec
    assert describe(spec) == "rate 1 Mbit, reorder 1 %, queue codel, scheduler drr"
    assert describe(PLAIN) == "plain" and label(PLAIN) == ""


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_possible_link_with_a_source(name: str) -> None:
    read = _loads(f"{LINE}defaults: {{link: {{profile: {name}}}}}")
    assert (read.links[0].forward, read.links[0].backward) == tuple(
        PROFILES[name].spec(side) for side in ("forward", "backward")
    )
    assert not read.links[0].forward.is_plain
    assert PROFILES[name].source and PROFILES[name].summary


def test_a_profile_goes_down_from_the_first_endpoint_and_what_stands_beside_it_overrides() -> None:
    read = _loads(
        LINE + "defaults: {link: {loss: 1 %, profile: lossy-wan}}\n"
        "links:\n"
        "  - {endpoints: [2, 1], profile: dsl, delay: 5 ms, backward: {rate: 1 Mbit}}\n"
        "  - {endpoints: [2, 3], delay: none, jitter: none}\n"
    )
    first, second = read.links
    assert first.backward == LinkSpec(rate_bps=5_660_000, delay_us=5_000)  # 2 -> 1, the downlink
    assert first.forward == LinkSpec(rate_bps=10**6, delay_us=5_000)
    assert second.forward == LinkSpec(loss=0.01)
    plain = _loads(LINE + "defaults: {link: {profile: 4g}}\nlinks: [{endpoints: [1, 2], profile: none}]")
    assert plain.links[0].forward == PLAIN
    assert plain.links[1].forward == PROFILES["4g"].forward


def test_a_satellite_without_another_word_is_geostationary() -> None:
    read = _loads(f"{LINE}defaults: {{link: {{profile: satellite}}}}")
    geo = PROFILES["satellite-geo"]
    assert (read.links[0].forward, read.links[0].backward) == (geo.forward, geo.backward)


@pytest.mark.parametrize(
    ("mean", "burst", "hint"),
    [
        (0.9, 2.0, "write a burst of at least 9, or a mean of at most 66.66 %"),
        (0.7, 1.0, "write a burst of at least 2.34, or a mean of at most 50 %"),
        (0.9999, 5.0, "write a burst of at least 9999, or a mean of at most 83.33 %"),
        (1.0, 5.0, "leave out `burst`: every packet is lost"),
    ],
)
def test_an_impossible_burst_has_a_hint_that_helps(mean: float, burst: float, hint: str) -> None:
    with pytest.raises(Impossible) as caught:
        LinkSpec(loss=mean, loss_burst=burst).check()
    assert caught.value.hint == hint
    if mean < 1:
        words = hint.split()
        LinkSpec(loss=mean, loss_burst=float(words[6].rstrip(","))).check()
        LinkSpec(loss=float(words[-2]) / 100, loss_burst=burst).check()


def test_a_profile_takes_away_what_lies_below() -> None:
    read = _loads(
        LINE + "defaults: {link: {duplicate: 1 %, rate: 1 Mbit, queue: codel}}\n"
        "groups: {all: {nodes: 1-3, link: {profile: transatlantic}}}\n"
    )
    assert read.links[0].forward == PROFILES["transatlantic"].forward


def test_a_live_change_by_a_profile_is_whole_and_differs_by_direction() -> None:
    change = read_change({"profile": "dsl", "queue": "codel"})
    assert change.whole
    assert change.forward == LinkSpec(rate_bps=5_660_000, delay_us=18_500, queue="codel")
    assert change.backward == LinkSpec(rate_bps=820_000, delay_us=18_500, queue="codel")
    change = read_change({"queue": "codel"})  # the rate may be in force already
    assert not change.whole and change.forward == change.backward == LinkSpec(queue="codel")
    with pytest.raises(LinkChangeInvalid, match="larger than the delay"):
        read_change({"profile": "4g", "jitter": "50 ms"})


def test_a_table_is_read_relative_to_the_file_and_standardised(tmp_path: Path) -> None:
    draws = random.Random(1)
    delays = sorted(draws.expovariate(0.1) for _ in range(10_000))
    (tmp_path / "delays.csv").write_text("# ms\n\n" + "\n".join(f"{delay:.4f},  # x" for delay in delays))
    file = tmp_path / "lab.yaml"
    link = "delay: 20 ms, jitter: {std: 5 ms, distribution: delays.csv}"
    file.write_text(f"{LINE}defaults: {{link: {{{link}}}}}\n")
    read = topology.load(file)
    spec = read.links[0].forward
    table = spec.jitter_table
    assert spec.jitter_distribution == "table" and table is not None and len(table) == 256
    assert list(table) == sorted(table)
    draws_of_node = [interpolated(table, (step + 0.5) / 1e5) for step in range(100_000)]
    assert statistics.fmean(draws_of_node) == pytest.approx(0, abs=1e-3)
    assert statistics.pstdev(draws_of_node) == pytest.approx(1, abs=1e-3)
    # An exponential distribution, standardised, is -ln(1 - p) - 1; a sample of 10,000 is near to that.
    assert table[128] == pytest.approx(math.log(2) - 1, abs=0.05)
    assert table[230] == pytest.approx(-math.log(1 - 230.5 / 256) - 1, abs=0.15)
    assert topology.loads(topology.dump(read)).links == read.links
    assert describe(spec) == "delay 20 ms, jitter 5 ms (distribution of 256 delays)"


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e307])
def test_the_unit_of_a_table_does_not_matter(scale: float) -> None:
    numbers = [scale * step for step in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16)]
    change = read_change({"jitter": f"{{std: 5 ms, distribution: {numbers}}}"})
    table = change.forward.jitter_table
    assert table is not None
    # From 1 to 9 in eight steps, then to 16 in one: mean (8 * 5 + 12.5) / 9 = 35 / 6, and mean square
    # (8 * (5**2 + 8**2 / 12) + 12.5**2 + 7**2 / 12) / 9.
    mean, square = 35 / 6, (8 * (25 + 64 / 12) + 12.5**2 + 49 / 12) / 9
    expected = [(step - mean) / math.sqrt(square - mean**2) for step in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16)]
    assert table == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "number", [2**1024 - 1, 10**309, -(10**5000), math.inf], ids=["2^1024", "309", "5000", "inf"]
)
def test_a_table_with_a_number_that_no_float_holds_is_refused(number: float) -> None:
    jitter = {"std": "5 ms", "distribution": [*range(20), number]}
    with pytest.raises(TopologyInvalid, match="has a number that is not finite") as caught:
        read_values({"jitter": jitter}, "ctx.link")
    assert [problem.id for problem in caught.value.problems] == ["topology.jitter-table"]


@pytest.mark.parametrize(
    "values",
    [
        {"jitter": 10**5000},
        {"loss": -(10**5000)},
        {"mtu": 10**5000},
        {"scheduler": {"type": "drr", "by": "dst_port", "weights": {1: 10**5000}}},
        {"scheduler": {"type": "drr", "by": "dst_port", "weights": {10**5000: 1}}},
    ],
    ids=["jitter", "loss", "mtu", "weight", "class"],
)
def test_a_number_of_thousands_of_digits_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(TopologyInvalid, match=r"inf|large|many"):
        read_values(values, "ctx.link")


def _loads(text: str) -> Topology:
    return topology.loads(text)


def interpolated(table: tuple[float, ...], p: float) -> float:
    """Return what a node draws for a probability: it interpolates linearly between the quantiles."""
    below, part = divmod(p * (len(table) - 1), 1)
    return table[int(below)] + (table[int(below) + 1] - table[int(below)]) * part
