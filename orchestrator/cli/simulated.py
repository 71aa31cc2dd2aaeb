"""What `nm run scenario --simulate` does: one run on the simulated network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.common import progress
from orchestrator.cli.reports import report_if_cut_short

if TYPE_CHECKING:
    from orchestrator.results import RunOutcome

__all__ = ["require_no_lab", "run_simulated"]


def require_no_lab(options: Mapping[str, bool]) -> None:
    """Refuse options that mean nothing without a lab, by their names and whether they were given.

    Raises:
        UsageError: One was given.
    """
    from orchestrator.errors import UsageError

    for option, given in options.items():
        if given:
            raise UsageError(
                f"`{option}` is for a run in a lab, and `--simulate` runs without one",
                id="simulate.option",
                found=option,
                hint=f"leave out `{option}` or `--simulate`",
            )


def run_simulated(
    scenario: str,
    topology: Path | None,
    params: Mapping[str, str],
    results: Path | None,
    seed: int | None,
    timeout: float | None,
    listener: Callable[[Callable[[str], None]], Callable[[Any], None]],
    *,
    report: bool,
) -> RunOutcome:
    """Run a scenario on the simulated network.

    Args:
        scenario: Its name or folder.
        topology: The topology file; the scenario's own unless given.
        params: Parameters by name.
        results: Where the run gets a folder of its own.
        seed: The run's seed.
        timeout: The run's limit in seconds of virtual time.
        listener: Returns what is told of events, and tells of them by what it is given.
        report: Whether a run that is interrupted gets a page.
    """
    from orchestrator.lab import Lab

    with report_if_cut_short(results or Path("results"), enabled=report) as seen, progress(2.0) as say:
        return Lab.simulate(
            scenario,
            topology,
            params=params,
            results=results,
            seed=seed,
            timeout=timeout,
            progress=say,
            on_event=seen(listener(say)),
        )
