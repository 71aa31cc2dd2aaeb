"""Test the benchmark of metrics: what its fake nodes report, and how results are computed from rounds."""

from __future__ import annotations

import pytest

from benchmarks.figures import Sample
from benchmarks.metrics.__main__ import controller_results, load_result, parse, throughput_result
from benchmarks.metrics.controller import Round, report
from benchmarks.metrics.throughput import Load, Pair
from orchestrator.controller.metric_state import NodeState


def test_a_fake_node_reports_two_links_and_a_flow_that_carry_more_each_second() -> None:
    state = NodeState(1_000)
    state.begin(7)
    for second in (1, 2):
        found = report(1_000, 1_000, second, 1_700_000_000_000)
        state.take(found, 0.0)
        assert found.app_flows is not None
        state.take_flows(1_000, found.time_ms, found.app_flows)
    seen = state.metrics(0.0)
    assert [(link.remote_node_id, link.tx_bps) for link in seen.links] == [(1, 12e6), (999, 12e6)]
    (flow,) = seen.app_flows
    assert (flow.name, flow.dst_node_id) == ("tcp 10.0.3.232:40000 > 10.0.1.244:5201", 500)
    assert len(found.flow_ids or b"") == 32 and len(found.flows or ()) == 4


def test_results_are_medians_and_the_idle_controller_does_not_count() -> None:
    rounds = [Round(0.001, 0.001 + cores, 4e5, 5_000, 0.0) for cores in (0.03, 0.09, 0.04)]
    cpu, rows = controller_results(rounds)
    assert cpu.value == pytest.approx(4) and cpu.ok
    assert rows.value == pytest.approx(0.4) and "15,000 reports" in rows.detail


def test_throughput_is_compared_within_each_round() -> None:
    pairs = [
        Pair(Sample(off, cpu_seconds_per_gigabit=1.0), Sample(off * ratio, cpu_seconds_per_gigabit=1.01))
        for off, ratio in ((10, 0.97), (20, 1.0), (5, 0.99))
    ]
    found = throughput_result(pairs)
    assert found.value == pytest.approx(0.99) and found.ok
    assert "CPU time per gigabit 1.010" in found.detail
    assert not throughput_result(pairs[:1]).ok


def test_what_metrics_add_is_the_difference_of_both_labs() -> None:
    found = load_result(Load(0.010, 0.025))
    assert found.value == pytest.approx(1.5) and found.ok
    assert not load_result(Load(0.010, 0.031)).ok


def test_a_part_alone_is_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "controller", "--publish"])
    assert "cannot be published" in capsys.readouterr().err
