"""Restart the parts of a lab that ended, and replace those that run but do not work.

A process can run without working: stopped, or with files closed by a role. The controller shows this: the
nodes of such a process do not reconnect, or reconnect as degraded; a controller that does not answer is
itself such a process. What is stored outside the process remains: the lab's data in Postgres, its files, and
programs in the namespaces of nodes, which `nm down` ends.

A run under way is not interrupted for degraded nodes: they carry packets, and its roles may work. Their
process is replaced by an `up` after the run.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import Host, Part, PartFailed, Progress
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.lab.operator import operator
from orchestrator.lab.ready import until_ready
from orchestrator.protocol.messages import Status

__all__ = ["repair"]

GRACE_S = 15.0
"""How long parts that run may take until all is ready: nodes have ten seconds to come back to a controller
that was away, before it counts them as gone."""

ANSWER_S = 3.0
"""How long a controller that runs may take to be reached; it answers from memory."""

BROKEN = ("unreachable", "degraded")
"""States of nodes that do not recover by themselves; one that is `starting` may need more time."""


async def repair(
    host: Host, directory: LabDirectory, state: LabState, timeout_s: float, progress: Progress
) -> tuple[LabState, tuple[str, ...]]:
    """Make a lab ready again that is up, and return its state and the parts that were restarted.

    Raises:
        PartFailed: It did not become ready in time.
        StartFailed: A part could not be started.
    """
    deadline = Deadline(SystemClock(), timeout_s)
    before = await host.parts(directory, state)
    dead = tuple(part.role for part in before if part.missing)
    if dead:
        state = await host.start(directory, state, progress)
    grace = min(timeout_s, GRACE_S) if len(dead) < len(before) else timeout_s
    try:
        status = await until_ready(host, directory, state, grace, progress)
        broken, put_off = _broken(before, status), _put_off(status)
        trouble = None
    except PartFailed as error:
        seen = await _look(directory, state)
        broken, put_off = _broken_or_controller(before, seen), ""
        trouble = error
        if seen is not None and not broken:
            await _finish_starts(host, directory, state, seen)
    if put_off:
        progress(put_off)
    if broken:
        progress(f"replacing {', '.join(broken)}: running, but not working")
        await host.end_parts(directory, state, broken)
        state = await host.start(directory, state, progress)
    if broken or trouble is not None:
        left = deadline.remaining()
        if trouble is not None and not left:
            raise trouble
        await until_ready(host, directory, state, left or 0.1, progress)
    return state, (*dead, *broken)


async def _look(directory: LabDirectory, state: LabState) -> Status | None:
    """The status of a lab that did not become ready; None if its controller does not answer."""
    try:
        async with operator(directory, state, ANSWER_S) as connection:
            return await connection.status()
    except NmError:
        return None


def _broken_or_controller(before: Collection[Part], status: Status | None) -> tuple[str, ...]:
    """The parts that ran before and do not work: the controller, if it does not answer."""
    if status is not None:
        return _broken(before, status)
    return tuple(part.role for part in before if part.running and part.role == "controller")


async def _finish_starts(host: Host, directory: LabDirectory, state: LabState, status: Status) -> None:
    """Start nodes that the controller waits for: a `start` of them may have failed half-way."""
    nodes = [node.id for node in status.nodes if node.state == "starting" and not node.external]
    if nodes:
        node_states.record(directory, nodes, node_states.RUNNING)
        await host.act_on_nodes(directory, state, nodes, "start")


def _broken(before: Collection[Part], status: Status) -> tuple[str, ...]:
    states = ("unreachable",) if _under_way(status) else BROKEN
    broken = {node.id for node in status.nodes if node.state in states and not node.external}
    return tuple(part.role for part in before if part.running and broken.intersection(part.nodes))


def _put_off(status: Status) -> str:
    """Report which nodes are left degraded because of a run; empty if none."""
    runs = _under_way(status)
    nodes = [str(node.id) for node in status.nodes if node.state == "degraded" and not node.external]
    if not (runs and nodes):
        return ""
    names = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    return (
        f"left degraded while {', '.join(runs)} is under way: node {names}; `nm up` afterwards repairs that"
    )


def _under_way(status: Status) -> list[str]:
    return [run.run for run in status.runs if run.state in ("running", "stopping")]
