"""Test the comparison of measurements with what was requested."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.fidelity import Snapshot, report
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import LinkMeasurement, LinkMeasurements

SPEC = LinkSpec(rate_bps=10_000_000, delay_us=20_000, loss=0.01)

GOOD = LinkMeasurement(
    2,
    9_900,
    {"loss": 100},
    offered=10_000,
    busy_ns=10**9,
    busy_bytes=1_250_000,
    delay=((19_922_944, 9_900),),
    delay_sum_us=20_050.0 * 9_900,
    delay_squares_us=20_050.0**2 * 9_900,
    late=((49_152, 9_900),),
    late_sum_us=50.0 * 9_900,
)


EMPTY: dict[str, Any] = {
    "drops": {},
    "busy_ns": 0,
    "busy_bytes": 0,
    "delay": (),
    "delay_sum_us": 0.0,
    "delay_squares_us": 0.0,
    "late": (),
    "late_sum_us": 0.0,
}


def judged(after: LinkMeasurement, before: LinkMeasurement | None = None, spec: LinkSpec = SPEC) -> Any:
    start = snapshot(*([before] if before else []))
    return report(start, snapshot(after, time_ms=2_000, cpu_ms=600), {(1, 2): spec}, cpus=2)


def snapshot(*links: LinkMeasurement, **more: int) -> Snapshot:
    facts = {"time_ms": 1_000, "process": 7, "cpu_ms": 100, "shard": 0, "overload_drops": 5, **more}
    return Snapshot({1: LinkMeasurements(**facts, links=links)})


def test_a_link_that_does_what_was_requested_is_kept() -> None:
    found = judged(GOOD)
    [link] = found["links"]
    assert found["verdict"] == "kept" and link["ok"] is True and link["broken"] == []
    assert (link["a"], link["b"], link["direction"]) == (1, 2, "forward")
    assert link["requested"] == {"rate": 10_000_000, "delay": 0.02, "jitter": 0.0, "loss": 0.01}
    measured = link["measured"]
    assert measured["rate"] == 10_000_000 and measured["loss"] == 0.01
    assert measured["delay_mean"] == pytest.approx(0.02005) and measured["jitter"] == pytest.approx(
        0, abs=1e-6
    )
    assert measured["delay_p99"] == pytest.approx(0.02005, abs=5e-6)
    low, high = measured["loss_interval"]
    assert low == pytest.approx(0.00823, abs=1e-5) and high == pytest.approx(0.01215, abs=1e-5)
    assert found["host"] == {"cpu_share": 0.25, "overload_drops": 0, "fault_drops": 0}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"busy_bytes": 1_225_000}, "rate"),
        ({"drops": {"loss": 150}}, "loss"),
        ({"delay_sum_us": 20_300.0 * 9_900}, "delay"),
        ({"late_sum_us": 250.0 * 9_900}, "late"),
        ({"late": ((49_152, 9_700), (1_966_080, 200))}, "late"),
        ({"drops": {"loss": 100, "congested": 1}}, "overload"),
    ],
    ids=["rate", "loss", "mean delay", "mean lateness", "99th percentile", "overload"],
)
def test_what_a_link_did_not_do_is_named(change: dict[str, Any], broken: str) -> None:
    found = judged(replace(GOOD, **change))
    assert found["verdict"] == "broken" and found["links"][0]["broken"] == [broken]


def test_what_was_hardly_measured_is_not_judged() -> None:
    little = LinkMeasurement(
        2,
        9,
        offered=9,
        delay=((20_054_016, 9),),
        delay_sum_us=9 * 25_000.0,
        late=((4_980_736, 9),),
        late_sum_us=9 * 5_000.0,
    )
    found = judged(little)
    assert found["verdict"] == "not-measured" and found["links"][0]["ok"] is None
    measured = found["links"][0]["measured"]
    assert (measured["rate"], measured["loss"], measured["loss_interval"]) == (None, None, None)


def test_only_what_happened_since_the_beginning_counts() -> None:
    before = replace(GOOD, drops={"loss": 400}, late=((1_966_080, 9_900),), late_sum_us=2_000.0 * 9_900)
    after = replace(
        before,
        packets=19_800,
        drops={"loss": 500},
        offered=20_000,
        busy_ns=2 * 10**9,
        busy_bytes=2_500_000,
        delay=((19_922_944, 19_800),),
        delay_sum_us=2 * before.delay_sum_us,
        delay_squares_us=2 * before.delay_squares_us,
        late=((49_152, 9_900), (1_966_080, 9_900)),
        late_sum_us=2_050.0 * 9_900,
    )
    found = judged(after, before)
    assert found["verdict"] == "kept", found
    assert found["links"][0]["measured"]["drops"] == {"loss": 100}


def test_a_changed_link_is_judged_by_its_punctuality_alone() -> None:
    changed = replace(GOOD, changes=3, busy_bytes=9, drops={"loss": 900})
    assert judged(changed)["verdict"] == "kept"
    late = replace(changed, late_sum_us=300.0 * 9_900)
    assert judged(late)["links"][0]["broken"] == ["late"]


def test_jitter_is_judged_where_enough_delays_were_drawn() -> None:
    spec = LinkSpec(delay_us=20_000, jitter_us=2_000)
    deviation = 2_400.0  # 20 % too much
    wide = replace(
        GOOD,
        drops={},
        offered=9_900,
        delay_sum_us=20_000.0 * 9_900,
        delay_squares_us=(20_000.0**2 + deviation**2) * 9_900,
    )
    for draws, broken in [(99, []), (150, []), (9_900, ["jitter"])]:
        assert judged(replace(wide, draws=draws), spec=spec)["links"][0]["broken"] == broken, draws


def test_drops_of_an_overloaded_thread_break_the_run_once() -> None:
    two = snapshot(GOOD, overload_drops=8).nodes[1]
    after = Snapshot({1: two, 2: replace(two, links=())})
    start = replace(two, overload_drops=5, links=())
    found = report(Snapshot({1: start, 2: start}), after, {(1, 2): SPEC}, cpus=2)
    assert found["verdict"] == "broken" and found["host"]["overload_drops"] == 3
    assert found["links"][0]["ok"] is True


def test_a_link_of_a_new_process_counts_from_its_beginning() -> None:
    before = snapshot(replace(GOOD, offered=4, packets=4))
    again = {1: replace(snapshot(GOOD).nodes[1], process=8)}
    found = report(before, Snapshot(again), {(1, 2): SPEC}, cpus=2)
    assert found["links"][0]["measured"]["packets"] == 10_000
    assert found["host"]["cpu_share"] is None


def test_a_link_to_which_nothing_was_offered_has_no_loss() -> None:
    idle = LinkMeasurement(2, 0, {"link_down": 3})
    found = judged(idle, spec=LinkSpec(loss=1.0))
    assert found["verdict"] == "not-measured" and found["links"][0]["measured"]["loss"] is None


@pytest.mark.parametrize("packets", [1, 7, 100, 9_999])
def test_a_link_that_loses_everything_is_kept(packets: int) -> None:
    blocked = LinkMeasurement(2, 0, {"loss": packets}, offered=packets)
    assert judged(blocked, spec=LinkSpec(loss=1.0))["verdict"] == "kept"


SPECS = {(1, 2): SPEC, (2, 1): SPEC}


def two_nodes(first: LinkMeasurement, second: LinkMeasurement, **facts: int) -> Snapshot:
    [one] = snapshot(first, **facts).nodes.values()
    [two] = snapshot(second, **facts).nodes.values()
    return Snapshot({1: one, 2: replace(two, process=8)})


def test_a_node_that_did_not_answer_is_missing_and_nothing_is_kept() -> None:
    whole = two_nodes(GOOD, replace(GOOD, remote_node_id=1), time_ms=2_000, overload_drops=900)
    start = two_nodes(replace(GOOD, packets=0, offered=0, **EMPTY), LinkMeasurement(1, 0), overload_drops=900)
    assert report(start, whole, SPECS, cpus=2)["verdict"] == "kept"
    for before, after in [(start, whole), (whole, whole)]:
        for absent in ("before", "after"):
            old = Snapshot({1: before.nodes[1]}) if absent == "before" else before
            new = Snapshot({1: after.nodes[1]}) if absent == "after" else after
            found = report(old, new, SPECS, cpus=2)
            assert (found["verdict"], found["nodes_missing"]) == ("not-measured", [2])
            assert found["host"]["overload_drops"] == 0
            assert {each["ok"] for each in found["links"]} == {None}
            [silent] = [each for each in found["links"] if each["direction"] == "backward"]
            assert silent["measured"]["packets"] is None and silent["not_judged"] == "node missing"


def test_a_node_that_never_answered_is_missing() -> None:
    found = report(snapshot(), snapshot(GOOD), {(1, 2): SPEC}, cpus=2, expected=[1, 3])
    assert (found["verdict"], found["nodes_missing"]) == ("not-measured", [3])
    late = replace(GOOD, late_sum_us=300.0 * 9_900)
    assert report(snapshot(), snapshot(late), {(1, 2): SPEC}, cpus=2, expected=[1, 3])["verdict"] == "broken"


@pytest.mark.parametrize(
    "fallen",
    [
        {"packets": 20_000},
        {"changes": 2},
        {"draws": 1},
        {"drops": {"queue_full": 1}},
        {"busy_bytes": 9_999_999},
        {"delay_sum_us": 1e12},
        {"late": ((65_536, 3),)},
        {"delay": ((19_922_944, 9_901),)},
    ],
)
def test_any_counter_that_fell_began_anew_and_its_link_changed(fallen: dict[str, Any]) -> None:
    before = LinkMeasurement(**{"remote_node_id": 2, "packets": 5, **fallen})
    wrong_rate = replace(GOOD, busy_bytes=625_000)
    [link] = judged(wrong_rate, before)["links"]
    assert link["measured"]["packets"] == 10_000 and link["measured"]["drops"] == {"loss": 100}
    assert link["changes"] == 1 and link["ok"] is True


def test_dropped_packets_count_since_the_beginning_of_a_new_process() -> None:
    nodes = snapshot(overload_drops=3).nodes
    again = Snapshot({1: replace(nodes[1], process=9)})
    assert report(Snapshot(nodes), again, {}, cpus=2)["host"]["overload_drops"] == 3
    fell = Snapshot({1: replace(nodes[1], overload_drops=2)})
    assert report(Snapshot(nodes), fell, {}, cpus=2)["host"]["overload_drops"] == 2


def chain(link: LinkMeasurement, **drops: int) -> Snapshot:
    """Nodes 1 to 4 in a line, each in a process of its own; node 2 has sent to node 1, node 4 to node 3."""
    found = {}
    for node, to in [(1, None), (2, 1), (3, None), (4, 3)]:
        links = () if to is None else (replace(link, remote_node_id=to),)
        [one] = snapshot(*links, overload_drops=drops.get(f"node_{node}", 0)).nodes.values()
        found[node] = replace(one, process=node)
    return Snapshot(found)


CHAIN = {(a, b): SPEC for a in range(1, 5) for b in (a - 1, a + 1) if 1 <= b <= 4}


def test_links_of_a_node_that_the_run_paused_are_not_judged() -> None:
    start = chain(LinkMeasurement(0, 0))
    bad = replace(GOOD, late_sum_us=3e5 * 9_900, busy_bytes=9, drops={"loss": 100, "congested": 7})
    end = chain(bad, node_1=2, node_2=3)
    assert report(start, end, CHAIN, cpus=2)["links"][0]["broken"] == ["late", "overload", "rate"]
    found = report(start, end, CHAIN, cpus=2, faulted={1})
    assert [(each["a"], each["not_judged"], each["ok"]) for each in found["links"]] == [
        (3, None, False),
        (1, "node fault", None),
    ]
    assert (found["host"]["overload_drops"], found["host"]["fault_drops"]) == (7, 12)


def test_drops_before_a_paused_node_do_not_break_the_run() -> None:
    start, drops = chain(LinkMeasurement(0, 0)), {"node_2": 5}
    found = report(start, chain(GOOD, **drops), CHAIN, cpus=2, faulted={1})
    assert found["verdict"] == "kept" and found["host"]["fault_drops"] == 5
    elsewhere = report(start, chain(GOOD, node_3=1, **drops), CHAIN, cpus=2, faulted={1})
    assert elsewhere["verdict"] == "broken" and elsewhere["host"]["overload_drops"] == 1
    assert report(start, chain(GOOD), CHAIN, cpus=2, faulted={1, 4})["verdict"] == "not-measured"


def with_jitter(packets: list[float], draws: int) -> LinkMeasurement:
    n, squares = len(packets), sum(delay * delay for delay in packets)
    facts = {"offered": n, "draws": draws, "delay": ((19_922_944, n),), "late": ((49_152, n),)}
    return LinkMeasurement(2, n, **facts, delay_sum_us=sum(packets), delay_squares_us=squares)


def test_jitter_of_bursts_is_not_judged_by_chance() -> None:
    """Bursts of up to 400 packets that share a delay, and single packets, all as requested."""
    spec, generator = LinkSpec(delay_us=20_000, jitter_us=2_000), random.Random(7)
    for per_draw in ([1], [1, 2, 3], [1] * 9 + [400], [1, 1, 1, 2, 4]):
        for _ in range(100):
            packets: list[float] = []
            for _ in range(300):
                packets += [generator.gauss(20_000, 2_000)] * generator.choice(per_draw)
            [link] = judged(with_jitter(packets, 300), spec=spec)["links"]
            assert link["broken"] == [], per_draw
    several = with_jitter([20_000 + 5_000 * (-1) ** n for n in range(1_000)], 300)
    assert judged(several, spec=spec)["links"][0]["broken"] == []
    assert judged(replace(several, draws=900), spec=spec)["links"][0]["broken"] == ["jitter"]


def test_the_jitter_of_a_table_is_judged_by_its_own_kurtosis() -> None:
    """Two values have the kurtosis 1: the deviation is known without an error."""
    packets = [20_000 + 2_260.0 * (-1) ** n for n in range(400)]  # 13 % too much
    quantiles = (-1.134, -1.134, 1.134, 1.134)
    table = LinkSpec(delay_us=20_000, jitter_us=2_000, jitter_distribution="table", jitter_table=quantiles)
    assert judged(with_jitter(packets, 400), spec=table)["links"][0]["broken"] == ["jitter"]
    pareto = LinkSpec(delay_us=20_000, jitter_us=2_000, jitter_distribution="pareto")
    assert judged(with_jitter(packets, 400), spec=pareto)["links"][0]["broken"] == []
