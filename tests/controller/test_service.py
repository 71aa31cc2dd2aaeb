"""Test the controller with a real Postgres and real sockets, without packets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import connect as raw_connect
from websockets.exceptions import ConnectionClosed

from orchestrator.controller import node_handler
from orchestrator.controller.service import Controller
from orchestrator.errors import StartFailed, StoreUnavailable
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import MAX_MESSAGE, VERSION, Frame, PeerError, decode_frames, encode, node_token
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import LinkEntry, RouteEntry
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import NODE_KEY, OPERATOR_TOKEN, FakeNode, FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

Database = dict[str, Any]


async def operator(controller: Controller) -> Connection:
    return await connect(url(controller), OPERATOR_TOKEN, "operator")


async def status(connection: Connection) -> m.Status:
    reply = await connection.request(m.GetStatus(), within=10)
    assert isinstance(reply, m.Status)
    return reply


async def events(connection: Connection) -> tuple[m.Event, ...]:
    """Return the lab's events."""
    reply = await connection.request(m.GetEvents(), within=10)
    assert isinstance(reply, m.Events)
    return reply.events


async def test_a_ring_becomes_ready_and_every_node_knows_the_way(start: Start, database: Database) -> None:
    controller = await start(settings(database, 5))
    here, there = FakeProcess([1, 2, 3], 7), FakeProcess([4, 5], 8)
    await ready_lab(controller, [here, there])
    assert here.nodes[1].hop(2) == 2 and here.nodes[1].hop(5) == 5
    assert here.nodes[2].hop(4) == 3 and there.nodes[4].hop(1) == 5
    assert here.nodes[1].links[2].same_process and not here.nodes[1].links[2].dial
    dialling = there.nodes[4].links[3]
    assert (dialling.dial, dialling.remote_addr) == (True, "10.1.0.3:8080")
    accepting = here.nodes[3].links[4]
    assert (accepting.dial, accepting.remote_addr, accepting.remote_process) == (False, "", 8)
    assert here.received["TopologyReady"] == there.received["TopologyReady"] == 1
    settings_of = here.nodes[2].settings
    assert settings_of is not None and (settings_of.node_id, settings_of.seed) == (2, 7)
    shown = await status(await operator(controller))
    assert (shown.state, shown.health) == ("ready", "ok")
    assert [node.address for node in shown.nodes] == [f"10.0.0.{n}" for n in range(1, 6)]
    assert {link.state for link in shown.links} == {"up"}


async def test_a_run_calls_once_for_the_agent_of_each_process(start: Start, database: Database) -> None:
    controller = await start(settings(database, 5))
    here, there = FakeProcess([1, 2, 3], 7), FakeProcess([4, 5], 8)
    await ready_lab(controller, [here, there])
    connection = await operator(controller)
    run = m.StartRun("r1", "hello", {"a": (1, 3), "b": (4,)}, {"roles.py": b""}, {}, 7, 60.0)
    with pytest.raises(PeerError) as refusal:
        await connection.request(run, within=10)
    assert refusal.value.id == "run.no-agent"
    await here.until(lambda: here.received["AgentWanted"] > 0)
    await there.until(lambda: there.received["AgentWanted"] > 0)
    assert here.received["AgentWanted"] == there.received["AgentWanted"] == 1


async def test_waiting_for_a_lab_names_what_is_missing(start: Start, database: Database) -> None:
    controller = await start(settings(database, 3))
    waiting = await operator(controller)
    await FakeProcess([1, 3], 7).join(url(controller))
    with pytest.raises(PeerError) as caught:
        await waiting.request(m.WaitReady(300), within=10)
    assert caught.value.id == "lab.not-ready"
    assert "node 2: it has not registered" in caught.value.message
    progress = [frame.message for frame in waiting.take() if isinstance(frame.message, m.StatusChanged)]
    assert progress and progress[-1].total == 3
    answer = asyncio.create_task(waiting.request(m.WaitReady(10_000), within=12))
    await FakeProcess([2], 8).join(url(controller))
    reply = await answer
    assert isinstance(reply, m.Status) and reply.state == "ready"


async def test_a_vacant_external_node_does_not_count_and_can_join_later(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 4, external=[4]))
    inside = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [inside])
    asking = await operator(controller)
    assert [node.state for node in (await status(asking)).nodes] == ["ready"] * 3 + ["vacant"]
    assert inside.nodes[1].hop(4) == 0 and inside.nodes[1].hop(3) == 2
    external = FakeProcess([4], 9, external=True)
    await external.join(url(controller))
    await external.until(lambda: external.nodes[4].ready)
    await inside.until(lambda: inside.nodes[1].hop(4) == 4)
    assert external.nodes[4].links[1].dial and not inside.nodes[1].links[4].dial
    assert external.connection is not None
    await external.connection.send(m.Goodbye("the program ended"), node=4)
    await inside.until(lambda: inside.nodes[2].states.get(4) == "vacant" and inside.nodes[1].hop(4) == 0)
    await external.die()
    external.forget()
    await external.join(url(controller))
    await external.until(lambda: external.nodes[4].ready)
    assert [node.state for node in (await status(asking)).nodes] == ["ready"] * 4
    await external.die()  # without a word this time
    await inside.until(lambda: inside.nodes[2].states.get(4) == "vacant" and inside.nodes[1].hop(4) == 0)
    assert (await status(asking)).state == "ready"


async def test_a_program_that_dies_before_it_is_ready_was_there_all_the_same(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = await start(settings(database, 4, external=[4]))
    inside = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [inside])
    external = FakeProcess([4], 9, external=True)
    monkeypatch.setattr(external, "_maybe_ready", lambda _node: None)
    await external.join(url(controller))
    await inside.until(lambda: inside.nodes[1].states.get(4) == "starting")
    await external.die()
    await inside.until(lambda: inside.nodes[1].states.get(4) == "vacant")


async def test_a_dead_node_is_routed_around_and_gets_everything_again(
    start: Start, database: Database
) -> None:
    slow = LinkSpec(rate_bps=1_000_000, delay_us=500)
    links = [LinkEntry(a=1, b=2, forward=slow), (2, 3), (3, 4), (1, 4)]
    route = RouteEntry(src=1, dst=3, edges=((1, 2), (2, 3)), path=(1, 2, 3))
    controller = await start(settings(database, 4, links=links, routes=(route,)))
    host, mortal = FakeProcess([1, 3, 4], 7), FakeProcess([2], 8)
    await ready_lab(controller, [host, mortal])
    await host.request(1, m.CreateGroup("w"))
    await mortal.request(2, m.JoinGroup(1))
    await mortal.until(lambda: 1 in mortal.nodes[2].trees)
    before = mortal.nodes[2]
    asking = await operator(controller)
    await mortal.die()
    while not controller.core.lab.registry.node(2).expected_back:  # noqa: ASYNC110  nobody is told of this
        await asyncio.sleep(0)
    shown = controller.operators.status()
    assert shown.state == "degraded" and shown.nodes[1].state == "unreachable"
    assert [link.state for link in shown.links] == ["starting", "starting", "up", "up"]
    with pytest.raises(PeerError) as caught:  # who waits is not told "ready", though the node may come back
        await asking.request(m.WaitReady(50), within=10)
    assert "node 2: it has not come back" in caught.value.message
    await host.until(lambda: host.nodes[1].states.get(2) == "unreachable")
    await host.until(lambda: host.nodes[3].hop(1) == 4 and host.nodes[1].hop(2) == 0)
    assert (await status(await operator(controller))).state == "degraded"
    mortal.forget()
    await mortal.join(url(controller))
    await mortal.until(lambda: mortal.nodes[2].ready and 1 in mortal.nodes[2].trees)
    after = mortal.nodes[2]
    assert (after.routes, after.explicit, after.groups) == (before.routes, before.explicit, before.groups)
    assert after.trees[1].routes == before.trees[1].routes
    assert after.links[1].link == LinkSpec() and host.nodes[1].links[2].link == slow
    assert host.nodes[1].links[2].remote_process == mortal.process
    await host.until(lambda: host.nodes[1].states.get(2) == "ready")
    assert (await status(await operator(controller))).state == "ready"


async def test_a_node_whose_engine_was_started_anew_gets_everything_again(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 3))
    here, there = FakeProcess([1, 2], 7), FakeProcess([3], 8)
    await ready_lab(controller, [here, there])
    asking = await operator(controller)
    await here.request(1, m.CreateGroup("all"))
    await here.request(2, m.JoinGroup(1))
    await here.until(lambda: 1 in here.nodes[2].trees)
    before = here.nodes[2]
    # The dataplane says what happened and registers with nothing, on the connection that it has.
    assert here.connection is not None
    fresh = here.nodes[2] = FakeNode(2)
    event = m.NodeEvent("node.engine_restarted", {"reason": "the packet engine of node 2 failed: x (y:1)"})
    here.connection.send_nowait(event, node=2)
    hello = m.StartUp("lab", "10.1.0.2:8080", "", False, 7, 1500, m.Have())
    await here.connection.request(hello, node=2, within=10)
    await here.until(lambda: fresh.said_ready and 1 in fresh.trees and fresh.groups == before.groups)
    assert fresh.links == before.links and fresh.hop(3) == before.hop(3)
    restarted = controller.core.lab.registry.node(2)
    assert await controller.core.wait_until(lambda: restarted.state == "ready", 10)
    assert (await status(asking)).state == "ready"
    [told] = [each for each in (await events(asking)) if each.name == "node.engine_restarted"]
    assert isinstance(told.detail, dict) and "failed: x" in told.detail["reason"]
    assert here.received["AddNode"] == 2 + 2 + 2, "both links of node 2 once more, and nobody else's"


async def test_a_second_process_for_an_external_node_is_refused(start: Start, database: Database) -> None:
    controller = await start(settings(database, 2))
    first = FakeProcess([1, 2], 7)
    await ready_lab(controller, [first])
    second = await connect(url(controller), node_token(NODE_KEY, 1), "node", process=9, node=1)
    with pytest.raises(PeerError) as caught:
        await second.request(m.StartUp("lab", "h:1", process=9, token=node_token(NODE_KEY, 2)), node=2)
    assert caught.value.id == "node.taken"
    with pytest.raises(PeerError) as caught:
        await second.request(m.StartUp("lab", "h:1", process=9, token=node_token(NODE_KEY, 99)), node=99)
    assert caught.value.id == "node.unknown"
    with pytest.raises(PeerError) as caught:
        await second.request(m.CreateGroup("x"), node=1)
    assert caught.value.id == "node.unregistered"
    await first.request(1, m.CreateGroup("still here"))


async def test_groups_and_trees_by_hand_and_computed(start: Start, database: Database) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    nodes = host.nodes
    early = asyncio.create_task(host.request(3, m.JoinGroup(1, 5000)))
    made = await host.request(1, m.CreateGroup("weights"))
    assert made == {"group_id": 1, "group_ip": "239.255.0.10", "src_node_id": 1, "label": "weights"}
    await early
    assert await host.request(1, m.CreateGroup("weights")) == made
    with pytest.raises(PeerError, match="belongs to node 1"):
        await host.request(2, m.CreateGroup("weights"))
    await host.request(2, m.JoinGroup(1))
    await host.until(lambda: 1 in nodes[2].trees and nodes[2].trees[1].routes[0].local)
    assert nodes[2].trees[1].routes[0].next_hops == (3,) and nodes[2].trees[1].routes[0].local
    assert 1 not in nodes[4].trees
    await host.request(1, m.SetGroupRoutes(1, ((1, 4), (4, 3), (3, 2))))
    await host.until(lambda: 1 in nodes[4].trees)
    assert [nodes[n].trees[1].routes[0].next_hops for n in (1, 4, 3, 2)] == [(4,), (3,), (2,), ()]
    for edges, reason in [
        (((1, 2),), "does not reach the members 3"),
        (((1, 3),), "no link between 1 and 3"),
        (((1, 2), (2, 3), (1, 4), (4, 3)), "node 3 is reached twice, from 2 and from 4"),
        (((1, 2), (2, 1)), "leads back to the source"),
        (((1, 2), (3, 4)), "not connected to the source"),
    ]:
        with pytest.raises(PeerError, match=reason) as caught:
            await host.request(1, m.SetGroupRoutes(1, edges))
        assert caught.value.id == "tree.invalid"
    foreign = (m.SetGroupRoutes(1, ((1, 2),)), m.SetGroupRoutesMulti(1, ()), m.ComputeGroupRoutes(1, (2,)))
    for message in foreign:
        with pytest.raises(PeerError, match="node 4 is neither the source nor a member") as caught:
            await host.request(4, message)
        assert caught.value.id == "tree.forbidden"
    assert nodes[4].trees[1].routes[0].next_hops == (3,)
    await host.request(2, m.SetGroupRoutes(1, ((1, 4), (4, 3), (3, 2))))  # a member may
    edges = await host.request(1, m.ComputeGroupRoutes(1, (2, 3, 4)))
    assert edges == [[1, 2], [1, 4], [2, 3]]
    trees = (m.Tree(0, ((1, 2), (2, 3))), m.Tree(7, ((1, 4), (4, 3), (3, 2)), 0.5))
    await host.request(1, m.SetGroupRoutesMulti(1, trees))
    await host.until(lambda: len(nodes[3].trees[1].routes) == 2)
    assert {route.route_id for route in nodes[3].trees[1].routes} == {65_536, 65_543}
    await host.request(2, m.LeaveGroup(1))
    await host.until(lambda: not nodes[2].trees[1].routes[0].local)
    await host.until(lambda: {change.joined for change in nodes[1].members} == {True, False})
    with pytest.raises(PeerError, match="there is no group 9"):
        await host.request(2, m.JoinGroup(9))
    with pytest.raises(PeerError) as expired:
        await host.request(2, m.JoinGroup(9, 50))
    assert expired.value.hint == "its source did not create it in time"


async def test_a_link_is_changed_live_and_reset(start: Start, database: Database) -> None:
    declared = LinkSpec(rate_bps=10**9)
    links = [LinkEntry(a=1, b=2, forward=declared, backward=declared)]
    controller = await start(settings(database, 2, links=links))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    asking = await operator(controller)

    async def change(**fields: Any) -> Any:
        reply = await asking.request(m.SetLinkSpec(**fields), within=10)
        assert isinstance(reply, m.Ack)
        return reply.value

    delay = LinkSpec(delay_us=20_000)
    value = await change(a=2, b=1, direction="forward", spec=delay, merge=True)
    assert value == {"forward": {"rate_bps": 10**9, "delay_us": 20_000}, "backward": {"rate_bps": 10**9}}
    assert host.nodes[2].links[1].link == LinkSpec(rate_bps=10**9, delay_us=20_000)
    assert host.nodes[1].links[2].link == declared
    await change(a=1, b=2, spec=LinkSpec(loss=0.05))
    assert host.nodes[1].links[2].link == host.nodes[2].links[1].link == LinkSpec(loss=0.05)
    assert host.received["AddNode"] == 2 and host.received["SetLink"] == 3
    await change(a=1, b=2, reset=True)
    assert host.nodes[2].links[1].link == declared
    jitter = LinkSpec(jitter_us=1)  # larger than the delay
    weights = dict.fromkeys(range(1, 1025), 2)
    queued = LinkSpec(
        queue="codel", ecn=True, scheduler="drr", scheduler_by="dst_port", scheduler_weights=weights
    )
    value = await change(a=1, b=2, spec=queued, merge=True, backward=LinkSpec(queue="red"))
    assert value["forward"] == {"rate_bps": 10**9, **queued.to_wire()}
    assert value["backward"] == {"rate_bps": 10**9, "queue": "red"}
    assert host.nodes[1].links[2].link == queued.over(declared)
    assert host.nodes[2].links[1].link == LinkSpec(rate_bps=10**9, queue="red")
    for fields in [
        {"a": 1, "b": 2, "spec": LinkSpec(queue="taildrop"), "merge": True},  # while there is `ecn`
        {"a": 1, "b": 2, "spec": LinkSpec(queue="codel")},  # without a rate
        {"a": 1, "b": 3},
        {"a": 1, "b": 2},
        {"a": 1, "b": 2, "direction": "up", "spec": delay},
        {"a": 1, "b": 2, "spec": jitter, "merge": True},
    ]:
        with pytest.raises(PeerError):
            await change(**fields)
    events = await asking.request(m.GetEvents())
    assert isinstance(events, m.Events)
    changes = [event for event in events.events if event.name == "link.changed"]
    assert [event.detail["forward"] for event in changes] == [
        {"rate_bps": 10**9, "delay_us": 20_000},
        {"loss": 0.05},
        {"rate_bps": 10**9},
        {"rate_bps": 10**9, **queued.to_wire(), "scheduler_weights": {"count": 1_024}},
    ]


async def test_a_node_that_cannot_do_as_told_is_named(start: Start, database: Database) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    host.refuse = lambda message: isinstance(message, m.InstallRoutes)
    await host.join(url(controller))
    with pytest.raises(PeerError, match="InstallRoutes was refused: it cannot"):
        await (await operator(controller)).request(m.WaitReady(300))


async def test_tokens_and_roles_keep_to_their_own(start: Start, database: Database) -> None:
    controller = await start(settings(database, 2))
    own = node_token(NODE_KEY, 1)
    for token, role in [
        (own, "operator"),
        (OPERATOR_TOKEN, "node"),
        (OPERATOR_TOKEN, "agent"),
        (NODE_KEY, "node"),
    ]:
        with pytest.raises(PeerError) as caught:
            await connect(url(controller), token, role, node=1)
        assert caught.value.id == "control.token"
    node = await connect(url(controller), own, "node", node=1)
    for message in (m.GetStatus(), m.StartRun("r", "s", {}, {}, {}, 0, 1.0), m.AgentHello((1,))):
        with pytest.raises(PeerError) as caught:
            await node.request(message, node=1)
        assert caught.value.id == "control.refused"
    with pytest.raises(PeerError) as caught:
        await node.request(m.TopologyReady(), node=1)
    assert caught.value.id == "protocol.unknown-type"
    asking = await operator(controller)
    with pytest.raises(PeerError) as caught:
        await asking.request(m.StartUp("lab", "h:1"), node=1)
    assert caught.value.id == "control.refused"
    assert (await status(asking)).state == "starting"


async def test_changes_by_sql_reach_the_nodes(start: Start, database: Database) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    nodes = host.nodes
    made = await host.request(1, m.CreateGroup("mine"))
    dsn = controller.settings.db.conninfo()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as sql:
        await sql.execute("""UPDATE links SET forward_now = '{"loss": 0.5}' WHERE (a, b) = (1, 2)""")
        await host.until(lambda: nodes[1].links[2].link == LinkSpec(loss=0.5))
        await sql.execute("INSERT INTO links (a, b) VALUES (1, 3)")
        await host.until(lambda: 3 in nodes[1].links and nodes[1].hop(3) == 3)
        await sql.execute(
            "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[1,4],[4,3]]')"
        )
        await host.until(lambda: len(nodes[1].explicit) == 1 and len(nodes[4].explicit) == 1)
        [route] = nodes[1].explicit.values()
        assert (route.src_node_id, route.dst_node_id, route.next_hops) == (1, 3, (4,))
        await sql.execute("DELETE FROM routes")
        await host.until(lambda: not nodes[1].explicit and not nodes[4].explicit)
        await sql.execute("DELETE FROM links WHERE (a, b) = (1, 3)")
        await host.until(lambda: 3 not in nodes[1].links and nodes[1].hop(3) != 3)
        await sql.execute("INSERT INTO groups (group_id, label, src_node_id) VALUES (5, 'sql', 2)")
        await sql.execute("INSERT INTO group_members (group_id, node_id) VALUES (5, 4)")
        await host.until(lambda: 5 in nodes[4].trees and 5 in nodes[3].groups)
        assert nodes[3].groups[5].group_ip == "239.255.0.14"
        await sql.execute("DELETE FROM groups WHERE group_id = 5")
        await host.until(lambda: 5 not in nodes[4].trees and 5 not in nodes[3].groups)
    assert made["group_id"] in nodes[3].groups
    assert controller.core.problems() == ()


async def test_a_silent_postgres_is_named_within_the_limit(database: Database) -> None:
    nowhere = {**database, "host": "/nonexistent"}
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
        await Controller(settings(nowhere), store_limit=0.3).start()


async def test_invalid_input_is_answered_and_the_controller_stays_up(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    hello = encode(Frame(m.Hello(node_token(NODE_KEY, 1), VERSION, "node"), 1))
    whole = encode(Frame(m.JoinGroup(1), 1, 5))
    for invalid, error in [
        (whole[:-2], "protocol.truncated"),
        (b"\xc1", "protocol.malformed"),
        (b"\x95\x02" + whole[2:], "protocol.version"),
        (whole.replace(b"JoinGroup", b"BoilWater"), "protocol.unknown-type"),
        (whole.replace(b"group_id", b"grape_id"), "protocol.body"),
        (bytes(MAX_MESSAGE + 1), "protocol.too-large"),
        (encode(Frame(m.Hello(node_token(NODE_KEY, 1), VERSION, "node"), 1)), "protocol.unknown-type"),
    ]:
        async with raw_connect(url(controller), proxy=None, max_size=None) as socket:
            await socket.send(hello)
            await asyncio.wait_for(socket.recv(), 5)
            await socket.send(invalid)
            [answer] = decode_frames(await asyncio.wait_for(socket.recv(decode=False), 5))
            assert isinstance(answer.message, m.Error) and answer.message.error == error
            await socket.send(whole)  # the connection is still good for something
            [answer] = decode_frames(await asyncio.wait_for(socket.recv(decode=False), 5))
            assert isinstance(answer.message, m.Error) and answer.message.error == "node.unregistered"
    socket = await raw_connect(url(controller), proxy=None, close_timeout=1)
    await socket.send(hello)
    await socket.recv()
    with contextlib.suppress(Exception):  # so large that it is not even read to its end
        await socket.send(bytes(3 * MAX_MESSAGE))
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 10)
    await host.request(1, m.CreateGroup("still here"))


async def test_a_taken_port_is_named(start: Start, database: Database) -> None:
    controller = await start(settings(database, 2))
    _, port = controller.address
    with pytest.raises(StartFailed, match=f"cannot listen on 127.0.0.1:{port}"):
        await Controller(settings(database, 2, port=port)).start()


async def test_nodes_lost_together_are_given_up_together(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_handler, "RECONNECT_GRACE", 0.05)
    controller = await start(settings(database, 6))
    stays, dies = FakeProcess([1, 2, 3], 7), FakeProcess([4, 5, 6], 8)
    await ready_lab(controller, [stays, dies])
    await dies.die()
    await stays.until(lambda: set(stays.nodes[1].states.items()) >= {(n, "unreachable") for n in (4, 5, 6)})
    await dies.join(url(controller))
    await dies.until(lambda: all(node.said_ready for node in dies.nodes.values()))
    await stays.until(lambda: all(stays.nodes[1].states[n] == "ready" for n in (4, 5, 6)))


def health(controller: Controller) -> Any:
    host, port = controller.address
    with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5) as answer:
        return json.loads(answer.read())


async def test_measurements_of_every_node_precede_the_acknowledgement(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 4))
    here, silent = FakeProcess([1, 2, 3], 7), FakeProcess([4], 8)
    await ready_lab(controller, [here, silent])
    here.measured = m.LinkMeasurements(5, 7, 100, 0, 0, (m.LinkMeasurement(2, 9),))
    asking = await operator(controller)
    await asking.request(m.GetMeasurements(200), within=10)
    frames = [frame for frame in asking.take() if isinstance(frame.message, m.LinkMeasurements)]
    assert sorted(frame.node for frame in frames) == [1, 2, 3]  # node 4 does not answer in time
    assert all(frame.message == here.measured for frame in frames)
    await asking.close()


async def test_samples_and_measurements_of_two_operators_at_once_are_not_mixed_up(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 2))
    here = FakeProcess([1, 2], 7)
    await ready_lab(controller, [here])
    here.measured = m.LinkMeasurements(5, 7, 100, 0, 0, (m.LinkMeasurement(2, 9),))
    here.sample = m.NodeSample(6, 7, 100, 0, 0, links=(m.LinkSample(2, 9, 900),))
    one, other = await operator(controller), await operator(controller)
    asked = (one.request(m.GetMeasurements(2_000)), other.request(m.GetSamples(2_000)))
    await asyncio.gather(*asked)
    assert [(frame.node, frame.message) for frame in one.take()] == [(1, here.measured), (2, here.measured)]
    assert [(frame.node, frame.message) for frame in other.take()] == [(1, here.sample), (2, here.sample)]
    await one.close()
    await other.close()


async def test_an_operator_is_told_the_routes_of_a_node(start: Start, database: Database) -> None:
    detour = RouteEntry(src=2, dst=4, edges=((2, 1), (1, 4)))
    controller = await start(settings(database, 4, routes=(detour,)))
    await ready_lab(controller, [FakeProcess([1, 2, 3, 4], 7)])
    asking = await operator(controller)
    found = await asking.request(m.GetRoutes(2))
    assert isinstance(found, m.Routes)
    hops = [int.from_bytes(found.table[4 * node : 4 * node + 4], "little") for node in (1, 2, 3)]
    assert hops == [1, 0, 3]
    assert [(each.dst_node_id, each.next_hops) for each in found.explicit] == [(4, (1,))]
    with pytest.raises(PeerError, match="there is no node 9"):
        await asking.request(m.GetRoutes(9))
    await asking.close()
