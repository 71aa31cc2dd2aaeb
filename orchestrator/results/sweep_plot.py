"""Draw one column of a sweep: medians with their intervals, and every run as a point.

The first key is the axis, in the order in which its values were given; each combination of the others is a
colour. matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import UsageError, nearest_hint, quoted
from orchestrator.results.statistics import numeric_columns
from orchestrator.results.sweep_table import default_metric, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["choose_metric", "draw"]


def choose_metric(document: Mapping[str, Any], wanted: str | None) -> tuple[str, str] | None:
    """Return role and column of what is plotted; None if there is nothing to plot.

    Args:
        document: The sweep, as `sweep.json` has it.
        wanted: `COLUMN` or `ROLE.COLUMN`; a sensible one unless given.

    Raises:
        UsageError: No role reported such a column with numbers.
    """
    table = document.get("table", [])
    if wanted is None or not table:
        return default_metric(table)
    found = metrics(table)
    for role, column in found:
        if wanted in (column, f"{role}.{column}"):
            return role, column
    names = [f"{role}.{column}" for role, column in found]
    raise UsageError(
        f"no role reported numbers called `{wanted}`",
        id="sweep.no-column",
        found=wanted,
        expected=quoted(names),
        hint=nearest_hint(
            wanted, [*names, *(column for _, column in found)], otherwise=f"columns are {quoted(names)}"
        ),
    )


def draw(document: Mapping[str, Any], metric: tuple[str, str], folder: Path) -> list[Path]:
    """Write the plot of a column as PNG and SVG; return the files.

    Args:
        document: The sweep, as `sweep.json` has it.
        metric: Role and column.
        folder: Where to.
    """
    from matplotlib import rc_context

    # Names and values are shown as they are; a dollar sign begins no formula.
    with rc_context({"text.parse_math": False, "svg.hashsalt": "nm"}):
        figure = _figure(document, metric)
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(each if each.isalnum() or each in "-_" else "_" for each in "-".join(metric))
        files = [folder / f"{name}.png", folder / f"{name}.svg"]
        for file in files:
            figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def _figure(document: Mapping[str, Any], metric: tuple[str, str]) -> Figure:
    from matplotlib.figure import Figure

    axes = document.get("axes", [])
    ticks = list(axes[0]["values"]) if axes else ["all runs"]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    plot = figure.add_subplot()
    series = _series(document, metric)
    # A line between two values says that there is something between them, which only numbers have.
    style = "-" if all(tick[:1].isdigit() for tick in ticks) else ""
    for index, (label, points) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * min(0.12, 0.6 / len(series))
        placed = sorted((ticks.index(tick), each) for tick, each in points.items())
        xs = [place + shift for place, _ in placed]
        lines = [each.line for _, each in placed]
        medians = [line["median"] for line in lines]
        below = [line["median"] - line["low"] if line["low"] is not None else 0 for line in lines]
        above = [line["high"] - line["median"] if line["high"] is not None else 0 for line in lines]
        drawn = plot.errorbar(
            xs, medians, yerr=(below, above), marker="o", linestyle=style, capsize=3, linewidth=1, label=label
        )
        for x, (_, each) in zip(xs, placed, strict=True):
            plot.scatter([x] * len(each.runs), each.runs, s=9, alpha=0.4, color=drawn[0].get_color())
    plot.set_xticks(range(len(ticks)), ticks)
    plot.set_xlim(-0.5, len(ticks) - 0.5)
    plot.set_xlabel(axes[0]["key"] if axes else "")
    plot.set_ylabel(f"{metric[1]} of {metric[0]}")
    plot.set_title(f"{document.get('scenario', '')}: medians, 95 % intervals, and each run", fontsize=10)
    plot.grid(axis="y", alpha=0.3)
    if len(series) > 1:
        plot.legend(fontsize=8)
    return figure


class _Point(NamedTuple):
    """A line of the table, and the value of each of its runs."""

    line: Mapping[str, Any]
    runs: list[float]


def _series(document: Mapping[str, Any], metric: tuple[str, str]) -> dict[str, dict[str, _Point]]:
    """The points of the plot, by what their colours and their places on the axis stand for."""
    axes = document.get("axes", [])
    runs: dict[int, list[float]] = {}
    for entry in document.get("runs", []):
        if entry["verdict"] == "error":
            continue
        if (value := numeric_columns(entry.get("rows", ())).get(metric)) is not None:
            runs.setdefault(entry["combination"], []).append(value)
    series: dict[str, dict[str, _Point]] = {}
    for line in document.get("table", []):
        if (line["role"], line["column"]) != metric:
            continue
        values = line["params"]
        label = ", ".join(f"{axis['key']}={values[axis['key']]}" for axis in axes[1:])
        tick = values[axes[0]["key"]] if axes else "all runs"
        series.setdefault(label, {})[tick] = _Point(line, runs.get(line["combination"], []))
    return series
