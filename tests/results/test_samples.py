"""Test what two samples of nodes say about the time between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.protocol.messages import FlowSample, LinkSample, NodeSample
from orchestrator.results.samples import MOST_FLOWS, Point, points

OLD = NodeSample(
    1_000,
    7,
    cpu_ms=500,
    shard=0,
    overload_drops=3,
    packets_out=10,
    links=(LinkSample(2, 100, 100_000, delay_sum_us=1e6, drops={"loss": 4}),),
    flows=(FlowSample("tcp a > b", 10, 1_000),),
)
NOW = NodeSample(
    3_000,
    7,
    cpu_ms=900,
    shard=0,
    overload_drops=5,
    packets_out=30,
    links=(
        LinkSample(2, 300, 350_000, 4, 6_000, 3e6, {"loss": 10, "queue_full": 2}),
        LinkSample(3, 8, 8_000),
    ),
    flows=(FlowSample("tcp a > b", 30, 3_500), FlowSample("udp a > b", 2, 80)),
)


def values(kind: str, name: str, found: list[Point]) -> dict[str, float]:
    return {each.metric: each.value for each in found if (each.kind, each.object) == (kind, name)}


def test_counts_are_those_of_the_time_in_between() -> None:
    found = points({1: OLD}, {1: NOW}, cpus=2)
    assert values("link", "1->2", found) == {
        "packets": 200,
        "bytes": 250_000,
        "throughput": 1_000_000,
        "queue_packets": 4,
        "queue_bytes": 6_000,
        "delay": 0.01,
        "drops.loss": 6,
        "drops.queue_full": 2,
    }
    assert values("link", "1->3", found)["packets"] == 8  # it had no packets before
    node = values("node", "1", found)
    assert node["packets_out"] == 20 and node["packets_in"] == 0 and node["cpu_share"] == 0.2
    assert values("flow", "tcp a > b at 1", found) == {"packets": 20, "bytes": 2_500, "throughput": 10_000}
    assert values("flow", "udp a > b at 1", found)["bytes"] == 80
    assert values("host", "host", found) == {"cpu_share": 0.1, "overload_drops": 2}


def test_a_flow_that_was_not_among_the_largest_counts_from_its_next_sample() -> None:
    largest = tuple(FlowSample(f"tcp {number}", 10, 1_000) for number in range(MOST_FLOWS))
    late, later = FlowSample("tcp late", 50, 70_000), FlowSample("tcp late", 60, 90_000)
    before, after = replace(OLD, flows=largest), replace(NOW, flows=(late, *largest[1:]))
    assert values("flow", "tcp late at 1", points({1: before}, {1: after}, cpus=2)) == {}
    last = replace(after, time_ms=5_000, flows=(later, *largest[1:]))
    assert values("flow", "tcp late at 1", points({1: after}, {1: last}, cpus=2))["bytes"] == 20_000
    again = replace(after, process=8)  # a new process has no flow that was left out
    assert values("flow", "tcp late at 1", points({1: before}, {1: again}, cpus=2))["bytes"] == 70_000


def test_the_node_puts_as_many_flows_into_a_sample() -> None:
    source = Path(__file__).parents[2] / "dataplane/driver/src/node/executor.rs"
    assert f"const FLOWS_PER_SAMPLE: usize = {MOST_FLOWS};" in source.read_text()


def test_a_node_that_was_started_again_counts_from_nothing() -> None:
    again = replace(NOW, process=8, packets_out=5, overload_drops=0, cpu_ms=10)
    found = points({1: OLD}, {1: again}, cpus=2)
    assert values("link", "1->2", found)["packets"] == 300
    node = values("node", "1", found)
    assert node["packets_out"] == 5 and "cpu_share" not in node
    assert values("host", "host", found) == {"overload_drops": 0}


def test_a_link_that_was_made_again_counts_from_nothing() -> None:
    again = replace(NOW, links=(LinkSample(2, 50, 5_000, drops={"loss": 1}),))
    found = values("link", "1->2", points({1: OLD}, {1: again}, cpus=2))
    assert (found["packets"], found["bytes"], found["drops.loss"]) == (50, 5_000, 1)


def test_nodes_of_one_process_have_no_cpu_share_and_count_overload_once() -> None:
    before, after = {1: OLD, 2: OLD}, {1: NOW, 2: NOW}
    found = points(before, after, cpus=2)
    assert "cpu_share" not in values("node", "1", found)
    assert values("host", "host", found) == {"cpu_share": 0.1, "overload_drops": 2}


def test_a_node_that_was_not_there_before_is_left_out() -> None:
    found = points({1: OLD}, {1: NOW, 2: replace(NOW, process=9)}, cpus=2)
    assert {each.object for each in found if each.kind == "node"} == {"1"}
