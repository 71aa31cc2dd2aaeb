"""The plots that a scenario asks for: their keys, and what is checked before a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from orchestrator.errors import nearest_hint, quoted
from orchestrator.fields import Choice, Field, Table, Text
from orchestrator.source import Problems, Value
from orchestrator.topology.kinds import Placed

__all__ = ["KINDS", "METRICS", "PLOT", "Metric", "Plot", "file_name", "metric_of", "read_plots"]

KINDS = ("line", "bar", "ecdf", "box")


class Metric(NamedTuple):
    """What a metric of a series is called in a plot, and its unit; empty for a count."""

    label: str
    unit: str = ""


_TRAFFIC = {
    "packets": Metric("packets"),
    "bytes": Metric("bytes", "B"),
    "throughput": Metric("throughput", "bit/s"),
}
METRICS: Mapping[str, Mapping[str, Metric]] = {
    "link": {
        **_TRAFFIC,
        "queue_packets": Metric("packets in the queue"),
        "queue_bytes": Metric("queue", "B"),
        "delay": Metric("mean delay", "s"),
    },
    "node": {
        "packets_out": Metric("packets sent"),
        "packets_in": Metric("packets received"),
        "bytes_out": Metric("bytes sent", "B"),
        "bytes_in": Metric("bytes received", "B"),
        "cpu_share": Metric("share of a processor"),
    },
    "flow": _TRAFFIC,
    "host": {
        "cpu_share": Metric("share of the machine, nodes"),
        "machine_cpu_share": Metric("share of the machine, all programs"),
        "memory_used": Metric("memory in use", "B"),
        "overload_drops": Metric("packets dropped by overload"),
    },
}
"""The metrics of each kind of object; links and nodes also have `drops.CAUSE`, and `drops.*`, their sum."""

_DROPS = re.compile(r"drops\.([a-z_]+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot: of columns of rows, or of a metric of the time series.

    Attributes:
        name: Its title; its files are named after it.
        kind: One of `KINDS`.
        rows: The role whose rows are drawn; None for all.
        x: The column along the horizontal axis; empty for a distribution.
        y: The column that is drawn; empty for a series.
        by: The column that tells curves apart.
        series: The kind of object of a series; empty for rows.
        metric: Its metric.
        object: Which objects, with `*` and `?`.
    """

    name: str
    kind: str = "line"
    rows: str | None = None
    x: str = ""
    y: str = ""
    by: str = "node"
    series: str = ""
    metric: str = ""
    object: str = "*"

    def as_json(self) -> dict[str, Any]:
        """The plot as `run.json` keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plot:
        """Read what `as_json` returned; unknown keys are left out."""
        known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
        return cls(**known)


PLOT = Placed(
    "plot",
    {
        "name": Field(Text(), "its title; its files are named after it", required=True),
        "kind": Field(Choice(*KINDS), "how it is drawn", default="line"),
        "rows": Field(Text(), "the role whose rows are drawn; all rows without it"),
        "x": Field(Text(), "the column of the horizontal axis; `node` for bars and boxes unless given"),
        "y": Field(Text(), "the column that is drawn"),
        "by": Field(Text(), "the column that tells curves apart", default="node"),
        "series": Field(
            Table(
                "series",
                {
                    "kind": Field(Choice(*METRICS), "of what", required=True),
                    "metric": Field(Text(), "what was measured, such as `throughput`", required=True),
                    "object": Field(
                        Text(), "which ones, such as `1->2`, with `*` and `?`; all without it", default="*"
                    ),
                },
            ),
            "a metric of the time series, instead of rows",
        ),
    },
)


def read_plots(
    entries: Sequence[Mapping[str, Any]], roles: Mapping[str, Any], problems: Problems
) -> tuple[Plot, ...]:
    """Return the plots of a scenario and note every problem."""
    plots: list[Plot] = []
    names: dict[str, str] = {}
    for entry in entries:
        value: Value = entry["@"]
        plot = _plot(entry, value, roles, problems)
        if plot is None:
            continue
        file = file_name(plot.name)
        if not file or file in names:
            clash = f"be named like those of `{names[file]}`" if file else "have no name"
            problems.add(
                f"the files of the plot `{plot.name}` would {clash}",
                "plot-name",
                value.place_of("name"),
                found=plot.name,
                expected="a name of words or numbers that no other plot has",
            )
            continue
        names[file] = plot.name
        plots.append(plot)
    return tuple(plots)


def file_name(name: str) -> str:
    """Return the name of a plot's files, without their ending."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]


def metric_of(kind: str, name: str) -> Metric | None:
    """Return a metric; None if there is none of that name."""
    if kind in ("link", "node") and _DROPS.fullmatch(name):
        cause = name.removeprefix("drops.")
        return Metric("packets dropped" if cause == "*" else f"packets dropped, {cause}")
    return METRICS.get(kind, {}).get(name)


def _plot(
    entry: Mapping[str, Any], value: Value, roles: Mapping[str, Any], problems: Problems
) -> Plot | None:
    if "name" not in entry or ("kind" not in entry and value.get("kind") is not None):
        return None  # said already
    if "series" in entry:
        return _of_series(entry, value, problems)
    rows, kind = entry.get("rows"), entry.get("kind", "line")
    if rows is not None and rows not in roles:
        problems.add(
            f"the plot draws rows of `{rows}`, but no role is called that",
            "unknown-role",
            value.place_of("rows"),
            found=rows,
            expected=quoted(roles) or None,
            hint=nearest_hint(rows, roles, otherwise=f"roles are {quoted(roles)}"),
        )
        return None
    needed = ("x", "y") if kind == "line" else ("y",)
    if missing := [key for key in needed if key not in entry]:
        problems.add(
            f"the plot `{entry['name']}` lacks {quoted(missing)}",
            "plot-columns",
            value.place,
            expected="a column of the rows for each axis, or `series`",
            hint="for example `{name: speed, rows: worker, x: round, y: mb_per_s}`",
        )
        return None
    x = entry.get("x", "") if kind in ("line", "ecdf") else entry.get("x", "node")
    return Plot(name=entry["name"], kind=kind, rows=rows, x=x, y=entry["y"], by=entry.get("by", "node"))


def _of_series(entry: Mapping[str, Any], value: Value, problems: Problems) -> Plot | None:
    chosen = entry["series"]
    both = [key for key in ("rows", "x", "y", "by") if value.get(key) is not None]
    if both:
        problems.add(
            f"the plot `{entry['name']}` has `series` and {quoted(both)}",
            "plot-columns",
            value.place_of(both[0]),
            expected="`series`, or `rows` with columns",
            hint="a series is drawn over time; rows have columns",
        )
        return None
    kind, metric = chosen.get("kind"), chosen.get("metric")
    if kind is None or metric is None:
        return None  # said already
    if metric_of(kind, metric) is None:
        known = [*METRICS[kind], *(["drops.CAUSE"] if kind in ("link", "node") else [])]
        series = value.get("series")
        problems.add(
            f"there is no metric `{metric}` of a {kind}",
            "plot-metric",
            series.place_of("metric") if series is not None else value.place,
            found=metric,
            expected=quoted(known),
            hint=nearest_hint(metric, known, otherwise=f"metrics are {quoted(known)}"),
        )
        return None
    return Plot(
        name=entry["name"],
        kind=entry.get("kind", "line"),
        series=kind,
        metric=metric,
        object=chosen.get("object", "*"),
    )
