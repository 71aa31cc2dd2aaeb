"""Wait until a started lab is ready, or report the part that failed.

The controller's status and the parts themselves are watched at the same time: a part that ended never becomes
ready, and the user should not have to wait for the timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import FailedPart, Host, PartFailed, Progress
from orchestrator.deploy.state import LabState
from orchestrator.errors import ControllerUnreachable, NmError
from orchestrator.lab.damage import LabDamaged
from orchestrator.lab.operator import Operator, operator
from orchestrator.protocol import PeerError
from orchestrator.protocol.messages import Status, StatusChanged
from orchestrator.transport import Disconnected, RequestTimeout

RETRY_S = 0.03
"""Between attempts to reach a controller that is being started; it comes up in a few hundred milliseconds."""

HEALTH_S = 10.0
HEALTH_POLL_S = 0.1
"""How long a start waits for a controller to recover, and how often it looks."""

NOT_READY = "lab.not-ready"


async def until_ready(
    host: Host, directory: LabDirectory, state: LabState, timeout_s: float, progress: Progress
) -> Status:
    """Return the status of the lab once it is ready.

    Raises:
        PartFailed: A part ended, or the time is over; names the failed part with the last lines of its log.
    """
    ready = asyncio.create_task(_ready(directory, state, timeout_s, progress))
    death = asyncio.create_task(host.first_exit(directory, state))
    try:
        await asyncio.wait({ready, death}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            return await _or_failed_part(ready, host, directory, state)
        raise PartFailed(directory.name, death.result())
    finally:
        for task in (ready, death):
            task.cancel()
        await asyncio.wait({ready, death})


async def _ready(directory: LabDirectory, state: LabState, timeout_s: float, progress: Progress) -> Status:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    progress("waiting for the controller")
    while True:
        left = deadline - loop.time()
        if left <= 0:
            raise ControllerUnreachable(f"the controller did not answer within {timeout_s:g} s")
        try:
            async with operator(directory, state, min(left, 5.0)) as connection:
                return await _wait(connection, deadline - loop.time(), progress)
        except (PeerError, LabDamaged):
            raise
        except (ControllerUnreachable, Disconnected, RequestTimeout):
            await asyncio.sleep(RETRY_S)


async def _wait(connection: Operator, left_s: float, progress: Progress) -> Status:
    status = await connection.wait_ready(max(0.1, left_s), _progress_reporter(progress))
    # A controller whose database was just started again needs a moment to be whole; the lab works meanwhile.
    try:
        async with asyncio.timeout(HEALTH_S):
            while status.health != "ok":
                progress(f"waiting for the controller: {'; '.join(status.problems)}")
                await asyncio.sleep(HEALTH_POLL_S)
                status = await connection.status()
    except TimeoutError:
        pass  # `nm status` still reports what is wrong
    return status


def _progress_reporter(progress: Progress) -> Callable[[StatusChanged], None]:
    def tell(change: StatusChanged) -> None:
        waiting = next(iter(sorted(change.waiting.items())), None)
        tail = f", node {waiting[0]}: {waiting[1]}" if waiting else ""
        progress(f"{change.ready} of {change.total} nodes are ready{tail}")

    return tell


async def _or_failed_part(
    ready: asyncio.Task[Status], host: Host, directory: LabDirectory, state: LabState
) -> Status:
    try:
        return ready.result()
    except NmError as error:
        part = await _slowest(host, directory, state, error)
        lines = tuple(await host.tail(directory, part))
        raise PartFailed(
            directory.name, FailedPart(part, f"reports an error: {error.message}", lines)
        ) from error


async def _slowest(host: Host, directory: LabDirectory, state: LabState, error: NmError) -> str:
    """The part whose log most likely says why: one that does not run, else the nodes, else the controller."""
    parts = await host.parts(directory, state)
    stopped = next((part.role for part in parts if part.missing), None)
    if stopped is not None:
        return stopped
    nodes = [part.role for part in parts if part.nodes]
    return nodes[0] if nodes and error.id == NOT_READY else "controller"
