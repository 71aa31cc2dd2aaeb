"""Ask the process that drives a run for the node faults of its timeline, and wait until it has made them.

Node faults act on processes and containers, which the controller does not reach. So each is an event of the
run, `timeline_node`, and whoever drives the run answers with `TimelineDone`. The faults of one run are made
one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.controller.run import Run
from orchestrator.errors import NmError
from orchestrator.protocol import messages as m

__all__ = ["NODE", "NODE_LIMIT_S", "Later", "NodeChanges", "NodeNotChanged", "Timer"]

NODE = "timeline_node"
"""The kind of the event that asks for a node fault."""

NODE_LIMIT_S = 60.0
"""How long a node fault may take: waiting for another command on the lab, starting the node, and a margin."""


class Timer(Protocol):
    """A call that is to be made."""

    def cancel(self) -> None:
        """Do not make it."""
        ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds."""


class NodeNotChanged(NmError):
    """A node fault of a timeline was not made."""

    id = "run.node-fault"
    exit_code = 5


class NodeChanges:
    """The node faults of timelines that are asked for and not confirmed yet.

    Args:
        record: Records an event of a run.
        later: Calls back after so many seconds.
    """

    def __init__(self, record: Callable[[Run, str, Any], None], later: Later) -> None:
        self._record = record
        self._later = later
        self._waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._ended: set[str] = set()

    def restore(self, run: Run, data: Any) -> None:
        """Take a fault that the last controller asked for; `data` is that of its event."""
        run.note_fault(int(data["node"]), str(data["fault"]))

    async def make(self, run: Run, index: int, change: m.TimelineChange, sent: Callable[[], None]) -> None:
        """Ask for a fault and wait until it is made.

        Args:
            run: The run.
            index: The number of the change in its timeline.
            change: What is done to which node.
            sent: Called when it is this fault's turn, right before it is asked for.

        Raises:
            NodeNotChanged: It failed, nobody made it in time, or the run has ended.
        """
        async with self._turns.setdefault(run.id, asyncio.Lock()):
            if run.id in self._ended:
                raise NodeNotChanged("the run ended before it was its turn")
            sent()
            done = asyncio.get_running_loop().create_future()
            self._waiting[run.id, index] = done
            timer = self._later(NODE_LIMIT_S, lambda: self._fail(run.id, index, _NOBODY))
            run.note_fault(change.node, change.fault)
            facts = {"index": index, "node": change.node, "fault": change.fault, "cause": change.cause}
            self._record(run, NODE, facts)
            try:
                await done
            finally:
                timer.cancel()
                del self._waiting[run.id, index]

    def done(self, message: m.TimelineDone) -> None:
        """A fault was made, or failed; one that nobody waits for is late, and ignored."""
        if message.error:
            self._fail(message.run, message.index, message.error)
            return
        waiting = self._waiting.get((message.run, message.index))
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def end(self, run_id: str) -> None:
        """Wait for no more faults of a run that was stopped or has ended."""
        self._ended.add(run_id)
        for run, index in list(self._waiting):
            if run == run_id:
                self._fail(run, index, "the run ended before it was confirmed")

    def forget(self, run_id: str) -> None:
        """Drop what is kept about a run whose changes have all come to their end."""
        self._turns.pop(run_id, None)
        self._ended.discard(run_id)

    def _fail(self, run_id: str, index: int, why: str) -> None:
        waiting = self._waiting.get((run_id, index))
        if waiting is not None and not waiting.done():
            waiting.set_exception(NodeNotChanged(why))


_NOBODY = (
    f"no process that drives the run has made it within {NODE_LIMIT_S:g} s; node faults need the command or "
    "program that started the run"
)
