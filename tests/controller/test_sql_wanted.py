"""Test the order in which changes of `wanted` by SQL are carried out, and what a failed one leads to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.controller.errors import NodeNotActedOn
from orchestrator.controller.registry import Wanted
from orchestrator.controller.sql_wanted import SqlWanted
from orchestrator.protocol import messages as m
from orchestrator.store import Changed, SqlChange, WantedRow

from .conftest import Start
from .fakes import FakeProcess, ready_lab, settings

pytestmark = pytest.mark.integration


class Faults:
    """Records what is carried out; each change waits for `go`, and fails if `fails`."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.done: list[str] = []
        self.go = asyncio.Event()
        self.fails = False

    def check(self, fault: m.NodeFault) -> None:
        """Refuse nothing."""

    async def change(self, fault: m.NodeFault) -> None:
        await self.go.wait()
        wanted = {"stop": Wanted.STOPPED, "pause": Wanted.PAUSED}.get(fault.do, Wanted.RUNNING)
        self.lab.set_wanted(fault.nodes[0], wanted)
        self.done.append(fault.do)
        if self.fails:
            raise NodeNotActedOn("it was not done")


def want(reader: SqlWanted, state: str) -> None:
    change = SqlChange(1, "nodes", "update", ((2,),), "nm_user", "psql")
    changed = Changed((change,), nodes={(2,): WantedRow(2, state)})
    assert list(reader.take(changed, first=False)) == []


async def test_the_last_of_several_changes_counts_and_a_failed_one_can_be_repeated(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    await ready_lab(controller, [FakeProcess(range(1, 5))])
    reader, faults = SqlWanted(controller.core), Faults(controller.core.lab)
    reader._faults = faults  # type: ignore[assignment]  # a fake
    want(reader, "stopped")
    want(reader, "running")  # before the first one was done
    want(reader, "running")  # nothing new
    faults.go.set()
    await until(lambda: len(faults.done) == 2)
    assert faults.done == ["stop", "start"]
    assert controller.core.lab.registry.node(2).wanted is Wanted.RUNNING

    faults.fails = True
    want(reader, "stopped")
    await until(lambda: len(faults.done) == 3)
    faults.fails = False
    want(reader, "stopped")  # what is recorded is the same, and it is tried again
    await until(lambda: len(faults.done) == 4)
    want(reader, "stopped")
    await reader.close()
    assert faults.done[2:] == ["stop", "stop"]


async def until(done: Any) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110  # a list of a fake
            await asyncio.sleep(0)
    await asyncio.sleep(0)  # the task that has done it ends
