"""Stop, start, pause and resume nodes whose `wanted` was changed by SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from orchestrator.controller.core import Core
from orchestrator.controller.node_faults import NodeFaults
from orchestrator.controller.registry import Wanted
from orchestrator.errors import NmError
from orchestrator.protocol.messages import NodeFault
from orchestrator.store import Changed, WantedRow
from orchestrator.tasks import spawn

__all__ = ["SqlWanted"]

_DO = {Wanted.STOPPED: "stop", Wanted.PAUSED: "pause"}
"""What makes a node so that runs."""


class SqlWanted:
    """Carries out what nodes shall be by SQL, after the reading that found it, one after the other."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._faults = NodeFaults(core)
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[int, tuple[NodeFault, Wanted]] = {}  # of each node, the last one under way
        self._failed: set[int] = set()  # nodes whose last change was not done

    def take(self, changed: Changed, *, first: bool) -> Iterator[tuple[int, str, str, WantedRow]]:
        """Begin to carry changes out; return those that are refused: node, error, reason, the row before.

        Args:
            changed: What was read.
            first: Whether this controller has read nothing before: a node counts as running then, which it
                may not, so that what makes it run is done in any case.
        """
        registry = self._core.lab.registry
        for (node_id,) in changed.keys("nodes"):
            row = changed.nodes.get((node_id,))
            if row is None or node_id not in registry:
                continue
            last = self._last.get(node_id)  # what counts is what those under way will have made
            before = last[1] if last is not None else registry.node(node_id).wanted
            wanted = Wanted(row.wanted)
            if before is wanted and not first and node_id not in self._failed:
                continue
            do = _DO.get(wanted) or ("unpause" if before is Wanted.PAUSED else "start")
            fault = NodeFault((node_id,), do, "sql", True)
            try:
                self._faults.check(fault)
            except NmError as error:
                yield node_id, error.id, error.message, WantedRow(node_id, before.value)
            else:
                self._last[node_id] = (fault, wanted)
                task = spawn(self._carry_out(fault), name="change of a node by SQL")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, fault: NodeFault) -> None:
        (node_id,) = fault.nodes
        async with self._one:
            self._failed.discard(node_id)
            try:
                await self._faults.change(fault)
            except NmError as error:
                self._failed.add(node_id)
                self._write_back(fault)
                facts = {"do": fault.do, "reason": error.message, "error": error.id, "cause": "sql"}
                self._core.events.add("node.not-done", node_id, facts, level="warning")
            finally:
                if node_id in self._last and self._last[node_id][0] is fault:
                    del self._last[node_id]

    def _write_back(self, fault: NodeFault) -> None:
        """Write what a node shall be where this change did not record it, unless another one follows."""
        (node_id,) = fault.nodes
        last, registry = self._last.get(node_id), self._core.lab.registry
        if last is not None and last[0] is fault and node_id in registry:
            recorded = registry.node(node_id).wanted
            if recorded is not last[1]:
                self._core.store.lab.nodes_wanted([(node_id, recorded.value)])
