"""Record the time series of a run: samples of all nodes and of the machine, once a second.

The samples come over a connection of their own, so that they do not stand behind the run's events. A sample
that cannot be had is missing, and the next one covers its time; no run fails by that.
"""

from __future__ import annotations

import asyncio
import os

from orchestrator import clock, log
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import NmError
from orchestrator.lab.cleanup import in_daemon_thread
from orchestrator.lab.host_usage import HostUsage
from orchestrator.lab.operator import dial
from orchestrator.protocol.messages import GetSamples, NodeSample
from orchestrator.results import ResultsFolder
from orchestrator.results.samples import Samples, points
from orchestrator.results.series import SeriesFile
from orchestrator.transport import Connection

__all__ = ["EVERY_S", "SeriesRecorder"]

_log = log.get(__name__)

EVERY_S = 1.0
"""Seconds between two samples."""

NODES_S = 0.8
"""How long nodes may take to answer; those that do not are missing in the sample."""

ANSWER_S = 2.0
"""How long the controller may take."""

LEAST_S = 0.02
"""The shortest interval at the end of a run that is a sample of its own."""


class SeriesRecorder:
    """Records from `begin` to `end`, or to `abandon`.

    Args:
        directory: The lab.
        state: Its notes.
        folder: Where the series are kept.
        started: The time from which points count, in seconds since 1970.
    """

    def __init__(
        self, directory: LabDirectory, state: notes.LabState, folder: ResultsFolder, started: float
    ) -> None:
        self._directory = directory
        self._state = state
        self._folder = folder
        self._started = started
        self._clock = clock.SystemClock()
        self._cpus = os.cpu_count() or 1
        self._last: Samples = {}
        self._last_s = 0.0
        self._file: SeriesFile | None = None
        self._usage: HostUsage | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self, connection: Connection) -> None:
        """Take the state before the run on a connection that has no run yet, and begin to record."""
        if self._file is not None:
            return
        self._file = SeriesFile(self._folder.path)
        self._usage = HostUsage()
        try:
            self._last = await _sample(connection)
        except Exception as error:
            _missing(error)
        self._last_s = self._clock.wall()
        self._task = asyncio.create_task(self._record(), name="series of a run")

    async def end(self) -> None:
        """Take a last sample and make the Parquet file."""
        await self._stop()
        if self._file is None:
            return
        if self._clock.wall() - self._last_s >= LEAST_S:
            await self._step()
        await self._close_connection()
        await in_daemon_thread(self._file.finish)
        if self._file.trouble and not self._folder.trouble:
            self._folder.trouble = self._file.trouble

    async def abandon(self) -> None:
        """Stop at once; what is known stays as CSV. Nothing happens after `end`."""
        await self._stop()
        await self._close_connection()
        if self._file is not None:
            self._file.close()

    async def _record(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + EVERY_S, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._step()

    async def _step(self) -> None:
        if self._file is None or self._usage is None:
            return
        try:
            if self._connection is None:
                self._connection = await dial(self._directory, self._state, EVERY_S)
            found = await _sample(self._connection)
        except Exception as error:
            _missing(error)
            await self._close_connection()
            found = {}
        now = self._clock.wall()
        known = points(self._last, found, self._cpus) if found else []
        self._file.write(now - self._started, [*known, *self._usage.points()])
        # A node that is missing now is compared with its last sample when it is back.
        self._last = {**self._last, **found}
        self._last_s = now

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(grace=0.2)


async def _sample(connection: Connection) -> Samples:
    """Return the samples of the nodes that answered.

    Raises:
        NmError: The controller does not answer.
    """
    await connection.request(GetSamples(int(NODES_S * 1000)), within=ANSWER_S)
    found = [(frame.node, frame.message) for frame in connection.take()]
    return {node: each for node, each in found if isinstance(each, NodeSample)}


def _missing(error: Exception) -> None:
    """Log why a sample is missing; an error of this program with its traceback."""
    if isinstance(error, NmError):
        _log.info("series.missing", error=error.message)
    else:
        _log.exception("series.missing", error=str(error))
