"""Measure whether links of this machine do what is requested, with real traffic.

rows      what is requested, how it is measured and judged
traffic   the program that sends and receives, run in a node
ends      the two ends of a link and how the link is changed
run       all rows on one link
"""

from __future__ import annotations

from orchestrator.bench.ends import Ends, LabEnds, lab_ends
from orchestrator.bench.rows import ROWS, Result, Row
from orchestrator.bench.run import measure, summary

__all__ = ["ROWS", "Ends", "LabEnds", "Result", "Row", "lab_ends", "measure", "summary"]
