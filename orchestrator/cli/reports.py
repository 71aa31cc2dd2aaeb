"""Write the pages about runs and sweeps, and say where they are.

What prevents a page is said, and changes neither verdict nor exit code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.common import notify

if TYPE_CHECKING:
    from orchestrator.lab.run import OnEvent
    from orchestrator.lab.sweep_folder import SweepFolder
    from orchestrator.protocol.messages import RunEvent
    from orchestrator.results import RunOutcome

__all__ = [
    "report_if_cut_short",
    "suggest_report",
    "write_page_of_run",
    "write_partial_sweep_report",
    "write_report",
    "write_sweep_report",
]


def write_report(outcome: RunOutcome) -> RunOutcome:
    """Write the page about a run, and say where it is; return the outcome with its path."""
    from dataclasses import replace

    written = write_page_of_run(Path(outcome.results))
    if written is None:
        return outcome
    notify(f"report in {written}")
    return replace(outcome, report=str(written))


def write_page_of_run(folder: Path) -> Path | None:
    """Write the page about a run; return its path, or None if there is none."""
    from orchestrator.results.report import render

    try:
        written = render(folder)
    except Exception as error:
        notify(f"the run has no report: {error}")
        return None
    for problem in written.problems:
        notify(f"report: {problem}")
    return written.path


def suggest_report(folder: Path) -> None:
    """Say how to get the page about an interrupted run or sweep.

    It is not written then: drawing takes seconds, and an interrupted command has to end within one.
    """
    notify(f"`nm results report {folder}` writes the report")


@contextmanager
def report_if_cut_short(parent: Path, *, enabled: bool) -> Iterator[Callable[[OnEvent], OnEvent]]:
    """Write the page about a run that ends early with an error; after an interrupt, say how to get it.

    Args:
        parent: The folder in which the run has its own.
        enabled: Whether it is wanted.

    Yields:
        A function that returns a listener of events which notes the name of the run before it calls another.
    """
    runs: set[str] = set()

    def noting(listener: OnEvent) -> OnEvent:
        def tell(event: RunEvent) -> None:
            runs.add(event.run)
            listener(event)

        return tell

    try:
        yield noting
    except BaseException as error:
        for folder in (each for run in runs if enabled for each in parent.glob(f"*-{run}")):
            if isinstance(error, KeyboardInterrupt):
                suggest_report(folder)
            elif written := write_page_of_run(folder):
                notify(f"report in {written}")
        raise


def write_sweep_report(folder: SweepFolder) -> Path | None:
    """Write the page about a sweep, and those of complete runs that have none; say where it is.

    A run lacks its page when the sweep was killed before it was written. Returns the page's path, or None if
    there is none.
    """
    from orchestrator.results.report import NAME
    from orchestrator.results.sweep_report import write

    left = {run.name for run in folder.missing()}
    for run in folder.runs:
        if run.name not in left and not (folder.path / run.name / NAME).exists():
            write_page_of_run(folder.path / run.name)
    try:
        # A sweep that was killed has not listed its runs.
        document = folder.document if "runs" in folder.document else folder.summary()
        written = write(folder.path, document)
    except Exception as error:
        notify(f"the sweep has no report: {error}")
        return None
    notify(f"report in {written}")
    return written


def write_partial_sweep_report(folder: SweepFolder) -> Path | None:
    """Do the same for a sweep that may lack runs, and write the pages of runs that were cut short."""
    for run in folder.missing():
        if (folder.path / run.name / "run.json").is_file():
            write_page_of_run(folder.path / run.name)
    return write_sweep_report(folder)
