"""Have the processes of nodes stopped, started, paused and resumed by the controller's own machine.

The controller itself ends and starts nothing: a program of the deployment does, as for `nm node`. It can only
be run where the controller runs beside the nodes, as a user who may: on the native backend. A controller in a
container has no access to the engine that carries the other containers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from orchestrator.controller.errors import NodeFaultInvalid, NodeNotActedOn
from orchestrator.node_states import STATE_FILE
from orchestrator.settings.controller import ControllerSettings

__all__ = ["NodeActions"]

PROGRAM = "orchestrator.deploy.native.node_action"

LIMIT = 40.0
"""Seconds that it may take: ten for the lab's lock, twenty for opening nodes, a few for programs to end."""

MOST_SAID = 2_000
"""Bytes of its complaint that an error shows."""


class NodeActions:
    """Runs the program that acts on the processes of nodes.

    Args:
        settings: The controller's file, which is in the lab's run folder.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        folder = Path(settings.path).absolute().parent.parent if settings.path else None
        here = settings.backend == "native" and folder is not None and (folder / STATE_FILE).exists()
        self._folder = folder if here else None
        self._backend = settings.backend

    def require(self, do: str, nodes: Collection[int]) -> None:
        """Check that this controller can act on processes.

        Raises:
            NodeFaultInvalid: It cannot.
        """
        if self._folder is None:
            numbers = ",".join(map(str, nodes))
            raise NodeFaultInvalid(
                f"the controller of a {self._backend} lab cannot {do} the processes of nodes",
                id="node.backend",
                hint=f"`nm node {do} {numbers}` on the machine of the lab does",
            )

    async def act(self, do: str, nodes: Collection[int]) -> None:
        """Kill, stop, start, pause or unpause the processes of nodes.

        Raises:
            NodeNotActedOn: It was not done, or not in time.
        """
        assert self._folder is not None, "the caller has called `require`"
        words = [str(self._folder), do, *map(str, nodes)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            PROGRAM,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=os.environ,
        )
        try:
            async with asyncio.timeout(LIMIT):
                _, said = await process.communicate()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise NodeNotActedOn(
                f"the controller has recorded it, but it was not done within {LIMIT:g} s",
                hint="the same request again tries again",
            ) from None
        if process.returncode != 0:
            lines = said[-MOST_SAID:].decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {process.returncode}"
            raise NodeNotActedOn(
                f"the controller has recorded it, but it was not done: {reason}",
                hint="the same request again tries again; `nm node` does it as well",
            )
