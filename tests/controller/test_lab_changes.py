"""Test labs whose nodes, links and routes come and go, in a controller without packets."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.controller.service import Controller
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import ControllerSettings, LinkEntry, NodeEntry, RouteEntry
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, ring, settings, url
from .test_invalid_sql_rows import connection_to

Database = dict[str, Any]
pytestmark = pytest.mark.integration


def text_of(file: ControllerSettings) -> str:
    """The text of a controller file with what these tests change."""
    db = file.db
    lines = [
        f'{key} = "{getattr(file, key)}"' for key in ("lab", "node_key", "operator_token", "link_secret")
    ]
    lines += [f"seed = {file.seed}", f"port = {file.port}", "[db]"]
    lines += [f'{key} = "{getattr(db, key)}"' for key in ("user", "password", "host", "database")]
    lines += [f"port = {db.port}"]
    for node in file.nodes:
        lines += ["[[nodes]]", f"node_id = {node.node_id}", f'name = "{node.name}"']
        lines += [f"labels = {{tier = '{node.labels['tier']}'}}"] if node.labels else []
        lines += ["external = true"] if node.external else []
    for link in file.links:
        delay = f"forward = {{delay_us = {link.forward.delay_us}}}" if link.forward.delay_us else ""
        lines += ["[[links]]", f"a = {link.a}", f"b = {link.b}", delay]
    for route in file.routes:
        lines += [
            "[[routes]]",
            f"src = {route.src}",
            f"dst = {route.dst}",
            f"edges = {list(map(list, route.edges))}",
            f"weight = {route.weight}",
            f"computed = {str(route.computed).lower()}",
        ]
    return "\n".join(lines) + "\n"


def change(file: ControllerSettings, **how: Any) -> m.ChangeLab:
    return m.ChangeLab(zlib.compress(text_of(file).encode()), **how)


def of(
    file: ControllerSettings, nodes: Sequence[int], links: Sequence[tuple[int, int]]
) -> ControllerSettings:
    """The file with other nodes and links."""
    return replace(
        file,
        nodes=tuple(NodeEntry(node_id=n, name=f"node-{n}") for n in nodes),
        links=tuple(LinkEntry(a=a, b=b) for a, b in links),
        n_nodes=len(nodes),
    )


async def begin(
    start: Start, database: Database
) -> tuple[Controller, FakeProcess, Connection, ControllerSettings]:
    file = settings(database, 4)
    controller = await start(file)
    host = FakeProcess([1, 2, 3, 4])
    await ready_lab(controller, [host])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    return controller, host, asking, file


async def ask(asking: Connection, message: m.Message) -> Any:
    reply = await asking.request(message, within=10)
    return reply.value if isinstance(reply, m.Ack) else reply


async def test_a_new_node_gets_links_routes_and_is_known_after_a_restart(
    start: Start, database: Database
) -> None:
    controller, host, asking, file = await begin(start, database)
    before = dict(host.received)
    grown = of(file, [1, 2, 3, 4, 6], [*ring(4), (1, 6)])
    assert await ask(asking, change(grown, check=True)) == {"added": [6], "removed": [], "uses": []}
    assert 6 not in controller.core.lab.registry
    assert await ask(asking, change(grown)) == {"added": [6], "removed": [], "uses": []}
    assert controller.operators.status().state == "degraded"  # it waits for the new one
    new = FakeProcess([6], process=78)
    new.others[1] = host
    await new.join(url(controller))
    await ask(asking, m.WaitNodes((6,), 5000))
    assert host.nodes[3].hop(6) in (2, 4) and new.nodes[6].hop(3) == 1 and set(new.nodes[6].links) == {1}
    # Nobody was told anything twice: a table each, and one link.
    assert host.received["AddNode"] - before["AddNode"] == 1
    assert "RemoveNode" not in host.received
    assert await ask(asking, change(grown)) == {"added": [], "removed": [], "uses": []}
    await controller.stop()
    controller = await start(grown)
    assert [node.id for node in controller.operators.status().nodes] == [1, 2, 3, 4, 6]


async def test_a_stopped_node_is_removed_with_its_links_and_its_number_is_free(
    start: Start, database: Database
) -> None:
    controller, host, asking, file = await begin(start, database)
    new = FakeProcess([6], process=78)
    grown = of(file, [1, 2, 3, 4, 6], [*ring(4), (1, 6)])
    await ask(asking, change(grown))
    await new.join(url(controller))
    await ask(asking, m.WaitNodes((6,), 5000))
    with pytest.raises(PeerError, match="node 6 has to be stopped before it is removed"):
        await ask(asking, change(file))
    await ask(asking, change(file, drain=True))
    await host.until(lambda: host.nodes[3].hop(6) == 0)
    assert 6 in host.nodes[1].links  # only routes left it
    await ask(asking, m.NodeFault((6,), "stop"))
    await new.die()
    await ask(asking, m.WaitNodes((6,), 5000))
    assert (await ask(asking, change(file)))["removed"] == [6]
    seen = controller.operators.status()
    assert seen.state == "ready" and [node.id for node in seen.nodes] == [1, 2, 3, 4]
    await ask(asking, change(grown))
    again = FakeProcess([6], process=79)
    await again.join(url(controller))
    await ask(asking, m.WaitNodes((6,), 5000))
    assert host.nodes[3].hop(6) in (2, 4)
    async with await connection_to(database) as sql:
        cursor = await sql.execute("SELECT node_id FROM nodes ORDER BY 1")
        assert await cursor.fetchall() == [(1,), (2,), (3,), (4,), (6,)]


async def test_links_change_and_those_that_do_not_keep_what_was_done_to_them(
    start: Start, database: Database
) -> None:
    controller, host, asking, file = await begin(start, database)
    slow = LinkEntry(a=1, b=2).forward
    await ask(asking, m.SetLinkSpec(2, 3, "both", replace(slow, delay_us=7000)))
    await ask(asking, m.SetLinkState(1, 2, False))
    links = [
        LinkEntry(a=1, b=2, forward=replace(slow, delay_us=9000)),
        LinkEntry(a=2, b=3),
        LinkEntry(a=3, b=4),
    ]
    await ask(asking, change(replace(file, links=tuple(links))))
    registry = controller.core.lab.registry
    assert set(registry.links) == {(1, 2), (2, 3), (3, 4)}
    assert registry.link(2, 3).spec_from(2).delay_us == 7000
    assert registry.link(1, 2).spec_from(1).delay_us == 9000 and not registry.link(1, 2).down
    assert 4 not in host.nodes[1].links and host.nodes[1].links[2].link.delay_us == 9000
    await host.until(lambda: host.nodes[1].hop(4) == 2)
    # A link that SQL had deleted is there again when another file declares it anew.
    async with await connection_to(database) as sql:
        await sql.execute("DELETE FROM links WHERE a = 3")
        await host.until(lambda: 4 not in host.nodes[3].links)
    await ask(asking, change(replace(file, links=tuple(links[:2]))))
    await ask(asking, change(replace(file, links=tuple(links))))
    await controller.stop()
    controller = await start(replace(file, links=tuple(links)))
    assert set(controller.core.lab.registry.links) == {(1, 2), (2, 3), (3, 4)}


async def test_what_uses_a_removed_node_is_named_and_goes_with_it_only_by_force(
    start: Start, database: Database
) -> None:
    controller, host, asking, file = await begin(start, database)
    await host.request(2, m.CreateGroup("from two"))
    await host.request(1, m.CreateGroup("with two"))
    await host.request(2, m.JoinGroup(2))
    await host.request(1, m.SetGroupRoutes(2, ((1, 2),)))
    async with await connection_to(database) as sql:
        await sql.execute(
            "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[1,2],[2,3]]')"
        )
        await host.until(lambda: bool(host.nodes[1].explicit))
    without = of(file, [1, 3, 4], [(3, 4), (1, 4)])
    uses = (await ask(asking, change(without, check=True)))["uses"]
    assert sorted(use["kind"] for use in uses) == ["group", "member", "route", "tree"]
    await ask(asking, m.NodeFault((2,), "stop"))
    host.nodes.pop(2)
    controller.core.lab.leave(2)
    with pytest.raises(PeerError, match="something is in use: group 1 `from two` has its source in node 2"):
        await ask(asking, change(without))
    assert 2 in controller.core.lab.registry
    assert (await ask(asking, change(without, force=True)))["removed"] == [2]
    seen = controller.operators.status()
    assert [group.label for group in seen.groups] == ["with two"] and seen.groups[0].members == ()
    assert not controller.core.lab.explicit.rows and seen.state == "ready"
    await host.until(lambda: host.nodes[1].hop(3) == 4 and not host.nodes[1].explicit)


async def test_routes_return_to_drained_links_when_the_operator_leaves(
    start: Start, database: Database
) -> None:
    """As `nm` does that is killed between the drain and the change."""
    controller, host, asking, file = await begin(start, database)
    other = await connect(url(controller), OPERATOR_TOKEN, "operator")
    without = of(file, [1, 2, 3, 4], [(2, 3), (3, 4), (1, 4)])
    await ask(other, change(without, drain=True))
    assert host.nodes[1].hop(2) == 4
    await other.close()
    await host.until(lambda: host.nodes[1].hop(2) == 2)
    events = await asking.request(m.GetEvents())
    assert isinstance(events, m.Events)
    assert [event.name for event in events.events][-1] == "lab.change-given-up"


async def test_explicit_routes_of_the_file_follow_it(start: Start, database: Database) -> None:
    controller, host, asking, file = await begin(start, database)
    ways = (
        RouteEntry(src=1, dst=3, edges=((1, 2), (2, 3))),
        RouteEntry(src=1, dst=3, edges=((1, 4), (4, 3))),
    )
    await ask(asking, change(replace(file, routes=ways)))
    await host.until(lambda: sorted(host.nodes[1].explicit) == [1, 2])
    pin = await ask(asking, m.AddPin(2))
    await ask(asking, change(replace(file, routes=ways[1:])))
    await host.until(lambda: sorted(host.nodes[1].explicit) == [2])
    assert host.nodes[1].pins.keys() == {pin["pin_id"]}
    await ask(asking, change(file, cause="nm up"))
    await host.until(lambda: not host.nodes[1].explicit)
    events = await asking.request(m.GetEvents())
    assert isinstance(events, m.Events)
    unpinned = [event.detail for event in events.events if event.name == "flow.unpinned"]
    assert [(each["route_id"], each["cause"]) for each in unpinned] == [(2, "nm up")]
    await controller.stop()
    controller = await start(file)
    assert not controller.core.lab.explicit.rows


async def test_a_route_that_replaces_another_one_is_in_force_before_that_goes(
    start: Start, database: Database
) -> None:
    _, host, asking, file = await begin(start, database)
    east = RouteEntry(src=1, dst=3, edges=((1, 2), (2, 3)))
    west = RouteEntry(src=1, dst=3, edges=((1, 4), (4, 3)))
    await ask(asking, change(replace(file, routes=(east,))))
    seen: list[set[int]] = []

    def look(_message: m.Message) -> bool:
        seen.append(set(host.nodes[1].explicit))
        return False

    host.refuse = look
    await ask(asking, change(replace(file, routes=(west,))))
    seen.append(set(host.nodes[1].explicit))
    assert seen[0] == {1} and {1, 2} in seen and seen[-1] == {2} and set() not in seen


async def test_a_route_keeps_its_number_and_its_pins_wherever_the_file_has_it(
    start: Start, database: Database
) -> None:
    controller, host, asking, file = await begin(start, database)
    east, west, back = (
        RouteEntry(src=1, dst=3, edges=((1, 2), (2, 3)), computed=True),
        RouteEntry(src=1, dst=3, edges=((1, 4), (4, 3))),
        RouteEntry(src=3, dst=1, edges=((3, 4), (4, 1))),
    )

    def listed() -> dict[int, tuple[tuple[int, int], ...]]:
        return {number: row.edges for number, row in controller.core.lab.explicit.rows.items()}

    await ask(asking, change(replace(file, routes=(east, west))))
    pin = await ask(asking, m.AddPin(1))
    await ask(asking, m.ChangeRoute(2, weight=5.0))
    await ask(asking, change(replace(file, routes=(back, replace(east, weight=3.0), west))))
    assert listed() == {1: east.edges, 2: west.edges, 3: back.edges}
    assert host.nodes[1].pins == {pin["pin_id"]: m.Pin(pin["pin_id"], 1, 3, 1)}
    assert [host.nodes[1].explicit[n].weight for n in (1, 2)] == [3.0, 5.0]
    await ask(asking, m.DeleteRoute(3))
    await controller.stop()
    # Another place in the file again, changed while no controller was there; what was deleted stays so.
    controller = await start(replace(file, routes=(west, back, east)))
    assert listed() == {1: east.edges, 2: west.edges}
    assert controller.core.lab.explicit.pins.keys() == {pin["pin_id"]}
    assert controller.core.lab.explicit.rows[2].weight == 5.0


async def test_a_route_of_the_file_that_an_operator_changed_is_in_use_until_it_is_forced(
    start: Start, database: Database
) -> None:
    controller, _, asking, file = await begin(start, database)
    west = RouteEntry(src=1, dst=3, edges=((1, 4), (4, 3)))
    await ask(asking, change(replace(file, routes=(west,))))
    await ask(asking, m.ChangeRoute(1, weight=5.0))
    smaller = of(file, [1, 2, 3, 4], [(1, 2), (2, 3), (1, 4)])
    with pytest.raises(PeerError, match="something is in use: route 1 from node 1 to node 3"):
        await ask(asking, change(smaller))
    assert controller.core.lab.explicit.rows.keys() == {1}
    await ask(asking, change(smaller, force=True))
    assert not controller.core.lab.explicit.rows


async def test_rubbish_and_what_cannot_change_is_refused_and_nothing_changes(
    start: Start, database: Database
) -> None:
    controller, _, asking, file = await begin(start, database)
    more = of(file, [1, 2, 3, 4, 6], [*ring(4), (1, 6)])
    wrong: list[tuple[bytes, str]] = [
        (b"rubbish", "the controller file cannot be read"),
        (b"", "is cut off"),
        (zlib.compress(text_of(more).encode())[:-8], "is cut off"),
        (zlib.compress(b"\xff\xfe"), "cannot be read"),
        (zlib.compress(bytes(65 * 2**20)), "is cut off, or has more than"),
        (zlib.compress(b"lab = 3"), "problem"),
        (change(replace(more, lab="other")).settings, "`lab` cannot change"),
        (change(replace(more, seed=99)).settings, "`seed` cannot change"),
        (change(replace(more, operator_token="mine")).settings, "`operator_token` cannot change"),
        (
            change(replace(more, nodes=(*more.nodes[1:], replace(more.nodes[0], name="x")))).settings,
            "node 1 cannot",
        ),
    ]
    for data, reason in wrong:
        with pytest.raises(PeerError, match=reason):
            await ask(asking, m.ChangeLab(data))
    assert [node.id for node in controller.operators.status().nodes] == [1, 2, 3, 4]
    two = await asyncio.gather(*(ask(asking, change(more)) for _ in range(2)))
    assert sorted(len(each["added"]) for each in two) == [0, 1]
