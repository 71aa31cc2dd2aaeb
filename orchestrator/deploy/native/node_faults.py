"""Stop, start, pause and resume nodes of a native lab.

Many nodes share one host process, which closes, opens, pauses or resumes them when it is asked over its
socket; it reads the lab's file of node states to know which. The programs in a node's namespace are ended or
paused from here, by signals through pidfds. The namespace itself stays, with what was configured in it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Collection
from contextlib import suppress

from orchestrator import procfs
from orchestrator.deploy import processes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.namespaces import require_table
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.node_states import control_socket
from orchestrator.procfs import ProcessId

__all__ = ["NodeFaultFailed", "act", "have_applied", "resume_programs"]

APPLY_S = 20.0
"""How long a host process may take to open or close nodes; opening a node waits for its registration."""

GRACE_S = 3.0
"""How long the programs of a node that is stopped in order may take to end."""

ROUNDS = 20
"""How often programs are looked for: one may start another just before it is ended or stopped."""

GONE_S = 2.0
"""How long the kernel may take to end a process that was killed."""


class NodeFaultFailed(NmError):
    """The nodes could not be stopped, started, paused or resumed."""

    id = "node.fault-failed"
    exit_code = 5


async def act(directory: LabDirectory, state: LabState, nodes: Collection[int], do: str) -> None:
    """Carry out an action on nodes, whose states are recorded already.

    Raises:
        NodeFaultFailed: The host process refuses, or programs cannot be ended.
        NmError: The host process does not run (`lab.host-gone`).
    """
    await asyncio.to_thread(_act, directory, state, nodes, do)


def resume_programs(directory: LabDirectory, state: LabState, nodes: Collection[int]) -> None:
    """Continue the programs of paused nodes; one that is stopped by a signal does not end when asked."""
    with suppress(NmError):
        for process in _programs(directory, state, nodes):
            procfs.send_signal(process, signal.SIGCONT)


def _act(directory: LabDirectory, state: LabState, nodes: Collection[int], do: str) -> None:
    def programs() -> list[ProcessId]:
        return _programs(directory, state, nodes)

    if do == "unpause":
        for process in programs():
            procfs.send_signal(process, signal.SIGCONT)
    elif do == "stop":
        found = programs()
        for process in found:
            procfs.send_signal(process, signal.SIGTERM)
            procfs.send_signal(process, signal.SIGCONT)  # of a paused node
        procfs.wait_gone(found, GRACE_S)
    elif do == "kill":
        _send(programs, signal.SIGKILL)
    _apply(directory, state, nodes)
    if do == "pause":
        _pause(programs)
    elif do in ("kill", "stop"):
        _kill(directory, programs)


def have_applied(directory: LabDirectory, parts: Collection[str]) -> None:
    """Have host processes do what the lab's files say of their nodes.

    Raises:
        NodeFaultFailed: One refuses.
    """
    for part in sorted(parts):
        _ask(directory, part)


def _apply(directory: LabDirectory, state: LabState, nodes: Collection[int]) -> None:
    """Have the host processes of nodes do what the file of node states says."""
    for part, carried in state.hosts.items():
        if not set(carried).isdisjoint(nodes):
            _ask(directory, part)


def _ask(directory: LabDirectory, part: str) -> None:
    require_table(directory, part)  # an error in words where the process has ended
    try:
        with (
            control_socket(directory.run, part) as path,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(APPLY_S)
            connection.connect(path)
            answer = json.loads(connection.makefile().readline() or '{"error": "it has ended"}')
    except (OSError, ValueError) as error:
        answer = {"error": str(error) or type(error).__name__}
    if answer["error"]:
        raise NodeFaultFailed(
            f"the process {part} of lab {directory.name} did not change its nodes: {answer['error']}",
            found=answer["error"],
            hint=f"`nm logs {part}` says more; the same command again tries again",
        )


def _programs(directory: LabDirectory, state: LabState, nodes: Collection[int]) -> list[ProcessId]:
    """The processes in the network namespaces of nodes, besides the host process."""
    inodes: set[int] = set()
    for part, carried in state.hosts.items():
        if wanted := set(carried) & set(nodes):
            table = require_table(directory, part)
            inodes |= {table.nodes[node].inode for node in wanted if node in table.nodes}
    return sorted(processes.in_namespaces(inodes))


def _send(find: Callable[[], list[ProcessId]], number: signal.Signals) -> list[ProcessId]:
    found = find()
    for process in found:
        procfs.send_signal(process, number)
    return found


def _pause(find: Callable[[], list[ProcessId]]) -> None:
    """Stop processes until a look finds no new one."""
    stopped: set[ProcessId] = set()
    for _round in range(ROUNDS):
        new = set(find()) - stopped
        if not new:
            return
        for process in new:
            procfs.send_signal(process, signal.SIGSTOP)
        stopped |= new


def _kill(directory: LabDirectory, find: Callable[[], list[ProcessId]]) -> None:
    """Kill processes until none is left."""
    left: list[ProcessId] = []
    for _round in range(ROUNDS):
        found = _send(find, signal.SIGKILL)
        if not found:
            return
        left = procfs.wait_gone(found, GONE_S)
    if left:
        raise NodeFaultFailed(f"process {left[0].pid} in a node of lab {directory.name} cannot be ended")
