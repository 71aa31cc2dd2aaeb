"""Prevent other processes of a container from reading the node's file, which holds its token.

The entrypoint opens the file as no other process of the container can, and hands it to the agent as an open
file. What is left to close are the two ways to that open file: through `/proc` of the agent, which a process
of the same user may read unless the agent is not dumpable, and by inheritance.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OPEN_FILES = "/proc/self/fd/"


def guard(configs: Sequence[str]) -> None:
    """Close both ways, if the files are open files of this process."""
    handles = [int(path.removeprefix(_OPEN_FILES)) for path in configs if path.startswith(_OPEN_FILES)]
    if not handles:
        return
    from orchestrator import syscalls  # not at the top: the ctypes library, where there is nothing to close

    for handle in handles:
        os.set_inheritable(handle, False)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
