"""Test what is drawn of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.results.charts import MOST_CURVES, Chart, charts
from orchestrator.results.reading import RunFolder
from orchestrator.results.samples import Point
from orchestrator.scenario.plots import Plot
from tests.results.runs import make_run


def drawn(path: Path) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts(RunFolder(path))[0]}


def link(name: str, metric: str, value: float) -> Point:
    return Point("link", name, metric, value)


def test_links_are_drawn_over_time_with_the_busiest_in_colour(tmp_path: Path) -> None:
    names = [f"{n}->{n + 1}" for n in range(1, 12)]
    series = [
        (t, [link(each, "throughput", 1e6 * number) for number, each in enumerate(names)]) for t in (1, 2)
    ]
    chart = drawn(make_run(tmp_path, series=series))["throughput of links"]
    assert (chart.kind, chart.x_label, chart.y_label) == ("line", "time, s", "throughput, Mbit/s")
    assert [curve.label for curve in chart.curves] == names[::-1][:MOST_CURVES]
    assert chart.curves[0].xs == [1.0, 2.0] and chart.curves[0].ys == [10.0, 10.0]
    assert len(chart.others) == 3 and "grey: 3 more" in chart.note


def test_changes_of_the_timeline_are_marked(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, series=[(1.0, [link("1->2", "throughput", 5)])], events=[("timeline", {"do": "set"})]
    )
    assert len(drawn(run)["throughput of links"].marks) == 1


def test_drops_are_summed_by_link_and_cause(tmp_path: Path) -> None:
    moment = [
        link("1->2", "drops.loss", 3),
        link("2->1", "drops.loss", 0),
        link("1->2", "drops.queue_full", 1),
    ]
    chart = drawn(make_run(tmp_path, series=[(1.0, moment), (2.0, moment)]))["packets dropped on links"]
    assert {curve.label: list(curve.ys) for curve in chart.curves} == {"loss": [6.0], "queue_full": [2.0]}
    assert chart.curves[0].xs == ["1->2"]


def test_a_run_without_drops_or_rows_has_no_charts_of_them(tmp_path: Path) -> None:
    assert list(drawn(make_run(tmp_path, series=[(1.0, [link("1->2", "throughput", 5)])]))) == [
        "throughput of links"
    ]


def test_numbers_of_a_role_are_drawn_by_node_and_equal_ones_are_not(tmp_path: Path) -> None:
    rows = [{"node": n, "role": "worker", "seconds": n / 2, "bytes": 5, "ok": True} for n in (2, 10)]
    found = drawn(make_run(tmp_path, rows=rows))
    assert list(found) == ["worker: seconds"]
    chart = found["worker: seconds"]
    assert (chart.kind, chart.x_label, chart.y_label) == ("bar", "node", "seconds, s")
    assert (chart.curves[0].xs, chart.curves[0].ys) == (["2", "10"], [1.0, 5.0])


def test_entries_of_generated_traffic_have_charts_of_their_own(tmp_path: Path) -> None:
    flow = {"node": 1, "role": "traffic", "src": 1}
    rows = [
        {**flow, "dst": number % 2, "entry": entry, "seconds": seconds * number}
        for entry, seconds in (("web", 0.1), ("bulk", 9.0))
        for number in (1, 2, 3)
    ]
    found, _ = charts(RunFolder(make_run(tmp_path, rows=rows)))
    assert [each.name for each in found] == ["traffic.web: seconds", "traffic.bulk: seconds"]


def test_several_rows_of_a_node_are_a_box_and_times_are_an_axis(tmp_path: Path) -> None:
    rows = [
        *({"node": 1, "role": "sink", "mb_per_s": n} for n in (3, 4, 5)),
        *({"node": 2, "role": "probe", "t": n / 4, "rtt_ms_min": n} for n in (3, 1, 2)),
    ]
    found = drawn(make_run(tmp_path, rows=rows))
    assert found["sink: mb_per_s"].kind == "box" and found["sink: mb_per_s"].curves[0].ys == [3.0, 4.0, 5.0]
    line = found["probe: rtt_ms_min"]
    assert (line.kind, line.x_label, line.y_label) == ("line", "t, s", "rtt_ms_min, ms")
    assert line.curves[0].xs == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("plot", "labels"),
    [
        (Plot(name="p", kind="ecdf", y="seconds", rows="worker"), ["node 1", "node 2"]),
        (Plot(name="p", kind="line", x="round", y="seconds", by="state"), ["state late", "state ok"]),
        (Plot(name="p", kind="bar", x="state", y="seconds"), [""]),
        (Plot(name="p", kind="box", x="state", y="seconds"), ["late", "ok"]),
        (Plot(name="p", series="link", metric="queue_bytes", object="1->*"), ["1->2"]),
        (Plot(name="p", kind="ecdf", series="link", metric="queue_bytes"), ["1->2", "2->1"]),
        (Plot(name="p", kind="box", series="link", metric="queue_bytes"), ["1->2", "2->1"]),
        (Plot(name="p", kind="bar", series="link", metric="queue_bytes"), ["queue_bytes"]),
    ],
)
def test_a_scenario_may_ask_for_plots(tmp_path: Path, plot: Plot, labels: list[str]) -> None:
    rows = [
        {"node": n, "role": "worker", "round": r, "seconds": n + r, "state": "ok" if r > 1 else "late"}
        for n in (1, 2)
        for r in (1, 2, 3)
    ]
    series = [(t, [link("1->2", "queue_bytes", 9), link("2->1", "queue_bytes", 5)]) for t in (1.0, 2.0)]
    chart = charts(RunFolder(make_run(tmp_path, rows=rows, series=series, plots=[plot.as_json()])))[0][0]
    assert (chart.name, chart.kind, [curve.label for curve in chart.curves]) == ("p", plot.kind, labels)


def test_a_plot_of_what_the_run_did_not_report_is_missing_with_a_reason(tmp_path: Path) -> None:
    plots = [
        Plot(name="a", kind="box", y="speed").as_json(),
        Plot(name="b", x="t", y="seconds").as_json(),
        Plot(name="c", series="node", metric="cpu_share").as_json(),
    ]
    run = make_run(tmp_path, rows=[{"node": 1, "role": "worker", "seconds": 1}], plots=plots)
    found, missing = charts(RunFolder(run))
    assert found == [] and missing == [
        "plot `a`: no row has a number in `speed`",
        "plot `b`: no row has a number in `t`",
        "plot `c`: there is no cpu_share of a node *",
    ]
