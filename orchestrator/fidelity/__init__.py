"""Whether links did what was requested: statistics of measurements, and the verdict. Pure.

statistics   intervals, percentiles of histograms, kurtosis
snapshot     what links and threads did between two moments
report       requested against measured, per link and direction, and of a run
"""

from __future__ import annotations

from orchestrator.fidelity.report import KEPT, SURE, Verdict, report
from orchestrator.fidelity.snapshot import Snapshot
from orchestrator.fidelity.statistics import gilbert_packets, kurtosis, percentile, wilson

__all__ = [
    "KEPT",
    "SURE",
    "Snapshot",
    "Verdict",
    "gilbert_packets",
    "kurtosis",
    "percentile",
    "report",
    "wilson",
]
