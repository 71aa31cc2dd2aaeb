"""Test how a lab shows itself in a notebook."""

from __future__ import annotations

from orchestrator import topology
from orchestrator.lab.notebook import lab_html
from orchestrator.lab.status import LabStatus, NodeInfo


def test_a_lab_shows_its_state_its_picture_and_the_nodes_that_are_not_ready() -> None:
    meant = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 3}\n")
    nodes = (NodeInfo(1, "a", "ready", "10.0.0.1", ""), NodeInfo(2, "<b>", "stopped", "10.0.0.2", ""))
    html = lab_html(meant, LabStatus("ring", "native", "degraded", nodes, ()))
    assert "<b>ring</b> · native · degraded" in html
    assert html.count("<svg") == html.count("</svg>") == 1
    assert "<li>node 2 (&lt;b&gt;): stopped</li>" in html and "node 1 (a)" not in html
