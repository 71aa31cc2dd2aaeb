"""Test the plots that a scenario asks for; what is refused is in tests/golden/bad_scenarios/bad_plots."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import scenario, topology
from orchestrator.scenario.plots import METRICS, Plot, file_name, metric_of

RING = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}")


def test_plots_are_read_with_what_they_leave_out(tmp_path: Path) -> None:
    (tmp_path / "roles.py").write_text("def worker(ctx): ...\n")
    (tmp_path / "scenario.yaml").write_text(
        "roles: {worker: {nodes: all}}\n"
        "plots:\n"
        "  - {name: Speed over rounds, rows: worker, x: round, y: mb_per_s}\n"
        "  - {name: spread, kind: box, y: seconds, x: state}\n"
        "  - {name: distribution, kind: ecdf, y: seconds, by: round}\n"
        "  - {name: queue, series: {kind: link, metric: queue_bytes, object: 1->*}}\n"
        "  - {name: lost, kind: bar, series: {kind: link, metric: drops.*}}\n"
    )
    plan = scenario.load(tmp_path).resolve(RING)
    assert plan.plots == (
        Plot(name="Speed over rounds", rows="worker", x="round", y="mb_per_s"),
        Plot(name="spread", kind="box", x="state", y="seconds"),
        Plot(name="distribution", kind="ecdf", y="seconds", by="round"),
        Plot(name="queue", series="link", metric="queue_bytes", object="1->*"),
        Plot(name="lost", kind="bar", series="link", metric="drops.*"),
    )
    assert [Plot.from_json({**plot.as_json(), "later": 1}) for plot in plan.plots] == list(plan.plots)


def test_every_metric_has_a_label() -> None:
    assert all(metric_of(kind, name) for kind, metrics in METRICS.items() for name in metrics)
    assert metric_of("link", "drops.queue_full") and metric_of("node", "drops.*")
    assert metric_of("flow", "drops.loss") is None and metric_of("link", "drops.") is None


@pytest.mark.parametrize(
    ("name", "file"), [("A b/c", "a-b-c"), ("../x", "x"), ("…", ""), ("a" * 200, "a" * 80)]
)
def test_a_plots_files_are_named_after_it(name: str, file: str) -> None:
    assert file_name(name) == file
