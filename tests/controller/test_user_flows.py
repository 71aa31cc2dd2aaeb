# ruff: noqa: E501  # statements read better in one line
"""Test that user-space flows start, stop and end as file, operators and SQL want, once, across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from orchestrator.controller.service import Controller
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import DatabaseSettings, FlowEntry, RouteEntry
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

SIZE = 1_000_000
START = 1_700_000_000_000


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def began(*numbers: int) -> m.UserFlowStart:
    return m.UserFlowStart(tuple(m.UserFlow(number, key(number), START) for number in numbers))


def over(number: int, size: int = SIZE, reason: str = "") -> m.FlowFinished:
    times = (START, START + 5, size, number, reason, START * 1000 + 7, START * 1000 + 5_432)
    return m.FlowFinished((m.FinishedFlow(key(number), *times),))


@asynccontextmanager
async def operating(controller: Controller) -> AsyncIterator[Connection]:
    async with await connect(url(controller), OPERATOR_TOKEN, "operator") as connection:
        yield connection


@asynccontextmanager
async def sql(database: dict[str, Any]) -> AsyncIterator[psycopg.AsyncConnection]:
    conninfo = DatabaseSettings(**database).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        yield connection


async def listed(controller: Controller, **wanted: Any) -> dict[int, m.FlowStatus]:
    async with operating(controller) as operator:
        reply = await operator.request(m.GetFlows(**wanted))
        assert isinstance(reply, m.FlowList)
        return {flow.id: flow for flow in reply.flows}


async def until_listed(
    controller: Controller, condition: Callable[[dict[int, m.FlowStatus]], bool]
) -> dict[int, m.FlowStatus]:
    async with asyncio.timeout(10):
        while not condition(found := await listed(controller)):  # noqa: ASYNC110  # asked from outside
            await asyncio.sleep(0.02)
    return found


async def event_names(controller: Controller) -> list[str]:
    async with operating(controller) as operator:
        reply = await operator.request(m.GetEvents(0))
        assert isinstance(reply, m.Events)
        return [event.name for event in reply.events if event.name.startswith("flow.")]


async def test_flow_of_an_operator(start: Start, database: dict[str, Any]) -> None:
    """It reaches its two ends and nobody else, and its start, bytes and end are stored."""
    controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        reply = await operator.request(
            m.StartFlows((m.FlowRequest(1, 3, size_bytes=SIZE, rate_bps=10**9, weight=2),))
        )
        (number,) = reply.value["ids"]  # type: ignore[attr-defined]
        await host.until(lambda: number in host.nodes[1].flows and number in host.nodes[3].flows)
        assert host.nodes[1].flows[number] == m.Flow(number, 1, 3, SIZE, None, 10**9, 2)
        assert not host.nodes[2].flows and not host.nodes[4].flows

        await host.request(1, began(number))
        await host.request(1, m.UserFlowProgress(START, (m.FlowProgress(number, 77),)))
        running = (await listed(controller))[number]
        assert (running.state, running.bytes, running.origin) == ("running", 77, "operator")

        await host.request(1, over(number))
        await operator.request(m.WaitFlows(5_000, (number,)))
        ended = (await listed(controller))[number]
        assert (ended.state, ended.bytes, ended.seconds) == ("finished", SIZE, 0.005425)
    assert await event_names(controller) == ["flow.added", "flow.started", "flow.finished"]


async def test_flows_of_the_file_start_once(start: Start, database: dict[str, Any]) -> None:
    """Neither a restart of the controller nor their end makes them start again; another file does."""
    entries = (FlowEntry(src=1, dst=2, size_bytes=SIZE, count=2), FlowEntry(src=2, dst=1, duration_ms=5))
    wanted = settings(database, 2, flows=entries)
    controller = await start(wanted)
    host = FakeProcess([1, 2])
    await ready_lab(controller, [host])
    await host.until(lambda: len(host.nodes[1].flows) == 3 == len(host.nodes[2].flows))
    await host.request(1, began(1, 2))
    await host.request(1, over(1))
    await controller.stop()
    await host.die()

    controller = await start(wanted)
    host.nodes[1].flows.clear()
    await host.join(url(controller))
    await host.until(lambda: set(host.nodes[1].flows) == {2, 3})
    found = await listed(controller)
    assert {each: flow.state for each, flow in found.items()} == {1: "finished", 2: "running", 3: "waiting"}
    await controller.stop()
    await host.die()

    controller = await start(settings(database, 2, flows=entries[:1]))
    await host.join(url(controller))
    await host.until(lambda: {4, 5} <= set(host.nodes[1].flows))
    await host.until(lambda: {2, 3} <= set(host.nodes[1].stopped_flows))
    assert set(await listed(controller)) == {4, 5}


async def test_flows_by_sql(start: Start, database: dict[str, Any]) -> None:
    """An insert starts a flow, an update changes its rate or stops it, a delete stops it and removes it."""
    controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    one, three = host.nodes[1], host.nodes[3]
    async with sql(database) as db:
        await db.execute(
            "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes) VALUES (1, 3, 5), (1, 3, 6), (1, 3, 7)"
        )
        await host.until(lambda: set(one.flows) == {1, 2, 3} == set(three.flows))
        await host.request(1, began(1, 2, 3))
        await db.execute("UPDATE user_flows SET rate_bps = 5000 WHERE flow_id = 1")
        await host.until(lambda: one.flows[1].rate_bps == 5000 == three.flows[1].rate_bps)
        await db.execute("UPDATE user_flows SET wanted = 'stopped' WHERE flow_id = 2")
        await host.until(lambda: one.stopped_flows == [2] == three.stopped_flows)
        await host.request(1, over(2, 3, "stopped"))
        await db.execute("DELETE FROM user_flows WHERE flow_id = 3")
        await host.until(lambda: one.stopped_flows == [2, 3] == three.stopped_flows)
        found = await listed(controller)
        assert {each: flow.state for each, flow in found.items()} == {1: "running", 2: "stopped"}
        assert found[2].bytes == 3
        await until_empty(db)


async def until_empty(db: psycopg.AsyncConnection) -> None:
    async with asyncio.timeout(10):
        while await (await db.execute("SELECT 1 FROM user_flow_changes")).fetchone():  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.02)


REFUSED = {
    "to itself": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes) VALUES (1, 1, 5)",
    "to nobody": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes) VALUES (1, 9, 5)",
    "of no length": "INSERT INTO user_flows (src_node_id, dst_node_id) VALUES (1, 2)",
    "of two lengths": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes, duration_ms) VALUES (1, 2, 5, 5)",
    "of no bytes": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes) VALUES (1, 2, 0)",
    "of no weight": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes, weight) VALUES (1, 2, 5, 0)",
    "by post": "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes, transport) VALUES (1, 2, 5, 'post')",
    "without a pace": "INSERT INTO user_flows (src_node_id, dst_node_id, duration_ms, transport)"
    " VALUES (1, 2, 5, 'lossless_unicast')",
    "to somebody else": "UPDATE user_flows SET dst_node_id = 3",
    "made longer": "UPDATE user_flows SET size_bytes = 50",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
async def test_wrong_sql_fails(start: Start, database: dict[str, Any], statement: str) -> None:
    """The statement itself fails, and nothing is changed."""
    controller = await start(settings(database))
    assert not await listed(controller)  # the nodes are stored
    async with sql(database) as db:
        await db.execute("INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes) VALUES (1, 2, 5)")
        with pytest.raises(psycopg.IntegrityError):
            await db.execute(statement)
    found = await listed(controller)
    assert {each: (flow.dst, flow.size_bytes) for each, flow in found.items()} == {1: (2, 5)}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (m.StartFlows((m.FlowRequest(1, 1, 5),)), "flow.invalid"),
        (m.StartFlows((m.FlowRequest(1, 9, 5),)), "node.unknown"),
        (m.StartFlows((m.FlowRequest(1, 2, 5), m.FlowRequest(1, 2))), "flow.invalid"),
        (m.StartFlows((m.FlowRequest(1, 2, 2**63),)), "flow.invalid"),
        (m.StartFlows((m.FlowRequest(1, 2, 5, transport="post"),)), "flow.invalid"),
        (m.StartFlows((m.FlowRequest(1, 2, 5, count=20_000),)), "flow.count"),
        (m.StartFlows(()), "flow.count"),
        (m.StartFlows((m.FlowRequest(1, 2, 5, route=(1, 2)),)), "flow.route"),
        (m.EndFlows((7,)), "flow.unknown"),
        (m.GetFlows((2**64 - 1,)), "flow.unknown"),
        (m.WaitFlows(1, (1,)), "flow.unknown"),
    ],
)
async def test_wrong_requests(
    start: Start, database: dict[str, Any], request_: m.Message, error: str
) -> None:
    """A request is refused with a reason, and starts nothing."""
    controller = await start(settings(database))
    async with operating(controller) as operator:
        with pytest.raises(PeerError) as raised:
            await operator.request(request_)
    assert raised.value.id == error
    assert not await listed(controller)


async def test_stop_and_wait(start: Start, database: dict[str, Any]) -> None:
    """Flows that no node has been sent end at once; a wait says what has not ended."""
    controller = await start(settings(database))
    async with operating(controller) as operator:
        await operator.request(m.StartFlows((m.FlowRequest(1, 2, 5, count=3),)))
        with pytest.raises(
            PeerError, match=r"3 flows have not ended after 0\.01 s: flow 1 \(waiting\)"
        ) as late:
            await operator.request(m.WaitFlows(10))
        assert late.value.id == "flow.not-ended"
        waiting = asyncio.create_task(operator.request(m.WaitFlows(10_000)))
        reply = await operator.request(m.EndFlows())
        assert reply.value == {"ids": [1, 2, 3]}  # type: ignore[attr-defined]
        await waiting
        assert {flow.state for flow in (await listed(controller)).values()} == {"stopped"}
        reply = await operator.request(m.EndFlows((1, 2), remove=True))
        assert reply.value == {"ids": [1, 2]}  # type: ignore[attr-defined]
    assert set(await listed(controller)) == {3}


async def test_node_that_was_restarted(start: Start, database: dict[str, Any]) -> None:
    """Its running flows have failed and are stopped at their other ends; those that did not run start."""
    controller = await start(settings(database, 3))
    host, victim = FakeProcess([1, 3]), FakeProcess([2], 99)
    await ready_lab(controller, [host, victim])
    async with operating(controller) as operator:
        await operator.request(m.StartFlows((m.FlowRequest(1, 2, 5, count=2), m.FlowRequest(3, 1, 5))))
    await host.until(lambda: set(host.nodes[1].flows) == {1, 2, 3})
    await victim.until(lambda: set(victim.nodes[2].flows) == {1, 2})
    await host.request(1, began(1))
    await host.request(3, began(3))
    await victim.die()
    victim.forget()
    await victim.join(url(controller))
    await host.until(lambda: host.nodes[1].stopped_flows == [1])
    await victim.until(lambda: set(victim.nodes[2].flows) == {2})
    found = await until_listed(controller, lambda flows: flows[1].state == "failed")
    assert found[1].reason == "node 2 was restarted"
    assert (found[2].state, found[3].state) == ("waiting", "running")


async def test_late_reports(start: Start, database: dict[str, Any]) -> None:
    """A flow that was deleted while the controller was away is stopped where it is still reported."""
    wanted = settings(database, 2)
    controller = await start(wanted)
    host = FakeProcess([1, 2])
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        await operator.request(m.StartFlows((m.FlowRequest(1, 2, 5),)))
    await host.until(lambda: 1 in host.nodes[1].flows)
    await controller.stop()
    await host.die()
    async with sql(database) as db:
        await db.execute("DELETE FROM user_flows")
    controller = await start(wanted)
    await host.join(url(controller))
    await host.until(lambda: host.nodes[1].stopped_flows == [1] == host.nodes[2].stopped_flows)
    await host.request(1, m.UserFlowProgress(START, (m.FlowProgress(1, 2),)))
    await host.until(lambda: host.nodes[1].stopped_flows == [1, 1])
    await host.request(1, over(1, 2, "stopped"))
    assert not await listed(controller)


async def test_refused_flows(start: Start, database: dict[str, Any]) -> None:
    """A node that refuses one flow of several gets the others; the refused one has failed with the reason."""
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2])
    host.refuse = lambda message: (
        isinstance(message, m.AddFlows) and any(flow.weight == 7 for flow in message.flows)
    )
    await ready_lab(controller, [host])
    requests = (m.FlowRequest(1, 2, 5), m.FlowRequest(1, 2, 5, weight=7))
    async with operating(controller) as operator:
        await operator.request(m.StartFlows(requests))
    await host.until(lambda: set(host.nodes[1].flows) == {1})
    found = await until_listed(controller, lambda flows: flows[2].state == "failed")
    assert "refused it: it cannot" in found[2].reason
    assert found[1].state == "waiting"


async def test_pinned_to_a_route(start: Start, database: dict[str, Any]) -> None:
    """A flow is given the number of its route, and fails when the route is none of its pair."""
    routes = (RouteEntry(src=1, dst=2, edges=((1, 3), (3, 2))),)
    controller = await start(settings(database, 3, routes=routes))
    host = FakeProcess([1, 2, 3])
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        await operator.request(m.StartFlows((m.FlowRequest(1, 2, 5, route=(1, 3, 2)),)))
    await host.until(lambda: 1 in host.nodes[1].flows)
    assert host.nodes[1].flows[1].route_id == 1
    async with sql(database) as db:
        await db.execute(
            "INSERT INTO user_flows (src_node_id, dst_node_id, size_bytes, route_id) VALUES (2, 1, 5, 1)"
        )
    found = await until_listed(controller, lambda flows: 2 in flows and flows[2].state == "failed")
    assert found[2].reason == "there is no explicit route 1 from node 2 to node 1"


ROUTE_STATEMENTS = {
    "INSERT INTO flow_routes (flow_id, route_id) VALUES (1, 2)": "has to take route 1 already",
    "INSERT INTO flow_routes (flow_id, route_id) VALUES (2, 3)": "route 3 is no explicit route from node 1",
    "INSERT INTO flow_routes (flow_id, route_id) VALUES (2, 99)": "route 99 is no explicit route",
    "INSERT INTO flow_routes (flow_id, route_id) VALUES (99, 1)": "there is no user-space flow 99",
    "INSERT INTO flow_routes (flow_id) VALUES (2)": "flow 2 is given no route",
    "INSERT INTO flow_routes (flow_id, route_id) VALUES (3, 1)": "flow 3 has ended",
    "UPDATE flow_routes SET flow_id = 2": "cannot become that of flow 2",
    "UPDATE user_flows SET route_id = 3 WHERE flow_id = 1": "route 3 is no explicit route from node 1",
}


async def test_a_flow_is_given_another_route_while_it_runs(start: Start, database: dict[str, Any]) -> None:
    """By the words of Nextmini as well; the flow goes on, and what makes no sense is refused."""
    east, west = ((1, 3), (3, 2)), ((1, 4), (4, 2))
    routes = (
        RouteEntry(src=1, dst=2, edges=east),
        RouteEntry(src=1, dst=2, edges=west),
        RouteEntry(src=2, dst=1, edges=((2, 3), (3, 1))),
    )
    links = [(1, 3), (2, 3), (1, 4), (2, 4)]
    controller = await start(settings(database, 4, links=links, routes=routes))
    host = FakeProcess([1, 2, 3, 4])
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        pinned = m.FlowRequest(1, 2, 5, route=(1, 3, 2))
        await operator.request(m.StartFlows((pinned, m.FlowRequest(1, 2, 5), m.FlowRequest(1, 2, 5))))
    await host.until(lambda: len(host.nodes[1].flows) == 3)
    await host.request(1, began(1, 2, 3))
    await host.request(1, over(3, 5))
    await until_listed(controller, lambda flows: flows[3].state == "finished")
    node, packets = host.nodes[1], began(1).flows[0].flow_id
    async with sql(database) as db:
        await db.execute("SET ROLE nm_user")
        for statement, reason in ROUTE_STATEMENTS.items():
            with pytest.raises(psycopg.Error, match=reason):
                await db.execute(statement.encode())
        await db.execute("INSERT INTO flow_routes (flow_id, route_id) VALUES (2, 2)")
        await host.until(lambda: node.flows[2].route_id == 2)
        await db.execute("UPDATE flow_routes SET route_id = 2 WHERE flow_id = 1")
        await host.until(lambda: node.flows[1].route_id == 2)
        # A running flow whose route is gone takes another one.
        await db.execute("DELETE FROM routes WHERE route_id = 2")
        await host.until(lambda: 2 not in node.explicit)
        await db.execute("UPDATE user_flows SET rate_bps = 9000 WHERE flow_id = 1")
        await host.until(lambda: node.flows[1].rate_bps == 9000)
        await db.execute("DELETE FROM flow_routes WHERE flow_id = 1")
        await host.until(lambda: node.flows[1].route_id is None)
    for route in (1, 1, 2, 0):
        await host.request(1, m.RouteAssigned((m.RouteAssignment(packets, route, START),)))
    found = await listed(controller)
    assert (found[1].state, found[1].route_id, found[1].taken_route) == ("running", None, None)
    async with operating(controller) as operator:
        events = await operator.request(m.GetEvents())
    assert isinstance(events, m.Events)
    moved = [event.detail for event in events.events if event.name == "flow.moved"]
    assert [(each["flows"], each["route"]) for each in moved] == [([1], 2), ([1], 0)]
