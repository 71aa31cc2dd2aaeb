"""Detect a lab whose files were deleted, which cannot be repaired, and report it.

The running parts still hold what the files said, such as tokens; a part that is started with new ones would
be refused. So such a lab has to be taken down and started again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import ControllerUnreachable
from orchestrator.plan import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE

SHOWN = 3

TABLE_S = 5.0
"""A host process that was just started writes down its namespaces once it has made them."""

POLL_S = 0.05


class LabDamaged(ControllerUnreachable):
    """Files of a lab were deleted; the message names the first ones."""

    id = "lab.damaged"


def missing(directory: LabDirectory, state: LabState) -> str:
    """The first files that a lab lacks that is up, in words; empty when all are there."""
    if state.phase != "up":
        return ""
    gone = [str(path.relative_to(directory.path)) for path in _needed(directory, state) if not path.exists()]
    more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    return ", ".join(gone[:SHOWN]) + more


def require_intact(directory: LabDirectory, state: LabState) -> None:
    """Check that all files of a lab that is up exist, before any part is restarted.

    Raises:
        LabDamaged: Some are gone.
    """
    if gone := missing(directory, state):
        raise damaged(directory, gone)


async def wait_until_intact(directory: LabDirectory, state: LabState) -> None:
    """The same, but a host process that the lab has just started again is given the time to write its file.

    Raises:
        LabDamaged: Some are gone.
    """
    tables = {directory.host_table(role) for role in state.hosts} if state.backend == "native" else set()
    deadline = Deadline(SystemClock(), TABLE_S)
    while not deadline.expired and any(not table.exists() for table in tables):  # noqa: ASYNC110  # a file
        await asyncio.sleep(POLL_S)
    require_intact(directory, state)


def damaged(directory: LabDirectory, gone: str) -> LabDamaged:
    """The error for a lab that lacks files."""
    return LabDamaged(
        f"files of lab {directory.name} are gone: {gone}",
        found=gone,
        hint=f"`nm down -n {directory.name}` removes what is left of it; then `nm up` recreates it",
    )


def _needed(directory: LabDirectory, state: LabState) -> list[Path]:
    needed = [directory.run / name for name in ("controller.toml", "topology.yaml", "manifest.json")]
    if state.tls:
        needed += [directory.run / name for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE)]
    needed += [Path(node.config) for node in state.nodes]
    if state.backend == "native":
        needed.append(directory.database / "data" / "PG_VERSION")
        needed += [
            directory.host_table(role)
            for role in state.hosts
            if (process := state.parts.get(role)) is not None and process.alive()
        ]
    else:
        needed += [directory.run / name for name in ("docker-compose.yml", "postgres-password", "hosts")]
    return needed
