"""Measure a run: the fidelity of its links, from its beginning to its end, and its time series in between."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.lab.fidelity import RunFidelity
from orchestrator.lab.series import SeriesRecorder
from orchestrator.results import ResultsFolder, RunOutcome
from orchestrator.transport import Connection

__all__ = ["RunMeasurements"]


class RunMeasurements:
    """Measures during a run. What cannot be measured is missing; no run fails by that."""

    def __init__(
        self, directory: LabDirectory, state: notes.LabState, folder: ResultsFolder, run: RunOutcome
    ) -> None:
        started = datetime.fromisoformat(run.details["started"]).timestamp()
        self._fidelity = RunFidelity(directory, state)
        self._series = SeriesRecorder(directory, state, folder, started)

    async def begin(self, connection: Connection) -> None:
        """Take the state before the run, once, on a connection that has no run yet."""
        await self._fidelity.begin(connection)
        await self._series.begin(connection)

    async def end(self, faulted: Collection[int] = ()) -> dict[str, Any]:
        """Return the report on the links; the run has ended and had stopped or paused the nodes `faulted`."""
        await self._series.end()
        return await self._fidelity.end(faulted)

    async def abandon(self) -> None:
        """Stop measuring a run that was interrupted; nothing happens after `end`."""
        await self._series.abandon()
