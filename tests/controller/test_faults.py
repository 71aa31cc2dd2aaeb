"""Test links that are taken down, partitions, and their end, in a controller without packets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.controller.errors import PartitionInvalid
from orchestrator.controller.faults import links_between
from orchestrator.controller.registry import Link, Node, Registry
from orchestrator.controller.service import Controller
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import LinkEntry, RouteEntry
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, ring, settings, url

Database = dict[str, Any]
SLOW = LinkSpec(rate_bps=1_000_000, delay_us=500, loss=0.01)


# What makes a partition.


@pytest.mark.parametrize(
    ("groups", "id"),
    [
        ([], "partition.invalid"),
        ([[1, 2, 3, 4]], "partition.invalid"),
        ([[1], []], "partition.invalid"),
        ([[1, 2], [2, 3]], "partition.twice"),
        ([[1, 1], [2]], "partition.twice"),
        ([[1], [3]], "partition.no-links"),
    ],
)
def test_groups_that_make_no_partition_are_refused(groups: list[list[int]], id: str) -> None:
    with pytest.raises(PartitionInvalid) as caught:
        links_between(groups, ring_of_four())
    assert (caught.value.id, caught.value.exit_code) == (id, 2)


def test_a_partition_takes_the_links_between_its_groups_and_no_others() -> None:
    def cut(*groups: list[int]) -> list[tuple[int, int]]:
        return [(link.a, link.b) for link in links_between(groups, ring_of_four())]

    assert cut([1, 2], [3, 4]) == [(2, 3), (1, 4)]
    assert cut([1], [2]) == [(1, 2)]
    assert cut([1], [2], [3], [4]) == ring(4)


# What nodes are told.


@pytest.mark.integration
async def test_a_link_that_is_down_is_removed_and_routed_around(start: Start, database: Database) -> None:
    controller, host, asking = await lab(start, database)
    assert host.nodes[1].hop(2) == 2
    down = await ask(asking, m.SetLinkState(2, 1, True))
    assert down == {"state": "down", "down": "both", "reason": "taken down"}
    # The answer means that the nodes have done it and that their routes have moved.
    assert 2 not in host.nodes[1].links and 1 not in host.nodes[2].links
    assert (host.nodes[1].hop(2), host.nodes[2].hop(1)) == (4, 3)
    seen = controller.operators.status()
    assert seen.state == "ready"
    link = seen.links[0]
    assert (link.state, link.down, link.reason) == ("down", "both", "taken down")
    await ask(asking, m.SetLinkState(1, 2, True))  # again: no second event
    up = await ask(asking, m.SetLinkState(1, 2, False))
    assert up == {"state": "up", "down": "", "reason": ""}
    assert host.nodes[1].links[2].link == SLOW and host.nodes[1].hop(2) == 2
    assert [(name, detail["down"], detail["cause"]) for name, detail in await faults(asking)] == [
        ("link.taken-down", "both", "operator"),
        ("link.brought-up", "", "operator"),
    ]


@pytest.mark.integration
async def test_one_direction_is_lost_and_routed_around_while_the_other_stays(
    start: Start, database: Database
) -> None:
    controller, host, asking = await lab(start, database)
    down = await ask(asking, m.SetLinkState(2, 1, True, "backward"))  # from 1 to 2
    assert down == {"state": "up", "down": "forward", "reason": "1 → 2 is taken down"}
    assert (host.nodes[1].links[2].link, host.nodes[1].links[2].down) == (SLOW, True)
    assert (host.nodes[2].links[1].link, host.nodes[2].links[1].down) == (LinkSpec(), False)
    assert (host.nodes[1].hop(2), host.nodes[2].hop(1)) == (4, 1)
    assert controller.operators.status().links[0].forward == SLOW
    await ask(asking, m.SetLinkState(1, 2, True, "backward"))
    assert 2 not in host.nodes[1].links
    await ask(asking, m.SetLinkState(1, 2, False, "forward"))
    assert not host.nodes[1].links[2].down and host.nodes[2].links[1].down


@pytest.mark.integration
async def test_reset_undoes_changes_of_one_link_or_of_all(start: Start, database: Database) -> None:
    _, host, asking = await lab(start, database)
    await ask(asking, m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=9)))
    await ask(asking, m.SetLinkState(1, 2, True))
    await ask(asking, m.SetLinkSpec(1, 2, reset=True))
    assert host.nodes[1].links[2].link == SLOW and host.nodes[2].links[1].link == LinkSpec()
    assert host.nodes[1].hop(2) == 2
    await ask(asking, m.SetLinkState(1, 2, True, "forward"))
    await ask(asking, m.SetLinkSpec(3, 4, spec=LinkSpec(delay_us=9)))
    assert await ask(asking, m.ResetLinks()) == {"links": [[1, 2], [3, 4]]}
    assert host.nodes[1].links[2].link == SLOW and host.nodes[3].links[4].link == LinkSpec()
    assert await ask(asking, m.ResetLinks()) == {"links": []}


@pytest.mark.integration
async def test_heal_brings_up_what_the_partition_took_down_and_nothing_else(
    start: Start, database: Database
) -> None:
    controller, host, asking = await lab(start, database)
    await ask(asking, m.SetLinkState(2, 3, True))
    answer = await ask(asking, m.Partition(((1, 2), (3, 4))))
    assert answer == {"down": [[2, 3], [1, 4]], "up": [], "connected": []}
    assert [host.nodes[1].hop(node) for node in (2, 3, 4)] == [2, 0, 0]
    up = await ask(asking, m.SetLinkState(1, 4, False))
    assert up == {"state": "down", "down": "both", "reason": "partition"}
    assert controller.core.problems() == ()
    # Another partition replaces it.
    answer = await ask(asking, m.Partition(((1,), (2,))))
    assert answer == {"down": [[1, 2]], "up": [[1, 4]], "connected": []}
    assert [host.nodes[1].hop(node) for node in (2, 3, 4)] == [0, 4, 4]
    for groups in [((1, 2), (2, 3)), ((1,), (9,)), ((1, 2),)]:
        with pytest.raises(PeerError):
            await ask(asking, m.Partition(groups))
    assert controller.operators.status().links[0].reason == "partition"
    assert await ask(asking, m.Heal()) == {"down": [], "up": [[1, 2]], "connected": []}
    links = controller.operators.status().links
    assert [(link.a, link.b) for link in links if link.state == "down"] == [(2, 3)]
    assert [name for name, _ in await faults(asking)] == [
        "link.taken-down",
        "lab.partitioned",
        "lab.partitioned",
        "lab.healed",
    ]


@pytest.mark.integration
async def test_routes_that_a_node_refused_are_not_in_force(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.controller.link_changes.APPLY_LIMIT", 2.0)
    _, host, asking = await lab(start, database)
    host.refuse = lambda message: isinstance(message, m.InstallRoutes)
    with pytest.raises(PeerError, match="has not confirmed its routes: InstallRoutes was refused: it cannot"):
        await ask(asking, m.SetLinkState(1, 2, True))


@pytest.mark.integration
async def test_a_node_that_a_change_does_not_concern_is_not_waited_for(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 4, links=[(1, 2), (2, 3), (1, 3), (3, 4)]))
    await ready_lab(controller, [FakeProcess([1, 2, 3, 4], 7)])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    controller.core.pump()  # what the start still causes is no part of the change
    controller.core.lab.registry.node(4).sent_state.routes_confirmed = None  # it hangs
    assert (await ask(asking, m.SetLinkState(1, 2, True)))["state"] == "down"
    assert await ask(asking, m.Heal()) == {"down": [], "up": [], "connected": []}


@pytest.mark.integration
async def test_groups_that_other_nodes_still_connect_are_named(start: Start, database: Database) -> None:
    _, _, asking = await lab(start, database)
    answer = await ask(asking, m.Partition(((1,), (2,))))
    assert answer == {"down": [[1, 2]], "up": [], "connected": [[0, 1]]}


@pytest.mark.integration
async def test_events_and_answers_about_very_many_links_name_some_and_count_all(
    start: Start, database: Database
) -> None:
    far = list(range(2, 1002))
    controller = await start(settings(database, 1001, links=[(1, node) for node in far]))
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    answer = await ask(asking, m.Partition(((1,), tuple(far))))
    assert (len(answer["down"]), answer["down_count"], answer["up"]) == (200, 1000, [])
    answer = await ask(asking, m.Heal())
    assert (len(answer["up"]), answer["up_count"], answer["down"]) == (200, 1000, [])
    for link in controller.core.lab.registry.links.values():
        link.forward_down = True
    answer = await ask(asking, m.ResetLinks())
    assert (len(answer["links"]), answer["links_count"]) == (200, 1000)
    (_, cut), (_, healed), (_, reset) = await faults(asking)
    assert len(cut["down"]) == len(healed["up"]) == len(reset["links"]) == 200
    assert cut["count"] == healed["count"] == reset["count"] == 1000
    assert (cut["group_count"], cut["node_count"]) == (2, 1001)
    assert cut["groups"].startswith("1|2,3,4,") and len(cut["groups"]) == 1001


@pytest.mark.integration
async def test_links_that_are_down_stay_down_after_a_restart_of_the_controller_or_a_node(
    start: Start, database: Database
) -> None:
    controller, host, asking = await lab(start, database)
    await ask(asking, m.SetLinkState(1, 2, True, "forward"))
    await ask(asking, m.Partition(((3,), (4,))))
    await controller.stop()
    await host.die()
    host.forget()
    controller, host, _ = await lab(start, database, host)
    links = controller.operators.status().links
    assert [link.down for link in links] == ["forward", "", "both", ""]
    assert host.nodes[1].links[2].down and 4 not in host.nodes[3].links
    assert host.nodes[3].hop(4) == 2


@pytest.mark.integration
async def test_explicit_routes_and_trees_survive_and_computed_trees_move(
    start: Start, database: Database
) -> None:
    route = RouteEntry(src=1, dst=3, edges=((1, 2), (2, 3)), path=(1, 2, 3))
    controller, host, asking = await lab(start, database, routes=(route,))
    await host.request(1, m.CreateGroup("w"))
    await host.request(2, m.JoinGroup(1))
    await host.until(lambda: 1 in host.nodes[1].trees and host.nodes[1].trees[1].routes[0].next_hops == (2,))
    before = host.nodes[1].explicit.copy()
    await ask(asking, m.SetLinkState(1, 2, True, "forward"))
    await host.until(lambda: host.nodes[1].trees[1].routes[0].next_hops == (4,))
    assert host.nodes[1].explicit == before
    await ask(asking, m.Partition(((1,), (2, 3, 4))))
    await host.until(lambda: host.nodes[1].trees[1].routes[0].next_hops == ())
    assert controller.operators.status().state == "ready"  # the members are missed on purpose
    await ask(asking, m.Heal())
    await ask(asking, m.ResetLinks())
    await host.until(lambda: host.nodes[1].trees[1].routes[0].next_hops == (2,))


@pytest.mark.integration
async def test_a_link_that_is_brought_up_gets_routes_when_both_ends_report_it(
    start: Start, database: Database
) -> None:
    controller, host, asking = await lab(start, database)
    await ask(asking, m.SetLinkState(1, 2, True))
    host.slow = {1}
    up = asyncio.create_task(ask(asking, m.SetLinkState(1, 2, False)))
    await host.until(lambda: 1 in host.nodes[2].links and 2 in host.nodes[1].up)
    controller.core.pump()
    assert (host.nodes[1].hop(2), host.nodes[2].hop(1)) == (4, 3)
    host.comes_up(2, 1)
    assert (await up)["state"] == "up"
    assert (host.nodes[1].hop(2), host.nodes[2].hop(1)) == (2, 1)


@pytest.mark.integration
async def test_a_link_that_is_declared_down_is_down_until_it_is_brought_up(
    start: Start, database: Database
) -> None:
    controller = await start(
        settings(database, 4, links=[LinkEntry(a=2, b=1, backward_down=True), *ring(4)[1:]])
    )
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    link = controller.core.lab.registry.link(1, 2)
    assert (link.down, link.changed, host.nodes[1].hop(2)) == ("forward", False, 4)
    assert (await ask(asking, m.SetLinkState(1, 2, False)))["down"] == ""
    assert (link.changed, host.nodes[1].hop(2)) == (True, 2)
    assert await ask(asking, m.ResetLinks()) == {"links": [[1, 2]]}
    assert (link.down, host.nodes[1].hop(2)) == ("forward", 4)


@pytest.mark.integration
async def test_what_is_set_on_a_link_that_is_down_is_said_not_to_be_in_force(
    start: Start, database: Database
) -> None:
    _, _, asking = await lab(start, database)
    fast = {"forward": SLOW.to_wire() | {"delay_us": 9}, "backward": {"delay_us": 9}}
    assert await ask(asking, m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=9), merge=True)) == fast
    await ask(asking, m.SetLinkState(1, 2, True))
    answer = await ask(asking, m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=9), merge=True))
    assert answer == {**fast, "reason": "taken down"}


@pytest.mark.integration
async def test_a_link_that_is_added_during_a_partition_is_part_of_it(
    start: Start, database: Database
) -> None:
    controller, host, asking = await lab(start, database)
    await ask(asking, m.Partition(((1, 2), (3, 4))))

    def add() -> None:
        links = {(1, 3): Link(1, 3, origin="sql"), (2, 4): Link(2, 4, origin="sql")}
        controller.core.lab.change_links(links)
        controller.core.pump()

    add()
    assert 3 not in host.nodes[1].links and controller.core.lab.registry.link(1, 3).partitioned
    await ask(asking, m.Heal())
    assert not controller.core.lab.registry.link(2, 4).partitioned
    assert host.nodes[1].hop(3) == 3


@pytest.mark.integration
async def test_only_the_last_command_of_several_alike_counts_as_confirmed(
    start: Start, database: Database
) -> None:
    controller, _, _ = await lab(start, database)
    core = controller.core
    node = core.lab.registry.node(1)
    sent = []
    for delay in (1, 2, 1):
        core.lab.set_link(1, 2, LinkSpec(delay_us=delay), to_end=2)
        sent += [each for each in core.lab.flush()[1] if isinstance(each, m.SetLink)]
    assert sent[0] == sent[2] and len(sent) == 3
    core.lab.confirmed(node, sent[0])
    assert 2 not in node.sent_state.links_confirmed
    core.lab.confirmed(node, sent[2])
    assert node.sent_state.links_confirmed[2] == sent[2].version


@pytest.mark.integration
async def test_a_link_that_is_down_hides_no_group_that_lacks_its_members_for_another_reason(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 4, links=[(1, 2)]))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await ask(asking, m.SetLinkState(1, 2, True))
    await host.request(1, m.CreateGroup("w"))
    await host.request(2, m.JoinGroup(1))
    controller.core.pump()
    assert controller.core.problems() == ()
    await host.request(3, m.JoinGroup(1))
    controller.core.pump()
    assert controller.core.problems() == ("group `w` does not reach its members 3",)


def ring_of_four() -> Registry:
    return Registry([Node(i, f"node-{i}") for i in range(1, 5)], [Link(a, b) for a, b in ring(4)])


async def lab(
    start: Start, database: Database, host: FakeProcess | None = None, **changes: Any
) -> tuple[Controller, FakeProcess, Connection]:
    """Return a ring of four that is ready, with a connection as operator; link 1–2 is slow one way."""
    links = [LinkEntry(a=1, b=2, forward=SLOW), *ring(4)[1:]]
    controller = await start(settings(database, 4, links=links, **changes))
    host = host or FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    return controller, host, await connect(url(controller), OPERATOR_TOKEN, "operator")


async def ask(connection: Connection, message: m.Message) -> Any:
    reply = await connection.request(message, within=10)
    assert isinstance(reply, m.Ack)
    return reply.value


async def faults(connection: Connection) -> list[tuple[str, Any]]:
    """Return the events about links that were taken down or up, as name and facts."""
    reply = await connection.request(m.GetEvents(), within=10)
    assert isinstance(reply, m.Events)
    names = ("link.taken-down", "link.brought-up", "lab.partitioned", "lab.healed", "lab.links-reset")
    return [(event.name, event.detail) for event in reply.events if event.name in names]
