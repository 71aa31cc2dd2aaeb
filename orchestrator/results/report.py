"""Write `report.html` of a run: one file that needs no network, no script and no other file.

A content security policy in the page forbids scripts and everything from elsewhere, and every text of a run
is escaped, so that names, logs and parameters stay text: by the template, and by what draws the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import topology
from orchestrator.errors import NmError
from orchestrator.results.drawing import inline
from orchestrator.results.pages import NAME, write_page
from orchestrator.results.plots import write_plots
from orchestrator.results.reading import RunFolder
from orchestrator.results.report_parts import happened, host_line, link_rows, manifest
from orchestrator.results.tables import tables

__all__ = ["NAME", "Report", "render", "write"]

LOG_LINES, LOG_WIDTH = 20, 400
"""The last lines of each log, and the characters of one."""

MOST_LOGS = 1_000
OPEN_LOGS = 6
"""Up to so many logs are shown unfolded."""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: The page.
        problems: What could not be read or drawn, as sentences; the page says it too.
    """

    path: Path
    problems: tuple[str, ...]


def write(folder: Path) -> Path:
    """Draw the plots of a run and write its report; see `render`."""
    return render(folder).path


def render(folder: Path) -> Report:
    """Draw the plots of a run and write its report.

    Args:
        folder: The results folder; nothing else is read. Also that of a run that was killed.

    Raises:
        OSError: The folder cannot be written.
    """
    run = RunFolder(folder)
    drawn, missing = write_plots(run)
    events, events_note = happened(run)
    logs = list(run.log_tails(LOG_LINES, LOG_WIDTH))
    document, fidelity = run.document, run.document.get("fidelity") or {}
    picture, rows = _picture(run), _with_nodes(run)
    problems = [*run.problems, *missing]
    target = write_page(
        folder,
        "report.html.j2",
        document=document,
        title=str(document.get("run") or folder.name),
        verdict=str(document.get("verdict") or "unknown"),
        facts=_facts(document),
        picture=picture,
        events=events,
        events_note=events_note,
        tables=tables(str(document.get("scenario", "")), rows),
        plots=[(each.chart, inline(each.svg, f"plot-{each.chart.file}")) for each in drawn],
        fidelity=fidelity,
        links=list(link_rows(fidelity)),
        host=host_line(fidelity),
        logs=logs[:MOST_LOGS],
        logs_open=len(logs) <= OPEN_LOGS,
        log_lines=LOG_LINES,
        manifest=manifest(document),
        problems=problems,
    )
    return Report(target, tuple(problems))


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds = document.get("seconds")
    params = document.get("params") or {}
    found = {
        "scenario": document.get("scenario"),
        "lab": document.get("lab"),
        "backend": document.get("backend"),
        "seed": document.get("seed"),
        "started": document.get("started"),
        "took": f"{seconds:.1f} s" if isinstance(seconds, int | float) else None,
        "parameters": ", ".join(f"{key}={value}" for key, value in params.items()),
    }
    return [(key, str(value)) for key, value in found.items() if value not in (None, "")]


def _with_nodes(run: RunFolder) -> list[dict[str, Any]]:
    """The rows that have a node, as those of roles do."""
    return [row for row in run.rows if "node" in row]


def _picture(run: RunFolder) -> str | None:
    """The picture of the topology as part of the page; None if there is none."""
    try:
        svg = topology.graph(topology.load(run.path / "topology.yaml"))
    except (NmError, OSError) as error:
        run.problems.append(f"the topology cannot be drawn: {error}")
        return None
    # A style sheet in a picture holds for the whole page, so its rules are confined to the picture.
    return re.sub(r"<style>(.*?)</style>", _confined, svg, count=1, flags=re.DOTALL)


def _confined(style: re.Match[str]) -> str:
    rules = re.sub(
        r"^([^{}\n]+)\{",
        lambda rule: ", ".join(f".topology {each.strip()}" for each in rule[1].split(",")) + " {",
        style[1],
        flags=re.MULTILINE,
    )
    return f"<style>{rules}</style>"
