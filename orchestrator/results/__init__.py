"""The results of a run: rows written as they arrive, a verdict, and tables.

outcome   a run and its verdict, as `nm run -o json` shows it
folder    the results folder, written during the run
parquet   rows as a Parquet table
tables    which columns of which rows a person wants to see
samples   what two samples of nodes say about the time between them
series    the time series, written during the run
reading   what a results folder holds
charts    what is drawn of a run
drawing   charts as SVG and PNG
plots     the files of the plots
report    the page about a run; report_parts has what it says besides plots
html      the same for notebooks
bundle    find and read folders of runs and sweeps, and archives of them
loaded    results as pandas DataFrames

statistics    medians, intervals, and whether a difference is larger than the noise
sweep_table   the table of a sweep
sweep_plot    its plot
compare       two runs or sweeps, and what else differs about them
replayed      the rows of a run and of its replay
export        archives, joined tables, removal
"""

from __future__ import annotations

from orchestrator.results.bundle import DONE, FORMAT, Bundle, find_bundles, open_bundle, opened, read_rows
from orchestrator.results.folder import ResultsFolder
from orchestrator.results.loaded import Results, load
from orchestrator.results.outcome import RoleFailure, RunOutcome, Verdict, judge
from orchestrator.results.tables import ResultTable, tables

__all__ = [
    "DONE",
    "FORMAT",
    "Bundle",
    "ResultTable",
    "Results",
    "ResultsFolder",
    "RoleFailure",
    "RunOutcome",
    "Verdict",
    "find_bundles",
    "judge",
    "load",
    "open_bundle",
    "opened",
    "read_rows",
    "tables",
]
