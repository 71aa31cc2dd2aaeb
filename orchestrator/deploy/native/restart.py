"""Restart ended parts of a native lab: `python -m orchestrator.deploy.native.restart FOLDER ROLE…`.

The supervisor runs this and waits for it. It takes the lab's lock and performs the same steps as `nm up`.
Another command may have repaired or stopped the lab while this one waited for the lock, so the state is read
afterwards.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.locks import SUPERVISOR, lab_lock
from orchestrator.deploy.native.host import NativeHost
from orchestrator.errors import NmError, StartFailed
from orchestrator.supervisor import files

LOCK_WAIT_S = 600.0
"""The longest that an `nm up` may need; it takes the supervisor along when it ends."""


def main(words: list[str]) -> int:
    """Start the roles that do not run; returns the exit code."""
    try:
        asyncio.run(restart(LabDirectory(Path(words[0])), words[1:]))
    except NmError as error:
        print(f"error  {error.render()}", file=sys.stderr)
        return error.exit_code
    return 0


async def restart(directory: LabDirectory, roles: list[str]) -> None:
    """Start these parts of a lab that is up, as far as they do not run.

    Raises:
        StartFailed: One could not be started.
        LabBusy: Another process held the lab's lock for too long.
    """
    async with lab_lock(Home(directory.home), directory.name, SUPERVISOR, wait_s=LOCK_WAIT_S):
        state = notes.read(directory)
        if state is not None and state.phase == "up" and files.marker(directory.path).exists():
            if "postgres" in roles:
                _require_cluster(directory)
            await NativeHost().start_parts(directory, state, roles)


def _require_cluster(directory: LabDirectory) -> None:
    """Look whether the database is there: started without it, a server would begin an empty one in silence.

    Raises:
        StartFailed: Its files are gone.
    """
    if not (directory.database / "data" / "PG_VERSION").exists():
        raise StartFailed(
            f"the database of lab {directory.name} is gone: {directory.database / 'data'}",
            id="start.database-gone",
            found="no database",
            hint=f"`nm down -n {directory.name}` removes what is left of the lab; then `nm up` recreates it",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
