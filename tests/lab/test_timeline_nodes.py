"""Test which node faults of a timeline are made, confirmed and undone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.deploy import node_states
from orchestrator.errors import ControllerUnreachable, LabBusy
from orchestrator.lab.node_faults import Action
from orchestrator.lab.timeline_nodes import TimelineNodes
from orchestrator.protocol.messages import RunEvent, TimelineDone
from tests.lab.conftest import MakeLab


class Driver:
    """Acts on nodes of a lab by its file of node states alone."""

    def __init__(self, make_lab: MakeLab) -> None:
        self.directory, state = make_lab()
        self.nodes = TimelineNodes(self.directory, state, "r1", self._act, self._confirm)
        self.made: list[tuple[tuple[int, ...], str, str]] = []
        self.confirmed: list[TimelineDone] = []
        self.failures: list[Exception] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.two_confirmed = asyncio.Event()

    def ask(self, index: int, node: int, fault: str) -> None:
        data: Any = {"index": index, "node": node, "fault": fault, "cause": "timeline of hello"}
        self.nodes.take(RunEvent("r1", 1, 0, "timeline_node", 0, "", data))

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _act(self, nodes: Sequence[int], do: Action, cause: str) -> None:
        await self.go_on.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.made.append((tuple(nodes), do, cause))
        node_states.record(self.directory, nodes, node_states.AFTER[do])

    async def _confirm(self, message: TimelineDone) -> None:
        self.confirmed.append(message)
        if len(self.confirmed) == 2:
            self.two_confirmed.set()


@pytest.fixture
def driver(make_lab: MakeLab) -> Driver:
    return Driver(make_lab)


async def test_a_fault_that_is_asked_for_twice_is_made_once_and_confirmed_twice(driver: Driver) -> None:
    driver.ask(0, 2, "kill")
    await driver.settle()
    driver.ask(0, 2, "kill")
    await driver.settle()
    assert driver.made == [((2,), "kill", "timeline of hello")] and driver.nodes.touched == {2}
    assert driver.confirmed == [TimelineDone("r1", 0), TimelineDone("r1", 0)]


async def test_what_is_wrong_is_told_and_a_controller_that_is_away_is_waited_for(driver: Driver) -> None:
    driver.failures = [LabBusy("lab ring is busy")]
    driver.ask(0, 2, "kill")
    await driver.settle()
    assert driver.confirmed == [TimelineDone("r1", 0, "lab ring is busy")]
    driver.failures = [ControllerUnreachable("no controller answers")]
    driver.ask(1, 2, "kill")
    async with asyncio.timeout(10):
        await driver.two_confirmed.wait()
    assert driver.confirmed[1] == TimelineDone("r1", 1)


async def test_at_the_end_nodes_run_again_that_the_timeline_has_stopped_or_paused_and_no_others(
    driver: Driver,
) -> None:
    for index, (node, fault) in enumerate([(1, "kill"), (2, "pause"), (3, "stop"), (3, "start")]):
        driver.ask(index, node, fault)
        await driver.settle()
    node_states.record(driver.directory, [4], "stopped")  # by somebody else
    driver.made.clear()
    assert await driver.nodes.restored() == {"started": [1], "unpaused": [2], "errors": []}
    assert driver.made == [((1,), "start", "end of run r1"), ((2,), "unpause", "end of run r1")]
    assert node_states.read(driver.directory) == {4: "stopped"}
    assert await driver.nodes.restored() == {}


async def test_a_run_that_is_stopped_begins_no_fault_and_waits_for_the_one_under_way(driver: Driver) -> None:
    driver.go_on.clear()
    driver.ask(0, 2, "kill")
    await driver.settle()
    driver.nodes.take(RunEvent("r1", 2, 0, "stopping", 0, "", {"reason": "interrupted"}))
    driver.ask(1, 1, "kill")
    await driver.settle()
    assert driver.made == []
    driver.go_on.set()
    assert await driver.nodes.restored() == {"started": [2], "unpaused": [], "errors": []}
    assert [(nodes, do) for nodes, do, _ in driver.made] == [((2,), "kill"), ((2,), "start")]


async def test_a_node_that_does_not_come_back_is_named(driver: Driver) -> None:
    driver.ask(0, 2, "kill")
    await driver.settle()
    driver.failures = [LabBusy("lab ring is busy")]
    assert (await driver.nodes.restored())["errors"] == ["lab ring is busy"]
