"""Keep which nodes of a lab are stopped or paused by request, in a file of the lab's folder.

Whoever starts parts reads it: `nm up`, the supervisor, and the host process of a native lab.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from orchestrator import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import write_whole
from orchestrator.errors import UsageError

__all__ = ["AFTER", "RUNNING", "read", "record", "require_running"]

RUNNING = "running"

AFTER = {"kill": "stopped", "stop": "stopped", "start": RUNNING, "pause": "paused", "unpause": RUNNING}
"""What a node is after each action."""


def read(directory: LabDirectory) -> dict[int, str]:
    """Return the nodes that are `stopped` or `paused` by request."""
    return node_states.read(directory.run)


def record(directory: LabDirectory, nodes: Iterable[int], state: str) -> None:
    """Record what nodes are from now on: `running`, `stopped` or `paused`.

    Raises:
        HomeUnwritable: The file cannot be written.
    """
    states = read(directory) | dict.fromkeys(nodes, state)
    kept = {str(node): each for node, each in sorted(states.items()) if each != RUNNING}
    write_whole(node_states.file(directory.run), json.dumps(kept))


def require_running(directory: LabDirectory, nodes: Sequence[int]) -> None:
    """Check that none of these nodes is stopped or paused by request, before something is run in them.

    Raises:
        UsageError: One is (`node.stopped`, `node.paused`).
    """
    states = read(directory)
    for node in nodes:
        if node in states:
            back = "start" if states[node] == "stopped" else "unpause"
            raise UsageError(
                f"node {node} of lab {directory.name} is {states[node]} by request",
                id=f"node.{states[node]}",
                found=str(node),
                hint=f"`nm node {back} {node}`",
            )
