"""Run programs of the deployment on the controller's own machine.

The controller itself starts and ends nothing, and does not write the lab's files: programs do, as for the
commands of `nm`. They can only be run where the controller runs beside the nodes, as a user who may: on the
native backend. A controller in a container has no access to the engine that carries the other containers, and
gets none: whoever reaches the engine is root on the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from orchestrator.node_states import STATE_FILE
from orchestrator.settings.controller import ControllerSettings

__all__ = ["LocalPrograms", "reason_of"]

MOST_SAID = 2_000
"""Bytes of a program's complaint that an error shows."""


class LocalPrograms:
    """Runs programs that work on the lab's folder.

    Args:
        settings: The controller's file, which is in the lab's run folder.

    Attributes:
        folder: The lab's folder; None where the controller is not beside it.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        folder = Path(settings.path).absolute().parent.parent if settings.path else None
        here = settings.backend == "native" and folder is not None and (folder / STATE_FILE).exists()
        self.folder = folder if here else None

    @asynccontextmanager
    async def running(self, module: str, *words: str) -> AsyncIterator[Process]:
        """Run a module with the lab's folder as its first argument; it is killed if it outlives the body."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            str(self.folder),
            *words,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env=os.environ,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                if process.returncode is None:
                    process.kill()
            await process.wait()


def reason_of(process: Process, said: bytes) -> str:
    """Return the last line that a program which failed wrote."""
    lines = said[-MOST_SAID:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"
