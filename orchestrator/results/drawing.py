"""Draw charts with matplotlib, as SVG and PNG.

Colours are those of Okabe and Ito, which people with any kind of colour blindness tell apart, without black
and yellow; line styles and markers tell the same. Texts stay texts, so that they can be searched and copied,
and are never read as formulas.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.results.charts import Chart, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "inline"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F5A2E", "#5C5C99")
STYLES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, PAPER, GREY, FAINT = "#10141a", "#fffffe", "#a0a4aa", "#c9ccd1"
"""Colours of texts, of the background, and of lines that are not data; `inline` replaces all but grey."""

FEW_POINTS = 40
"""Points of a curve up to which each has a marker."""

LEAST_PLACES = 6
"""The fewest bars and boxes that the width is divided by, so that one alone is not as wide as the picture."""

_SIZE = (7.2, 3.3)
_SETTINGS: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
}


def draw(chart: Chart) -> tuple[str, bytes]:
    """Return a chart as SVG and as PNG."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells that it looks for fonts
    import matplotlib
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")  # characters that the font lacks
        matplotlib.rcdefaults()
        settings: Any = {**_SETTINGS, "svg.hashsalt": chart.file}
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        _KINDS[chart.kind](axes, chart)
        axes.set_title(_plain(chart.name))
        axes.set_xlabel(_plain(chart.x_label))
        axes.set_ylabel(_plain(chart.y_label))
        _legend(axes, chart)
        svg = _saved(figure, "svg").decode()
        figure.set_layout_engine("none")  # laying it out again takes a quarter of the time
        return svg, _saved(figure, "png")


def inline(svg: str, name: str) -> str:
    """Return an SVG of `draw` as part of a page: in the page's colour, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", svg)
    return svg.replace(INK, "currentColor").replace(PAPER, "none").replace(FAINT, "var(--line)")


def _saved(figure: Figure, kind: str) -> bytes:
    target = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(target, format=kind, dpi=150, metadata=metadata)
    return target.getvalue()


def _lines(axes: Axes, chart: Chart) -> None:
    for curve in chart.others:
        axes.plot(curve.xs, curve.ys, color=GREY, linewidth=0.5, zorder=1.5)
    for index, curve in enumerate(chart.curves):
        marker = MARKERS[index % len(MARKERS)] if len(curve.xs) <= FEW_POINTS else ""
        axes.plot(curve.xs, curve.ys, marker=marker, label=_plain(curve.label), **_look(index))
    for time in chart.marks:
        axes.axvline(time, color=INK, linewidth=0.8, linestyle=":", zorder=1)
    if not _has_negative(chart):
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=min(0.0, *(float(x) for curve in chart.curves for x in curve.xs), 0.0))


def _bars(axes: Axes, chart: Chart) -> None:
    """Bars of several curves stand beside each other, or on each other where they are parts of a sum."""
    places = list(chart.curves[0].xs)
    width = 0.8 / len(chart.curves)
    for index, curve in enumerate(chart.curves):
        shift = (index - (len(chart.curves) - 1) / 2) * width
        at = [place + shift for place in range(len(places))]
        axes.bar(at, curve.ys, width, color=_look(index)["color"], label=_plain(curve.label))
    _places(axes, [str(place) for place in places], range(len(places)))
    axes.set_xlim(-0.6, max(len(places), LEAST_PLACES) - 0.4)


def _steps(axes: Axes, chart: Chart) -> None:
    for curve in chart.others:
        axes.ecdf(curve.ys, color=GREY, linewidth=0.5)
    for index, curve in enumerate(chart.curves):
        axes.ecdf(curve.ys, label=_plain(curve.label), **_look(index))


def _boxes(axes: Axes, chart: Chart) -> None:
    labels = [curve.label for curve in chart.curves]
    found = axes.boxplot([list(curve.ys) for curve in chart.curves], patch_artist=True, widths=0.6)
    for box in found["boxes"]:
        box.set(facecolor="#56B4E9", edgecolor=INK)
    for part in ("medians", "whiskers", "caps"):
        for line in found[part]:
            line.set_color(INK)
    for points in found["fliers"]:
        points.set(marker=".", markersize=3, markeredgecolor=GREY)
    _places(axes, labels, range(1, len(labels) + 1))
    axes.set_xlim(0.4, max(len(labels), LEAST_PLACES) + 0.6)
    if not _has_negative(chart):
        axes.set_ylim(bottom=0)


_KINDS: Mapping[str, Callable[[Any, Chart], None]] = {
    "line": _lines,
    "bar": _bars,
    "ecdf": _steps,
    "box": _boxes,
}


def _places(axes: Axes, labels: Sequence[str], at: Sequence[int]) -> None:
    """Name the places of bars and boxes; long or many names stand upright."""
    upright = sum(len(label) + 1 for label in labels) > 70
    axes.set_xticks(list(at), [_plain(label) for label in labels], rotation=90 if upright else 0)
    axes.grid(visible=False, axis="x")


def _legend(axes: Axes, chart: Chart) -> None:
    named: list[Curve] = [curve for curve in chart.curves if curve.label]
    if chart.kind != "box" and named:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)]}


def _has_negative(chart: Chart) -> bool:
    return any(y < 0 for curve in (*chart.curves, *chart.others) for y in curve.ys)


def _plain(text: str) -> str:
    """A text for a picture: on one line and of a bounded length; a legend leaves out what begins with `_`."""
    shown = "".join(each if each.isprintable() else "�" for each in text)
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    return f"\u200b{shown}" if shown.startswith("_") else shown
