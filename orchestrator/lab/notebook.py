"""A lab as HTML, for notebooks: its state, and its picture with the nodes coloured by theirs."""

from __future__ import annotations

from html import escape

from orchestrator import topology
from orchestrator.lab.status import LabStatus

__all__ = ["lab_html"]


def lab_html(meant: topology.Topology, status: LabStatus) -> str:
    """Return name, backend, state and picture of a lab, and the nodes that are not ready."""
    head = f"<p><b>{escape(status.lab)}</b> · {escape(status.backend)} · {escape(status.state)}</p>"
    states = {node.id: node.state for node in status.nodes}
    picture = topology.graph(meant, "svg", states)
    others = [node for node in status.nodes if node.state != "ready"]
    lines = "".join(f"<li>node {node.id} ({escape(node.name)}): {escape(node.state)}</li>" for node in others)
    return head + picture[picture.index("<svg") :] + (f"<ul>{lines}</ul>" if lines else "")
