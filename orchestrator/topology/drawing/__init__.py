"""Draw a topology as `dot`, `mermaid` or `svg`."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import UsageError, nearest_hint, quoted
from orchestrator.topology.drawing.svg import svg
from orchestrator.topology.drawing.text import dot, mermaid
from orchestrator.topology.model import Topology

__all__ = ["FORMATS", "draw"]

FORMATS = ("dot", "mermaid", "svg")


def draw(topology: Topology, format: str, states: Mapping[int, str]) -> str:
    """Return a picture; see `orchestrator.topology.graph`."""
    match format:
        case "svg":
            return svg(topology, states)
        case "dot":
            return dot(topology)
        case "mermaid":
            return mermaid(topology)
    raise UsageError(
        f"there is no picture format `{format}`",
        id="graph.format",
        found=format,
        expected=f"one of {quoted(FORMATS)}",
        hint=nearest_hint(format, FORMATS, otherwise=f"formats are {quoted(FORMATS)}"),
    )
