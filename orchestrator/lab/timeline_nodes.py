"""Make the node faults of a run's timeline, and undo at its end what is left of them.

    event `timeline_node` → act on the node → `TimelineDone` to the controller
    end of the run → start the nodes that are stopped, unpause those that are paused

The controller asks for one fault of a run after the other. It asks again for a fault that was not confirmed
when it was restarted, so each is made once and may be confirmed more than once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from orchestrator.backoff import Backoff
from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import ControllerUnreachable, NmError
from orchestrator.lab.node_faults import Action, act
from orchestrator.lab.operator import operator
from orchestrator.protocol.messages import RunEvent, TimelineDone
from orchestrator.tasks import spawn
from orchestrator.transport import Disconnected, RequestTimeout

__all__ = ["ASKED", "RESTORED", "TimelineNodes"]

ASKED = "timeline_node"
"""The kind of the event that asks for a fault."""

RESTORED = "timeline_nodes_restored"
"""The kind of the event that says which nodes run again at the end of the run."""

AWAY_S = 30.0
"""How long to try again while the controller is restarted: to make a fault, and to confirm it."""

_BACK: dict[str, Action] = {"stopped": "start", "paused": "unpause"}
"""What undoes each state of a node."""

Act = Callable[[Sequence[int], Action, str], Awaitable[object]]
"""Does something to nodes, for a cause."""

Confirm = Callable[[TimelineDone], Awaitable[None]]
"""Tells the controller what became of a fault."""


class TimelineNodes:
    """The node faults of the timeline of one run.

    Args:
        directory: The lab's folder.
        state: The lab.
        run: The run's id.
        make: Acts on nodes.
        confirm: Tells the controller.
    """

    def __init__(
        self,
        directory: LabDirectory,
        state: LabState,
        run: str,
        make: Act | None = None,
        confirm: Confirm | None = None,
    ) -> None:
        self._directory, self._state, self._run = directory, state, run
        self._make = make or self._act
        self._confirm = confirm or self._tell
        self._made: dict[int, asyncio.Task[str]] = {}
        self._confirming: set[asyncio.Task[None]] = set()
        self._touched: set[int] = set()
        self._restoring: asyncio.Task[dict[str, Any]] | None = None
        self._told = False

    @property
    def touched(self) -> frozenset[int]:
        """The nodes of which a fault was asked for."""
        return frozenset(self._touched)

    def take(self, event: RunEvent) -> None:
        """Begin what an event of the run asks for; one that stops the run begins the restoring of nodes.

        A paused node cannot stop its role, so that nodes are not left until the run has ended.
        """
        if event.kind == "stopping":
            self.begin_restoring()
        elif event.kind == ASKED and self._restoring is None:
            data: Any = event.data
            index, node, fault = int(data["index"]), int(data["node"]), data["fault"]
            if index not in self._made:
                self._touched.add(node)
                work = self._fault(node, fault, str(data["cause"]))
                self._made[index] = spawn(work, name=f"timeline of {self._run}: {fault} node {node}")
            task = spawn(self._when_made(index), name=f"confirmation by {self._run}")
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)

    def begin_restoring(self) -> None:
        """Make no more faults, and undo those that still hold once the one under way is made."""
        if self._restoring is None:
            self._restoring = spawn(self._restore(), name=f"nodes after {self._run}")

    async def restored(self) -> dict[str, Any]:
        """Wait until all nodes run again that the timeline has stopped or paused.

        Returns:
            `started` and `unpaused`, the nodes; and `errors`, what was wrong. Empty if there was nothing to
            do, or if it was returned before.
        """
        self.begin_restoring()
        assert self._restoring is not None
        found = await asyncio.shield(self._restoring)
        for task in self._confirming:
            task.cancel()  # the run is over, and nobody waits
        told, self._told = self._told, True
        return {} if told else found

    async def _fault(self, node: int, fault: Action, cause: str) -> str:
        """Make a fault; returns what was wrong, empty for nothing."""
        try:
            await _while_away(lambda: self._make([node], fault, cause))
        except NmError as error:
            return error.message
        return ""

    async def _when_made(self, index: int) -> None:
        error = await asyncio.shield(self._made[index])
        with suppress(NmError):  # a controller that was away for so long asks again, or gives it up
            await _while_away(lambda: self._confirm(TimelineDone(self._run, index, error)))

    async def _restore(self) -> dict[str, Any]:
        if self._made:
            await asyncio.wait(self._made.values())
        states = node_states.read(self._directory)
        left = {node: _BACK[states[node]] for node in sorted(self._touched) if node in states}
        errors = []
        for do in _BACK.values():
            nodes = [node for node in left if left[node] == do]
            if nodes:
                try:
                    await _while_away(partial(self._make, nodes, do, f"end of run {self._run}"))
                except NmError as error:
                    errors.append(error.message)
        if not (left or errors):
            return {}
        by = {do: [node for node in left if left[node] == do] for do in _BACK.values()}
        return {"started": by["start"], "unpaused": by["unpause"], "errors": errors}

    async def _act(self, nodes: Sequence[int], do: Action, cause: str) -> object:
        return await act(self._directory, nodes, do, cause=cause)

    async def _tell(self, message: TimelineDone) -> None:
        async with operator(self._directory, self._state) as connection:
            await connection.connection.request(message)


async def _while_away(work: Callable[[], Awaitable[object]]) -> None:
    """Do something that the controller is needed for, again while it is away.

    Raises:
        NmError: The controller was away for too long, or something else is wrong.
    """
    backoff = Backoff()
    deadline = Deadline(SystemClock(), AWAY_S)
    while True:
        try:
            await work()
            return
        except (ControllerUnreachable, Disconnected, RequestTimeout):
            if deadline.expired:
                raise
        await asyncio.sleep(backoff.next_delay())
