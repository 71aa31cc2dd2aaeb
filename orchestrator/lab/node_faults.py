"""Stop, start, pause and resume nodes of a lab that is up.

    lock → controller: what the nodes shall be, links and routes → state file → backend: their processes
      → wait until they are so

Each step may be repeated: the same action again finishes what an interrupted one began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.deploy import node_states
from orchestrator.deploy import state as notes
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import TAIL_LINES
from orchestrator.deploy.locks import lab_lock
from orchestrator.errors import LabNotFound, NmError
from orchestrator.lab.find import require_inside
from orchestrator.lab.operator import operator
from orchestrator.protocol import PeerError
from orchestrator.protocol.messages import NodeFault

__all__ = ["BACK_S", "Action", "NodeNotBack", "NodesChanged", "act"]

Action = Literal["kill", "stop", "start", "pause", "unpause"]

LOCK_S = 20.0
"""How long another command may hold the lab."""

GONE_S = 10.0
"""How long the controller may take to see that a node is gone."""

BACK_S = 30.0
"""How long a node may take to be ready again, unless the caller says something else."""


class NodeNotBack(NmError):
    """A node did not become ready, or did not end, in time; carries the last lines of its log."""

    id = "node.not-ready"
    exit_code = 5

    def __init__(self, message: str, lines: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.lines = tuple(lines)


@dataclass(frozen=True)
class NodesChanged:
    """What became of nodes.

    Attributes:
        state: What they are now: `running`, `stopped` or `paused`.
        changed: Those for which that is a change.
        already: Those that were so before.
    """

    state: str
    changed: tuple[int, ...]
    already: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm node … -o json` shows it."""
        return {"state": self.state, "changed": list(self.changed), "already": list(self.already)}


async def act(
    directory: LabDirectory,
    nodes: Sequence[int],
    do: Action,
    *,
    timeout_s: float = BACK_S,
    cause: str = "operator",
) -> NodesChanged:
    """Kill, stop, start, pause or unpause nodes, all of them or none.

    Args:
        directory: The lab's folder.
        nodes: Which ones.
        do: What is done to them.
        timeout_s: How long they may take to be ready again.
        cause: Who or what asked, for the events.

    Raises:
        UsageError: One of them is external, or there are none.
        PeerError: It cannot be done to one of them as it is; nothing is changed.
        NodeNotBack: One is not ready, or not gone, in time.
        LabBusy: Another command works on the lab.
    """
    async with lab_lock(Home(directory.home), directory.name, f"node {do}", LOCK_S):
        state = notes.read(directory)
        if state is None:
            raise LabNotFound(f"lab {directory.name} is not up any more", found=directory.name)
        require_inside(state, nodes)
        async with operator(directory, state) as connection:
            answer = await connection.node_fault(NodeFault(tuple(nodes), do, cause))
            node_states.record(directory, nodes, node_states.AFTER[do])
            await host_for(state.backend).act_on_nodes(directory, state, nodes, do)
            limit_s = GONE_S if node_states.AFTER[do] == "stopped" else timeout_s
            try:
                await connection.wait_nodes(nodes, limit_s)
            except PeerError as error:
                if error.id != NodeNotBack.id:
                    raise
                raise await _not_back(directory, state, error) from error
    changed, already = (tuple(answer.get(name, ())) for name in ("changed", "already"))
    return NodesChanged(node_states.AFTER[do], changed, already)


async def _not_back(directory: LabDirectory, state: notes.LabState, error: PeerError) -> NodeNotBack:
    """Return the error with the last lines of the log of the node that it names."""
    number = next((word for word in error.message.split() if word.isdecimal()), "0")
    parts = await host_for(state.backend).parts(directory, state)
    part = next((each.role for each in parts if int(number) in each.nodes), f"node-{number}")
    lines = await host_for(state.backend).tail(directory, part, TAIL_LINES)
    return NodeNotBack(error.message, lines, hint=f"`nm logs {number}` and `nm status` say more")
