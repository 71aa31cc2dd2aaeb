"""The results of a run: rows written as they arrive, a verdict, and tables.

outcome   a run and its verdict, as `nm run -o json` shows it
folder    the results folder, written during the run
tables    which columns of which rows a person wants to see
"""

from __future__ import annotations

from orchestrator.results.folder import ResultsFolder
from orchestrator.results.outcome import RoleFailure, RunOutcome, Verdict, judge
from orchestrator.results.tables import ResultTable, tables

__all__ = [
    "ResultTable",
    "ResultsFolder",
    "RoleFailure",
    "RunOutcome",
    "Verdict",
    "judge",
    "tables",
]
