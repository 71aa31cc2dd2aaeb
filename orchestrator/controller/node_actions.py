"""Have the processes of nodes stopped, started, paused and resumed on the controller's own machine.

A program does it, as for `nm node`; see `orchestrator.controller.local_programs`. It takes the lab's lock and
says so before anything is recorded, so that a lab that another command holds stays as it is.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from orchestrator.controller.errors import NodeFaultInvalid, NodeNotActedOn
from orchestrator.controller.local_programs import LocalPrograms, reason_of
from orchestrator.settings.controller import ControllerSettings

__all__ = ["NodeActions"]

PROGRAM = "orchestrator.deploy.native.node_action"

LOCK_LIMIT = 20.0
"""Seconds until the program has the lab's lock: ten for the lock, and a few to start on a busy machine."""

LIMIT = 30.0
"""Seconds that it may take then: twenty for opening nodes, a few for programs to end."""


class NodeActions:
    """Runs the program that acts on the processes of nodes.

    Args:
        settings: The controller's file, which is in the lab's run folder.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        self._programs = LocalPrograms(settings)
        self._backend = settings.backend

    def require(self, do: str, nodes: Collection[int]) -> None:
        """Check that this controller can act on processes.

        Raises:
            NodeFaultInvalid: It cannot.
        """
        if self._programs.folder is None:
            numbers = ",".join(map(str, nodes))
            raise NodeFaultInvalid(
                f"the controller of a {self._backend} lab cannot {do} the processes of nodes",
                id="node.backend",
                hint=f"`nm node {do} {numbers}` on the machine of the lab does",
            )

    @asynccontextmanager
    async def held(self, do: str, nodes: Collection[int]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Hold the lab's lock; the function that is given kills, stops, starts, pauses or unpauses the nodes.

        Raises:
            NodeNotActedOn: Another command holds the lab for too long; or, from the function, it was not
                done, or not in time.
        """
        async with self._programs.running(PROGRAM, do, *map(str, nodes)) as process:
            await _wait_locked(process)

            async def act() -> None:
                await _act(process)

            yield act


async def _wait_locked(process: Process) -> None:
    assert process.stdout is not None and process.stderr is not None, "both are pipes"
    try:
        async with asyncio.timeout(LOCK_LIMIT):
            if await process.stdout.readline():
                return
            why = reason_of(process, await process.stderr.read())
    except TimeoutError:
        why = f"the lab is not free after {LOCK_LIMIT:g} s"
    raise NodeNotActedOn(f"nothing was changed: {why}", hint="the same request again tries again")


async def _act(process: Process) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            _, said = await process.communicate(b"go\n")
    except TimeoutError:
        raise NodeNotActedOn(
            f"the controller has recorded it, but it was not done within {LIMIT:g} s",
            hint="the same request again tries again",
        ) from None
    if process.returncode != 0:
        raise NodeNotActedOn(
            f"the controller has recorded it, but it was not done: {reason_of(process, said)}",
            hint="the same request again tries again; `nm node` does it as well",
        )
