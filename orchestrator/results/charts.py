"""What is drawn of a run: the usual charts and those of its scenario, as curves and bars. No drawing here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.results.reading import RunFolder
from orchestrator.results.series import matching
from orchestrator.results.statistics import NO_MEASUREMENT, OF_TRAFFIC, group_of
from orchestrator.scenario.plots import Plot, file_name, metric_of
from orchestrator.traffic import ROLE

__all__ = ["Chart", "Curve", "charts"]

MOST_CURVES = 8
"""Curves with a colour of their own; the others are grey."""

MOST_COLUMNS = 3
"""Columns of one role that have a chart unless the scenario says otherwise."""

MOST_BARS = 40
"""Bars beside each other; a chart with more shows the largest."""

MOST_MARKS = 40

_TIMES = ("t", "time_s", "time")
"""Columns that are times within a run, so that others are drawn over them."""

_UNITS = (
    ("mbit_per_s", "Mbit/s"),
    ("mb_per_s", "MB/s"),
    ("_per_s", "1/s"),
    ("seconds", "s"),
    ("_ms", "ms"),
    ("_us", "µs"),
    ("_s", "s"),
    ("bytes", "B"),
    ("_ms_min", "ms"),
    ("_ms_median", "ms"),
    ("_ms_mean", "ms"),
    ("_ms_max", "ms"),
)
"""Units by the end of a column's name; the first that fits."""

_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True)
class Curve:
    """Points of one curve, one group of bars, or one sample of values.

    Attributes:
        label: What it is called in the legend.
        xs: Where the points are; texts for bars and boxes, empty for distributions.
        ys: Their values.
    """

    label: str
    xs: Sequence[Any]
    ys: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: Its title.
        kind: `line`, `bar`, `ecdf` or `box`.
        x_label: What is on the horizontal axis, with its unit.
        y_label: The same of the vertical one.
        curves: Curves with colours.
        others: Curves in grey, because there are too many.
        marks: Times at which the timeline changed something.
        note: A sentence below it.
    """

    name: str
    kind: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    others: tuple[Curve, ...] = ()
    marks: tuple[float, ...] = ()
    note: str = ""

    @property
    def file(self) -> str:
        """The name of its files, without their ending."""
        return file_name(self.name)


@dataclass
class _Found:
    """Charts so far, and why others are missing."""

    charts: list[Chart] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, chart: Chart | str) -> None:
        if isinstance(chart, str):
            self.missing.append(chart)
        elif chart.file not in {each.file for each in self.charts}:
            self.charts.append(chart)


def charts(run: RunFolder) -> tuple[list[Chart], list[str]]:
    """Return the charts of a run, its scenario's first, and why others that it asks for are missing."""
    found = _Found()
    for raw in run.document.get("plots") or ():
        plot = Plot.from_json(raw)
        found.add(_of_series(run, plot) if plot.series else _of_rows(run.rows, plot))
    for plot in (
        Plot(name="throughput of links", series="link", metric="throughput"),
        Plot(name="packets dropped on links", kind="bar", series="link", metric="drops.*"),
    ):
        chart = _of_series(run, plot)
        if isinstance(chart, Chart):
            found.add(chart)
    for chart in _usual_rows(run.rows):
        found.add(chart)
    return found.charts, found.missing


def _of_series(run: RunFolder, plot: Plot) -> Chart | str:
    points = _series_points(run, plot)
    if not points:
        return f"plot `{plot.name}`: there is no {plot.metric} of a {plot.series} {plot.object}"
    metric = metric_of(plot.series, plot.metric)
    label, unit = metric if metric is not None else (plot.metric, "")
    ordered = sorted(points.items(), key=lambda item: (-sum(item[1][1]), item[0]))
    if plot.kind == "bar":
        return _series_bars(run, plot, label, unit)
    factor, unit = _scale(unit, max(max(ys, default=0) for _, (_, ys) in ordered))
    curves = [Curve(name, xs, [y / factor for y in ys]) for name, (xs, ys) in ordered]
    y_label = f"{label}, {unit}" if unit else label
    if plot.kind == "line":
        marks = _marks(run)
        note = "dotted: the timeline changed a link or a node" if marks else ""
        return _limited(Chart(plot.name, "line", "time, s", y_label, tuple(curves), marks=marks, note=note))
    if plot.kind == "ecdf":
        return _limited(Chart(plot.name, "ecdf", y_label, "share of seconds", tuple(curves)))
    boxes = tuple(curves[:MOST_BARS])
    return Chart(plot.name, "box", plot.series, y_label, boxes, note=_left_out(len(curves), "largest"))


def _chosen(run: RunFolder, plot: Plot) -> Iterable[tuple[float, str, str, float]]:
    """Time, object, metric and value of the points that a plot is about."""
    if run.series is None:
        return ()
    found = matching(run.series, kind=plot.series, metric=plot.metric, object=plot.object)
    columns = found.to_pydict()
    return zip(*(columns[each] for each in ("time_s", "object", "metric", "value")), strict=True)


def _series_points(run: RunFolder, plot: Plot) -> dict[str, tuple[list[float], list[float]]]:
    """Times and values by object; of several metrics, their sums."""
    found: dict[str, dict[float, float]] = {}
    for time, name, _, value in _chosen(run, plot):
        moments = found.setdefault(name, {})
        moments[time] = moments.get(time, 0.0) + value
    return {name: (list(moments), list(moments.values())) for name, moments in found.items()}


def _series_bars(run: RunFolder, plot: Plot, label: str, unit: str) -> Chart | str:
    """Bars of every object: sums of drops by cause, means of anything else."""
    values: dict[str, dict[str, list[float]]] = {}
    for _, name, metric, value in _chosen(run, plot):
        values.setdefault(metric, {}).setdefault(name, []).append(value)
    sums = plot.metric.startswith("drops.")
    by_metric = {
        metric: {name: sum(each) if sums else sum(each) / len(each) for name, each in objects.items()}
        for metric, objects in values.items()
    }
    names = {name for objects in by_metric.values() for name in objects}
    total = {name: sum(objects.get(name, 0.0) for objects in by_metric.values()) for name in names}
    kept = sorted((name for name in names if total[name]), key=lambda name: (-total[name], name))
    if not kept:
        return f"plot `{plot.name}`: every value is 0"
    factor, unit = _scale(unit, max(total.values()))
    shown = kept[:MOST_BARS]
    curves = tuple(
        Curve(metric.removeprefix("drops."), shown, [objects.get(name, 0.0) / factor for name in shown])
        for metric, objects in sorted(by_metric.items())
        if any(objects.get(name) for name in shown)
    )
    y_label = label if not unit else f"{label}, {unit}"
    return Chart(plot.name, "bar", plot.series, y_label, curves, note=_left_out(len(kept), "largest"))


def _of_rows(rows: Iterable[Mapping[str, Any]], plot: Plot) -> Chart | str:
    chosen = [row for row in rows if plot.rows in (None, row.get("role"))]
    usable = [row for row in chosen if _is_number(row.get(plot.y))]
    if not usable:
        return f"plot `{plot.name}`: no row has a number in `{plot.y}`"
    if plot.kind == "line":
        usable = [row for row in usable if _is_number(row.get(plot.x))]
        if not usable:
            return f"plot `{plot.name}`: no row has a number in `{plot.x}`"
    groups: dict[str, list[Mapping[str, Any]]] = {}
    key = plot.x if plot.kind == "box" else plot.by
    for row in sorted(usable, key=lambda row: _order(row.get(key))):
        groups.setdefault(f"{key} {_short(row.get(key))}", []).append(row)
    if plot.kind == "bar":
        return _row_bars(usable, plot)
    curves = []
    for label, members in groups.items():
        if plot.kind == "line":
            members = sorted(members, key=lambda row: float(row[plot.x]))
        xs = [row[plot.x] for row in members] if plot.kind == "line" else []
        curves.append(Curve(label, xs, [float(row[plot.y]) for row in members]))
    if plot.kind == "box":
        boxes = tuple(Curve(each.label.split(" ", 1)[1], [], each.ys) for each in curves[:MOST_BARS])
        note = _left_out(len(curves), "first")
        return Chart(plot.name, "box", plot.x, _titled(plot.y), boxes, note=note)
    if plot.kind == "ecdf":
        return _limited(Chart(plot.name, "ecdf", _titled(plot.y), "share of rows", tuple(curves)))
    return _limited(Chart(plot.name, "line", _titled(plot.x), _titled(plot.y), tuple(curves)))


def _row_bars(rows: Sequence[Mapping[str, Any]], plot: Plot) -> Chart:
    """The mean of the rows of each place on the horizontal axis, one group of bars for each curve."""
    split = plot.by != plot.x and plot.by != "node"
    places = sorted({_short(row.get(plot.x)) for row in rows}, key=_order)
    shown = places[:MOST_BARS]
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        label = f"{plot.by} {_short(row.get(plot.by))}" if split else ""
        values.setdefault(label, {}).setdefault(_short(row.get(plot.x)), []).append(float(row[plot.y]))
    curves = tuple(
        Curve(label, shown, [sum(by.get(place, [0.0])) / max(1, len(by.get(place, []))) for place in shown])
        for label, by in sorted(values.items())
    )
    note = _left_out(len(places), "first")
    return Chart(plot.name, "bar", plot.x, _titled(plot.y), curves[:MOST_CURVES], note=note)


def _usual_rows(rows: Sequence[Mapping[str, Any]]) -> Iterable[Chart]:
    """Numbers that differ between rows: over time where a role says so, else by node."""
    for group in dict.fromkeys(group_of(row) for row in rows):
        mine = [row for row in rows if group_of(row) == group]
        role = str(mine[0].get("role", ""))
        left_out = NO_MEASUREMENT | OF_TRAFFIC if role == ROLE else NO_MEASUREMENT
        columns = dict.fromkeys(key for row in mine for key in row)
        time = next((each for each in _TIMES if each in columns), "")
        drawn = 0
        for column in columns:
            values = {row[column] for row in mine if _is_number(row.get(column))}
            if column in left_out or column == time or len(values) < 2 or drawn == MOST_COLUMNS:
                continue
            nodes = [row.get("node") for row in mine if _is_number(row.get(column))]
            kind = "line" if time else "bar" if len(set(nodes)) == len(nodes) else "box"
            name = f"{group}: {column}"
            chart = _of_rows(mine, Plot(name=name, kind=kind, rows=role, x=time or "node", y=column))
            if isinstance(chart, Chart):
                drawn += 1
                yield chart


def _marks(run: RunFolder) -> tuple[float, ...]:
    """Seconds from the start of the run at which the timeline changed something."""
    try:
        start = datetime.fromisoformat(str(run.document.get("started")))
        times = [
            (datetime.fromisoformat(event["time"]) - start).total_seconds()
            for event in run.events
            if event["kind"] == "timeline"
        ]
    except (ValueError, TypeError):
        return ()
    return tuple(times) if len(times) <= MOST_MARKS else ()


def _limited(chart: Chart) -> Chart:
    """Return the chart with the curves beyond the first few in grey."""
    left = chart.curves[MOST_CURVES:]
    if not left:
        return chart
    note = f"grey: {len(left)} more"
    note = f"{chart.note}; {note}" if chart.note else note
    curves, others = chart.curves[:MOST_CURVES], left
    return Chart(chart.name, chart.kind, chart.x_label, chart.y_label, curves, others, chart.marks, note)


def _left_out(count: int, which: str) -> str:
    return f"the {which} {MOST_BARS} of {count}" if count > MOST_BARS else ""


def _scale(unit: str, most: float) -> tuple[float, str]:
    """Return the factor and the unit in which a value is of a readable size."""
    if unit in ("bit/s", "B"):
        factor, prefix = next((each for each in _SCALES if most >= each[0]), _SCALES[-1])
        return factor, prefix + unit
    if unit == "s":
        return next((each for each in _SMALL if most >= each[0]), _SMALL[-1])
    return 1.0, unit


def _titled(column: str) -> str:
    """A column's name with the unit that it ends in, if it is one."""
    unit = next((unit for ending, unit in _UNITS if column.endswith(ending)), "")
    if not unit and column in _TIMES:
        unit = "s"
    return f"{column}, {unit}" if unit else column


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # no NaN


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _order(value: Any) -> tuple[float, str]:
    """Numbers in their order, before anything else."""
    text = str(value)
    number = re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text)
    return (float(text), "") if number else (float("inf"), text)
