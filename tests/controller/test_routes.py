"""Test several routes of a pair and pins: liveness, requests of operators, SQL, restarts, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from orchestrator.controller import route_requests
from orchestrator.controller.explicit_routes import ExplicitRoutes
from orchestrator.controller.service import Controller
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import DatabaseSettings, RouteEntry
from orchestrator.store import PinRow, RouteRow
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

LINKS = {(1, 2), (2, 3), (3, 4), (1, 4)}
EAST, WEST = ((1, 2), (2, 3)), ((1, 4), (4, 3))
EVERYTHING = frozenset(pair for a, b in LINKS for pair in ((a, b), (b, a)))


def routes(*rows: RouteRow) -> ExplicitRoutes:
    found = ExplicitRoutes()
    problems: dict[str, str] = {}
    found.change({row.route_id: row for row in rows}, LINKS, problems)
    assert problems == {}
    found.set_carrying(EVERYTHING)
    return found


def test_a_dead_route_is_taken_from_its_nodes_and_comes_back() -> None:
    other = RouteRow(3, 4, 2, ((4, 1), (1, 2)))
    explicit = routes(RouteRow(1, 1, 3, EAST), RouteRow(2, 1, 3, WEST, weight=5), other)
    assert explicit.of_node(1).keys() == {1, 2, 3}
    assert explicit.of_node(1)[2].weight == 5
    assert explicit.set_carrying(EVERYTHING - {(2, 3)}) == {1, 2}
    assert (explicit.of_node(1).keys(), explicit.of_node(2).keys(), explicit.dead) == ({2, 3}, set(), {1})
    assert explicit.state_of(1) == "down"
    assert explicit.set_carrying(EVERYTHING - {(2, 3), (1, 4)}) == {1, 2}
    # No route of the pair is left: none of them is replaced by a shortest path.
    assert (explicit.of_node(1).keys(), explicit.dead) == ({1, 2, 3}, {1, 2})
    assert explicit.set_carrying(EVERYTHING - {(3, 2)}) == set()
    assert (explicit.of_node(1).keys(), explicit.dead) == ({1, 2, 3}, set())


def test_a_route_that_branches_lives_as_long_as_one_branch_arrives() -> None:
    explicit = routes(RouteRow(1, 1, 3, (*EAST, *WEST)))
    assert explicit.set_carrying(EVERYTHING - {(2, 3)}) == set()
    assert explicit.dead == set()
    explicit.set_carrying(EVERYTHING - {(2, 3), (4, 3)})
    assert explicit.dead == {1}


def test_a_route_that_is_changed_or_removed_leaves_nothing_behind() -> None:
    explicit = routes(RouteRow(1, 1, 3, EAST), RouteRow(2, 1, 3, WEST))
    explicit.set_carrying(EVERYTHING - {(1, 2)})
    touched = explicit.change({1: RouteRow(1, 1, 4, ((1, 2), (2, 3), (3, 4)))}, LINKS, {})
    assert touched == {1, 2, 3} and explicit.state_of(1) == "down"
    problems: dict[str, str] = {}
    explicit.change({1: RouteRow(1, 1, 3, ((1, 3),)), 2: None}, LINKS, problems)
    assert list(problems) == ["route 1"] and explicit.state_of(1) == "invalid"
    assert [explicit.of_node(node) for node in range(1, 5)] == [{}] * 4
    assert (explicit.dead, explicit.of_pair(1, 3)) == (set(), [])


def test_computed_routes_that_are_all_dead_give_way_to_the_shortest_path() -> None:
    explicit = routes(RouteRow(1, 1, 3, EAST, "computed"), RouteRow(2, 1, 3, WEST, "computed"))
    explicit.set_carrying(EVERYTHING - {(2, 3), (1, 4)})
    assert explicit.of_node(1) == {}
    explicit.set_carrying(EVERYTHING - {(1, 4)})
    assert explicit.of_node(1).keys() == {1}


def test_pins_are_sent_to_the_source_of_their_flows() -> None:
    explicit = routes(RouteRow(1, 1, 3, EAST), RouteRow(2, 1, 3, WEST))
    assert explicit.change_pins({7: PinRow(7, 1, 3, 2, 6, None, 80)}) == {1}
    assert explicit.pins_of_node(1) == {7: m.Pin(7, 1, 3, 2, 6, None, 80)}
    assert explicit.pins_of_route(2) == [7]
    assert explicit.change_pins({7: None, 8: None}) == {1}
    assert (explicit.pins_of_node(1), explicit.pins_of_route(2)) == ({}, [])


@asynccontextmanager
async def operating(controller: Controller) -> AsyncIterator[Connection]:
    async with await connect(url(controller), OPERATOR_TOKEN, "operator") as connection:
        yield connection


async def value(operator: Connection, message: m.Message) -> Any:
    reply = await operator.request(message)
    assert isinstance(reply, m.Ack)
    return reply.value


async def lab(
    start: Start, database: dict[str, Any], *declared: RouteEntry
) -> tuple[Controller, FakeProcess]:
    controller = await start(settings(database, 4, routes=declared))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    return controller, host


@pytest.mark.integration
async def test_an_operator_adds_changes_and_deletes_routes_and_pins(
    start: Start, database: dict[str, Any]
) -> None:
    controller, host = await lab(start, database, RouteEntry(src=1, dst=3, edges=EAST))
    async with operating(controller) as operator:
        added = await value(operator, m.AddRoute(1, 3, path=(1, 4, 3), weight=3.0))
        number = added["route_id"]
        assert (added["state"], added["share"], added["origin"]) == ("up", 0.75, "operator")
        # In force when it is acknowledged, and sent to the nodes of the route alone.
        assert host.nodes[1].explicit[number] == m.Route(number, 1, 3, (4,), 3.0)
        assert host.nodes[4].explicit.keys() == {number} and not host.nodes[3].explicit
        pin = await value(operator, m.AddPin(number, 6, None, 5201))
        assert host.nodes[1].pins == {pin["pin_id"]: m.Pin(pin["pin_id"], 1, 3, number, 6, None, 5201)}
        assert not host.nodes[4].pins
        host.received.clear()
        changed = await value(operator, m.ChangeRoute(number, weight=1.0))
        assert (changed["share"], changed["pins"]) == (0.5, [pin["pin_id"]])
        assert dict(host.received) == {"InstallRoutes": 2}
        listed = await value(operator, m.GetExplicitRoutes(1, 3))
        assert [(each["route_id"], each["weight"]) for each in listed] == [(1, 1.0), (number, 1.0)]
        await value(operator, m.SetLinkState(1, 4, True))
        listed = await value(operator, m.GetExplicitRoutes())
        assert [(each["state"], each["share"]) for each in listed] == [("up", 1.0), ("down", 0.0)]
        assert host.nodes[1].explicit.keys() == {1}
        await value(operator, m.DeleteRoute(number))
        assert await value(operator, m.GetPins()) == [] and host.nodes[1].pins == {}
        await value(operator, m.DeleteRoute(1))
        assert host.nodes[1].explicit == {}
        events = await operator.request(m.GetEvents())
        assert isinstance(events, m.Events)
        told = [event for event in events.events if event.name.startswith(("route.", "flow."))]
        names = ["route.added", "flow.pinned", "route.changed", "route.deleted", "route.deleted"]
        assert [event.name for event in told] == names
        assert {event.detail["cause"] for event in told} == {"operator"}


@pytest.mark.integration
async def test_changes_outlast_the_controller(start: Start, database: dict[str, Any]) -> None:
    declared = RouteEntry(src=1, dst=3, edges=EAST, weight=2.0)
    controller, _ = await lab(start, database, declared)
    async with operating(controller) as operator:
        added = await value(operator, m.AddRoute(1, 3, path=(1, 4, 3), weight=3.0))
        pin = await value(operator, m.AddPin(added["route_id"]))
        second = await value(operator, m.AddPin(1))
        await value(operator, m.DeleteRoute(1))
    await controller.stop()
    controller, host = await lab(start, database, declared)
    assert host.nodes[1].explicit == {added["route_id"]: m.Route(added["route_id"], 1, 3, (4,), 3.0)}
    assert host.nodes[1].pins.keys() == {pin["pin_id"]} and second["pin_id"] not in host.nodes[1].pins
    assert controller.core.problems() == ()


@pytest.mark.integration
async def test_a_route_of_the_file_that_sql_changed_and_deleted_does_not_come_back(
    start: Start, database: dict[str, Any]
) -> None:
    declared = RouteEntry(src=1, dst=3, edges=EAST), RouteEntry(src=1, dst=3, edges=WEST)
    controller, host = await lab(start, database, *declared)
    async with operating(controller) as operator:
        await value(operator, m.ChangeRoute(2, weight=3.0))
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        await sql.execute("UPDATE routes SET weight = 2 WHERE route_id = 1")
        await host.until(lambda: host.nodes[1].explicit[1].weight == 2)
        await sql.execute("DELETE FROM routes")
        await host.until(lambda: not host.nodes[1].explicit)
    await controller.stop()
    controller, host = await lab(start, database, *declared)
    assert host.nodes[1].explicit == {} and controller.core.lab.explicit.rows == {}


@pytest.mark.integration
async def test_what_is_no_route_is_refused_with_the_reason_and_changes_nothing(
    start: Start, database: dict[str, Any]
) -> None:
    controller, host = await lab(start, database, RouteEntry(src=1, dst=3, edges=EAST))
    path = (1, 4, 3)
    refused: list[tuple[m.Message, str]] = [
        (m.AddRoute(1, 3, path=path, weight=0.0), "route.weight"),
        (m.AddRoute(1, 3, path=path, weight=-1.0), "route.weight"),
        (m.AddRoute(1, 3, path=path, weight=float("nan")), "protocol.body"),
        (m.AddRoute(1, 3, path=path, weight=1e7), "route.weight"),
        (m.AddRoute(1, 3, path=(1, 3)), "route.invalid"),
        (m.AddRoute(1, 3, path=(1, 2)), "route.invalid"),
        (m.AddRoute(1, 3), "route.invalid"),
        (m.AddRoute(1, 3, path=path, edges=WEST), "route.invalid"),
        (m.AddRoute(1, 3, edges=((1, 2), (2, 1), (2, 3))), "route.invalid"),
        (m.AddRoute(1, 1, path=(1, 2, 1)), "route.invalid"),
        (m.AddRoute(1, 9, path=(1, 9)), "node.unknown"),
        (m.ChangeRoute(1, weight=0.0), "route.weight"),
        (m.ChangeRoute(1, path=(1, 2)), "route.invalid"),
        (m.ChangeRoute(2**40, weight=1.0), "route.unknown"),
        (m.DeleteRoute(77), "route.unknown"),
        (m.AddPin(77), "route.unknown"),
        (m.AddPin(1, 1, 5, None), "pin.invalid"),
        (m.DeletePin(5), "pin.unknown"),
        (m.GetFlowRoutes(9), "node.unknown"),
    ]
    before = dict(host.received)
    async with operating(controller) as operator:
        for message, error in refused:
            with pytest.raises(PeerError) as caught:
                await operator.request(message)
            assert caught.value.id == error, (message, caught.value.message)
    assert dict(host.received) == before and controller.core.lab.explicit.rows.keys() == {1}


@pytest.mark.integration
async def test_routes_and_pins_of_operators_and_of_sql_never_get_one_number(
    start: Start, database: dict[str, Any]
) -> None:
    controller, _ = await lab(start, database, RouteEntry(src=1, dst=3, edges=EAST))
    conninfo = DatabaseSettings(**database).conninfo()
    insert = "INSERT INTO routes ({}src_node_id, dst_node_id, edges) VALUES ({}1, 3, '[1, 4, 3]')"
    returning = insert.format("", "") + " RETURNING route_id"
    async with (
        operating(controller) as operator,
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql,
    ):
        # A number that a statement gave by itself is left out by whoever comes next.
        for number in (2, 4, 999_999):
            await sql.execute(insert.format("route_id, ", f"{number}, ").encode())
        numbers = []
        for _ in range(2):
            numbers.append((await value(operator, m.AddRoute(1, 3, path=(1, 4, 3))))["route_id"])
            numbers += await (await sql.execute(returning.encode())).fetchone() or ()
        assert numbers == [3, 5, 6, 7]
        await sql.execute("SELECT setval('route_numbers', 999998), setval('pin_numbers', 8)")
        assert (await value(operator, m.AddRoute(1, 3, path=(1, 4, 3))))["route_id"] == 1_000_000
        assert await (await sql.execute(returning.encode())).fetchone() == (1_000_001,)
        await sql.execute("INSERT INTO flow_pins (pin_id, route_id) VALUES (9, 1)")
        assert (await value(operator, m.AddPin(1)))["pin_id"] == 10
        pinned = await sql.execute("INSERT INTO flow_pins (route_id) VALUES (1) RETURNING pin_id")
        assert await pinned.fetchone() == (11,)


@pytest.mark.integration
async def test_a_node_that_cannot_take_a_route_is_named(
    start: Start, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_requests, "APPLY_LIMIT", 0.2)
    controller, host = await lab(start, database)
    host.refuse = lambda message: isinstance(message, m.InstallRoutes)
    async with operating(controller) as operator:
        with pytest.raises(
            PeerError,
            match=r"route 1 waits until .* node 2 has not confirmed its routes: InstallRoutes was refused",
        ) as caught:
            await operator.request(m.AddRoute(1, 3, path=(1, 2, 3)))
        assert caught.value.id == "route.not-applied"
        # It was not lost: the nodes are told again when they can.
        host.refuse = lambda message: False
        await host.until(lambda: len(host.nodes[1].explicit) == len(host.nodes[2].explicit) == 1)


@pytest.mark.integration
async def test_a_relay_that_is_silent_keeps_the_source_from_a_route_and_is_named(
    start: Start, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a connection of its own, so that nothing but its confirmation puts it before the source."""
    monkeypatch.setattr(route_requests, "APPLY_LIMIT", 0.2)
    controller = await start(settings(database, 4, routes=(RouteEntry(src=1, dst=3, edges=WEST),)))
    host, relay = FakeProcess([1, 3, 4], 7), FakeProcess([2], 8)
    for process in (host, relay):
        process.slow = {1, 2, 3, 4}
        await process.join(url(controller))
    for process in (host, relay):
        await process.until(lambda p=process: all(len(n.links) == 2 for n in p.nodes.values()))  # type: ignore[misc]  # a default binds the loop's variable
        for node in process.nodes.values():
            for remote in node.links:
                process.comes_up(node.id, remote)
            process._maybe_ready(node)
    await host.until(lambda: host.nodes[1].ready)
    silent = asyncio.Event()
    relay.before = silent.wait
    async with operating(controller) as operator:
        for message in (m.AddRoute(1, 3, path=(1, 2, 3)), m.ChangeRoute(1, path=(1, 2, 3))):
            with pytest.raises(PeerError, match=r"route . waits until .* node 2 has not confirmed") as caught:
                await operator.request(message)
            assert caught.value.id == "route.not-applied"
        assert [route.next_hops for route in host.nodes[1].explicit.values()] == [(4,)]
        silent.set()
        await host.until(lambda: [r.next_hops for r in host.nodes[1].explicit.values()] == [(2,), (2,)])
        await host.until(lambda: not host.nodes[4].explicit)


STATEMENTS = {
    "a weight of zero": ("23514", "UPDATE routes SET weight = 0"),
    "a negative weight": ("23514", "UPDATE routes SET weight = -1"),
    "a weight that is none": ("23514", "UPDATE routes SET weight = 'NaN'"),
    "an endless weight": ("23514", "UPDATE routes SET weight = 'Infinity'"),
    "a weight of nothing": ("23502", "UPDATE routes SET weight = NULL"),
    "a route number of 33 bits": (
        "23514",
        "INSERT INTO routes (route_id, src_node_id, dst_node_id, edges)"
        " VALUES (4294967296, 1, 3, '[1, 2, 3]')",
    ),
    "a pin to no route": ("23503", "INSERT INTO flow_pins (route_id) VALUES (77)"),
    "a pin to a route of another pair": (
        "23514",
        "INSERT INTO flow_pins (route_id, src_node_id, dst_node_id) VALUES (1, 3, 1)",
    ),
    "a pin of a node that there is not": (
        "23514",
        "INSERT INTO flow_pins (route_id, src_node_id, dst_node_id) VALUES (1, 1, 9)",
    ),
    "a pin with a port of 17 bits": ("23514", "INSERT INTO flow_pins (route_id, dst_port) VALUES (1, 65536)"),
    "a pin of a protocol of 9 bits": ("23514", "INSERT INTO flow_pins (route_id, protocol) VALUES (1, 256)"),
    "a pin of pings with a port": (
        "23514",
        "INSERT INTO flow_pins (route_id, protocol, src_port) VALUES (1, 1, 7)",
    ),
    "a pin to a text": ("22P02", "INSERT INTO flow_pins (route_id) VALUES ('west')"),
    "no pins at once": ("42501", "TRUNCATE flow_pins"),
}


@pytest.mark.integration
async def test_sql_changes_weights_and_pins_and_is_refused_alike(
    start: Start, database: dict[str, Any]
) -> None:
    controller, host = await lab(start, database, RouteEntry(src=1, dst=3, edges=EAST))
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    node = host.nodes[1]
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        for name, (state, statement) in STATEMENTS.items():
            with pytest.raises(psycopg.Error) as caught:
                await sql.execute(statement.encode())
            assert caught.value.sqlstate == state, (name, caught.value)
        assert not await (await sql.execute("SELECT * FROM sql_changes")).fetchall()
        await sql.execute(
            "INSERT INTO routes (route_id, src_node_id, dst_node_id, edges, weight)"
            " VALUES (7, 1, 3, '[1, 4, 3]', 2.5)"
        )
        await host.until(lambda: 7 in node.explicit and node.explicit[7].weight == 2.5)
        await sql.execute("INSERT INTO flow_pins (route_id, protocol, dst_port) VALUES (7, 17, 53)")
        await host.until(lambda: [(pin.route_id, pin.dst_port) for pin in node.pins.values()] == [(7, 53)])
        with pytest.raises(psycopg.Error, match="pinned to route 7"):
            await sql.execute("UPDATE routes SET dst_node_id = 4, edges = '[1, 4]' WHERE route_id = 7")
        await sql.execute("UPDATE flow_pins SET dst_port = 54")
        await host.until(lambda: [pin.dst_port for pin in node.pins.values()] == [54])
        await sql.execute("UPDATE routes SET weight = 4 WHERE route_id = 7")
        await host.until(lambda: node.explicit[7].weight == 4)
        await sql.execute("DELETE FROM routes WHERE route_id = 7")
        await host.until(lambda: 7 not in node.explicit and not node.pins)
        assert not await (await sql.execute("SELECT * FROM rejections")).fetchall()
    await asyncio.sleep(0)
    assert controller.core.problems() == ()


@pytest.mark.integration
async def test_flows_and_their_routes_are_asked_of_the_nodes_where_they_begin(
    start: Start, database: dict[str, Any]
) -> None:
    controller, host = await lab(start, database, RouteEntry(src=1, dst=3, edges=EAST))
    flow = "udp 10.0.0.1:5 > 10.0.0.3:6"
    host.flow_routes = {"flows": [[flow, 1, "fallback", 20]], "known": 9, "forgotten": 2}
    async with operating(controller) as operator:
        found = await value(operator, m.GetFlowRoutes())
        listed = {"node_id": 1, "flow": flow, "route_id": 1, "by": "fallback", "idle_ms": 20}
        assert found == {"flows": [listed], "known": 9, "forgotten": 2, "silent": []}
        assert host.received["ListFlowRoutes"] == 1
        await host.die()
        await controller.core.wait_until(lambda: controller.core.lab.registry.node(1).peer is None, 5)
        assert (await value(operator, m.GetFlowRoutes()))["silent"] == [1]
