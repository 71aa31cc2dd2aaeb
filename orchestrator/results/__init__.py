"""The results of a run: rows written as they arrive, a verdict, and tables.

outcome   a run and its verdict, as `nm run -o json` shows it
folder    the results folder, written during the run
tables    which columns of which rows a person wants to see
samples   what two samples of nodes say about the time between them
series    the time series, written during the run
reading   what a results folder holds
charts    what is drawn of a run
drawing   charts as SVG and PNG
plots     the files of the plots
report    the page about a run; report_parts has what it says besides plots
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
