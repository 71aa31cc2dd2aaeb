"""Act on nodes of a native lab: `python -m orchestrator.deploy.native.node_action FOLDER DO NODE…`.

The controller runs this for a request that came by its REST API or by SQL. It takes the lab's lock and writes
`locked`; when the controller has recorded what the nodes shall be and writes `go`, it performs the same steps
as `nm node`. Nothing is done where the controller ends before that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.deploy import node_states
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.locks import lab_lock
from orchestrator.deploy.native import node_faults
from orchestrator.errors import LabNotFound, NmError

__all__ = ["act", "main"]

LOCK_S = 10.0
"""How long another command may hold the lab."""


def main(words: Sequence[str]) -> int:
    """Act on the nodes; returns the exit code."""
    folder, do, *numbers = words
    try:
        asyncio.run(act(LabDirectory(Path(folder)), do, [int(number) for number in numbers]))
    except NmError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    return 0


async def act(directory: LabDirectory, do: str, nodes: Sequence[int]) -> None:
    """Kill, stop, start, pause or unpause nodes once the controller has recorded that they shall be so.

    Raises:
        LabBusy: Another command holds the lab for too long.
        LabNotFound: The lab is not up any more.
        NodeFaultFailed: It could not be done.
    """
    async with lab_lock(Home(directory.home), directory.name, f"node {do}", LOCK_S):
        state = notes.read(directory)
        if state is None or state.phase != "up":
            raise LabNotFound(f"lab {directory.name} is not up", found=directory.name)
        print("locked", flush=True)
        if sys.stdin.readline() != "go\n":
            return
        node_states.record(directory, nodes, node_states.AFTER[do])
        await node_faults.act(directory, state, nodes, do)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
