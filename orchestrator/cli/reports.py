"""Write the page about a run, and say where it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.common import notify

if TYPE_CHECKING:
    from orchestrator.results import RunOutcome

__all__ = ["write_report"]


def write_report(outcome: RunOutcome) -> RunOutcome:
    """Write the page about a run. What prevents it is said, and changes neither verdict nor exit code."""
    from dataclasses import replace

    from orchestrator.results.report import render

    try:
        written = render(Path(outcome.results))
    except Exception as error:
        notify(f"the run has no report: {error}")
        return outcome
    for problem in written.problems:
        notify(f"report: {problem}")
    notify(f"report in {written.path}")
    return replace(outcome, report=str(written.path))
