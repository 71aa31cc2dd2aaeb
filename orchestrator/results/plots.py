"""Write the plots of a run into `plots/` of its results folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from orchestrator.results.charts import Chart, charts
from orchestrator.results.drawing import draw
from orchestrator.results.reading import RunFolder

__all__ = ["Drawn", "write_plots"]


@dataclass(frozen=True)
class Drawn:
    """A chart that was drawn, and its SVG."""

    chart: Chart
    svg: str


def write_plots(run: RunFolder) -> tuple[list[Drawn], list[str]]:
    """Draw every chart of a run as SVG and PNG.

    Returns:
        What was drawn, and why others are missing, as sentences.

    Raises:
        OSError: The files cannot be written.
    """
    wanted, missing = charts(run)
    folder = run.path / "plots"
    drawn: list[Drawn] = []
    for chart in wanted:
        try:
            svg, png = draw(chart)
        except Exception as error:  # values that matplotlib does not draw
            missing.append(f"plot `{chart.name}` cannot be drawn: {error}")
            continue
        folder.mkdir(exist_ok=True)
        (folder / f"{chart.file}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{chart.file}.png").write_bytes(png)
        drawn.append(Drawn(chart, svg))
    with suppress(OSError):
        kept = {each.chart.file for each in drawn}
        for path in folder.glob("*.*"):
            if path.suffix in (".svg", ".png") and path.stem not in kept:
                path.unlink()  # of an earlier drawing of the same run
    return drawn, missing
