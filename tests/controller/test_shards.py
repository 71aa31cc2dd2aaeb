"""Test that a stalled packet thread is a problem of the lab until it continues or its nodes are gone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.controller import shards
from orchestrator.protocol import messages as m

from .conftest import Start
from .fakes import FakeProcess, ready_lab, settings
from .test_service import operator, status

Database = dict[str, Any]

STALLED = m.NodeEvent(shards.STALLED, {"shard": 0, "for_ms": 2000, "nodes": [1, 2]})


@pytest.mark.integration
async def test_a_stalled_shard_is_told_and_forgotten_when_it_goes_on(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 3))
    process = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [process])
    asking = await operator(controller)
    await process.request(1, STALLED)
    seen = await status(asking)
    assert seen.health == "degraded"
    assert seen.problems == (
        "the packet thread of 2 nodes from 1 to 2 is stalled for 2 s; the other threads continue",
    )
    events = await asking.request(m.GetEvents(0), within=10)
    assert isinstance(events, m.Events)
    assert any(each.name == "shard.stalled" and each.node == 1 for each in events.events)
    await process.request(1, m.NodeEvent(shards.MOVES, {"shard": 0, "nodes": [1, 2]}))
    assert (await status(asking)).health == "ok"


@pytest.mark.integration
async def test_it_goes_with_its_nodes(start: Start, database: Database) -> None:
    controller = await start(settings(database, 3))
    process, other = FakeProcess([1, 2], 7), FakeProcess([3], 8)
    await ready_lab(controller, [process, other])
    await process.request(1, STALLED)
    assert controller.core.problems()
    await process.die()
    await other.until(lambda: not controller.core.problems())


@pytest.mark.parametrize("detail", [None, 7, [], {}, {"nodes": "x", "for_ms": None}, {"nodes": [None]}])
def test_what_is_said_oddly_is_understood_as_far_as_it_goes(detail: object) -> None:
    assert shards.sentence(4, detail) == "the packet thread of node 4 is stalled; the other threads continue"
