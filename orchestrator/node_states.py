"""The file of a lab that says which nodes are stopped or paused by request, and a host process's sockets.

`orchestrator.deploy.node_states` writes the file. It is read by whoever starts parts of a lab, and by the
host process of a native lab, which makes its nodes so when a client connects to its socket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CAPTURES", "STATE_FILE", "carried", "control_socket", "file", "read"]

CAPTURES = "captures"
"""The kind of the socket at which a host process takes captures."""


STATE_FILE = "state.json"
"""The file in a lab's folder with its state; `orchestrator.deploy.state` writes it."""


def carried(folder: Path, part: str) -> list[int] | None:
    """Return the nodes that a host process of a lab is to carry; None where that never changed."""
    try:
        nodes = json.loads((folder / STATE_FILE).read_text())["carried"][part]
        return [int(node) for node in nodes]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def file(run: Path) -> Path:
    """Return the file in a lab's run folder: states by node, only of nodes that do not run."""
    return run / "node-states.json"


def read(run: Path) -> dict[int, str]:
    """Return the nodes that are `stopped` or `paused` by request; a file that is not there means none."""
    try:
        raw = json.loads(file(run).read_text())
        return {int(node): str(state) for node, state in raw.items()}
    except (OSError, ValueError, AttributeError):
        return {}


@contextmanager
def control_socket(run: Path, part: str, kind: str = "") -> Iterator[str]:
    """Give the path of a socket of a host process, valid inside the block.

    Without a kind it is that for node states.

    A socket's path has 107 bytes at most; through the open folder it is short, wherever the lab is.

    Raises:
        OSError: There is no such folder.
    """
    folder = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{part}{f'-{kind}' if kind else ''}.sock"
    finally:
        os.close(folder)
