"""Look whether a socket listens at a port in the network namespace of a process."""

from __future__ import annotations

from pathlib import Path

from orchestrator import procfs

__all__ = ["listening"]

LISTEN = "0A"
"""The state of a listening socket in the kernel's tables."""


def listening(pid: int, port: int) -> bool | None:
    """Whether one listens in the process's namespace; None if that is not known.

    A process that has not entered its namespace yet is in ours, where nothing listens for it.
    """
    inside = procfs.network_namespace(pid)
    if inside is None:
        return None
    if inside == procfs.network_namespace(procfs.this_process().pid):
        return False
    try:
        tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return None
    # The kernel writes the local address and port in hexadecimal, then the remote ones and the state.
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(row[3] == LISTEN and row[1].endswith(f":{port:04X}") for row in rows)
