"""Ask the process that runs the services of a native lab to start or restart some."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from orchestrator import procfs
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.native.running import PART
from orchestrator.errors import NmError
from orchestrator.node_states import control_socket
from orchestrator.procfs import ProcessId
from orchestrator.services import state as states

__all__ = ["ask", "end_orphans"]

GONE_S = 5.0
"""How long the kernel may take to end what was killed."""

ANSWER_S = 10.0
"""How long it may take to answer; it may have been started a moment ago."""

RETRY_S = 0.05


async def ask(directory: LabDirectory, do: str, which: Sequence[str]) -> None:
    """Have it `start` services that failed, `restart` services, or `reload` its file.

    Raises:
        NmError: It does not answer, or refuses.
    """
    error = "no answer"
    try:
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    error = await _ask(directory, json.dumps({"do": do, "which": list(which)}))
                    break
                except (OSError, ValueError) as failure:
                    error = str(failure)
                    await asyncio.sleep(RETRY_S)
    except TimeoutError:
        error = f"no answer within {ANSWER_S:g} s: {error}"
    if error:
        raise NmError(
            f"the process that runs the services of lab {directory.name} did not {do} them: {error}",
            id="service.refused",
            found=error,
            hint="`nm logs services` says more; `nm up` starts it again if it has ended",
            exit_code=5,
        )


def end_orphans(directory: LabDirectory) -> None:
    """End what a process that runs services had started, after it was killed.

    Labels do not find programs that overwrite their environment with a title, such as redis.
    """
    for each in states.read(directory.path).values():
        process = ProcessId(each.process, each.started)
        if each.process and process.alive():
            with suppress(ProcessLookupError):
                os.killpg(each.process, signal.SIGKILL)
            procfs.wait_gone([process], GONE_S)
    (directory.path / states.FILE).unlink(missing_ok=True)


async def _ask(directory: LabDirectory, request: str) -> str:
    with control_socket(directory.run, PART) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request.encode() + b"\n")
        await writer.drain()
        return str(json.loads(await reader.readline() or '{"error": "it has ended"}')["error"])
    finally:
        writer.close()
