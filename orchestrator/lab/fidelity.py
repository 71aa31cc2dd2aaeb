"""Measure the links of a lab: what its nodes counted, at the beginning and at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from orchestrator import log
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.errors import NmError
from orchestrator.fidelity import Snapshot, report
from orchestrator.lab.operator import Operator, dial
from orchestrator.protocol.messages import GetMeasurements, LinkMeasurements
from orchestrator.transport import Connection

_log = log.get(__name__)

NODES_S = 2.0
"""How long nodes may take to say what they measured; those that do not are missing in the report."""

ANSWER_S = NODES_S + 5.0
"""How long the controller may take."""

ABSENT = ("stopped", "vacant")
"""States of nodes that do not run; they are missing only if they did in the run."""

NOT_MEASURED: dict[str, Any] = {
    "verdict": "not-measured",
    "links": [],
    "nodes_missing": [],
    "host": {"cpu_share": None, "overload_drops": 0, "fault_drops": 0},
}
"""The report of a run about whose links nothing is known."""


async def measure(connection: Connection) -> Snapshot:
    """Return what the nodes have measured up to now.

    Raises:
        NmError: The controller does not answer.
    """
    await connection.request(GetMeasurements(int(NODES_S * 1000)), within=ANSWER_S)
    found = [(frame.node, frame.message) for frame in connection.take()]
    return Snapshot({node: each for node, each in found if isinstance(each, LinkMeasurements)})


class RunFidelity:
    """Measures the links during a run. What cannot be measured is missing; no run fails by that."""

    def __init__(self, directory: LabDirectory, state: notes.LabState) -> None:
        self._directory = directory
        self._state = state
        self._before: Snapshot | None = None

    async def begin(self, connection: Connection) -> None:
        """Take the state before the run, once, on a connection that has no run yet."""
        if self._before is None:
            try:
                self._before = await measure(connection)
            except Exception as error:
                _not_measured(error)

    async def end(self, faulted: Collection[int] = ()) -> dict[str, Any]:
        """Return the report of the run, which has ended and had stopped or paused the nodes `faulted`."""
        if self._before is None:
            return NOT_MEASURED
        try:
            connection = await dial(self._directory, self._state)
            try:
                return await self._report(self._before, connection, faulted)
            finally:
                await connection.close(grace=0.5)
        except Exception as error:
            _not_measured(error)
            return NOT_MEASURED

    async def _report(
        self, before: Snapshot, connection: Connection, faulted: Collection[int]
    ) -> dict[str, Any]:
        after = await measure(connection)
        status = await Operator(connection).status()
        links = status.links
        expected = [node.id for node in status.nodes if node.state not in ABSENT]
        forward = {(link.a, link.b): link.forward for link in links}
        backward = {(link.b, link.a): link.backward for link in links}
        specs, cpus = forward | backward, os.cpu_count() or 1
        return report(before, after, specs, cpus, expected=expected, faulted=faulted)


def _not_measured(error: Exception) -> None:
    """Log why nothing is known; an error of this program with its traceback."""
    if isinstance(error, NmError):
        _log.info("fidelity.not-measured", error=error.message)
    else:
        _log.exception("fidelity.not-measured", error=str(error))
