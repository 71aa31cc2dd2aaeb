# ruff: noqa: E501  # statements read better in one line
"""Test that invalid rows written by SQL are reported, ignored, and do not prevent a restart."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import DatabaseSettings
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

INVALID = {
    "a link to nowhere": "INSERT INTO links (a, b) VALUES (1, 99)",
    "a link of a node with a huge number": "INSERT INTO links (a, b) VALUES (1, 9223372036854775807)",
    "a link of a negative node": "INSERT INTO links (a, b) VALUES (-5, 1)",
    "a link that is a text": "UPDATE links SET forward_now = '\"x\"' WHERE a = 2 AND b = 3",
    "a link with unknown keys": "UPDATE links SET forward_now = '{\"speed\": 5}' WHERE a = 2 AND b = 3",
    "a link with a negative rate": "UPDATE links SET forward_now = '{\"rate_bps\": -5}' WHERE a = 2 AND b = 3",
    "a link with a text as rate": 'UPDATE links SET forward_now = \'{"rate_bps": "x"}\' WHERE a = 2 AND b = 3',
    "a link with a huge delay": "UPDATE links SET forward_now = '{\"delay_us\": 1e300}' WHERE a = 2 AND b = 3",
    "a link with a number of 400 digits": "UPDATE links SET forward_now = '{\"loss\": 1e400}' WHERE a = 2 AND b = 3",
    "a link with a number of 5000 digits": "UPDATE links SET forward_now = '{\"delay_us\": 1e5000}' WHERE a = 2 AND b = 3",
    "a link that would reorder": "UPDATE links SET forward_now = '{\"jitter_us\": 5}' WHERE a = 2 AND b = 3",
    "declared as a list": "UPDATE links SET forward = '[1]' WHERE a = 2 AND b = 3",
    "a route of texts": "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[\"a\", 2]]')",
    "a route that is a number": "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '7')",
    "a route of triples": "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[1, 2, 3]]')",
    "a route of null": "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[null]')",
    "a route of huge nodes": "INSERT INTO routes (src_node_id, dst_node_id, edges)"
    " VALUES (1, 9223372036854775807, '[[1, 9223372036854775807]]')",
    "a route of nobody": "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (77, 78, '[[77, 78]]')",
    "a group of nobody": "INSERT INTO groups (group_id, label, src_node_id) VALUES (50, 'x', 99)",
    "a group with a negative number": "INSERT INTO groups (group_id, label, src_node_id) VALUES (-1, 'x', 1)",
    "a group with a huge number": "INSERT INTO groups (group_id, label, src_node_id)"
    " VALUES (9223372036854775807, 'x', 1)",
    "a group with a number of 32 bits": "INSERT INTO groups (group_id, label, src_node_id)"
    " VALUES (4294967295, 'x', 1)",
    "a group outside the pool": "INSERT INTO groups VALUES (51, 'x', 1, '8.8.8.8')",
    "a group whose address is a text": "INSERT INTO groups VALUES (52, 'x', 1, 'here')",
    "a group without a name": "INSERT INTO groups VALUES (53, '', 1, NULL)",
    "a group with a long name": "INSERT INTO groups VALUES (54, repeat('x', 2000), 1, NULL)",
    "a member of nowhere": "INSERT INTO groups VALUES (55, 'x', 1, NULL);"
    " INSERT INTO group_members VALUES (55, 99), (55, -1), (55, 9223372036854775807)",
    "a tree that is none": "INSERT INTO groups VALUES (56, 'x', 1, NULL);"
    " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (56, 0, '[[1, 2], [2, 1], [9, 9]]')",
    "a tree of texts": "INSERT INTO groups VALUES (57, 'x', 1, NULL);"
    " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (57, 0, '{\"a\": 1}')",
    "a tree with a huge number": "INSERT INTO groups VALUES (58, 'x', 1, NULL);"
    " INSERT INTO group_trees (group_id, tree_id, edges, weight) VALUES (58, 9223372036854775807, '[[1, 2]]', 'NaN')",
    "a state that there is not": "UPDATE nodes SET state = 'asleep', process = 3.5, mtu = -1, labels = '[]'",
    "no nodes": "DELETE FROM nodes",
    "a run that never was": "INSERT INTO runs (run, scenario, state, entry, params, seed, timeout_s, started_at)"
    " VALUES ('ghost', 'x', 'running', 'roles.py', '7', -5, 'NaN', 'infinity')",
    "a run in an odd state": "INSERT INTO runs (run, scenario, state, entry, params, seed, timeout_s, started_at)"
    " VALUES ('odd', 'x', 'stopping', '', '{}', 0, 1e300, '-infinity');"
    " INSERT INTO run_roles (run, node_id, role, state) VALUES ('odd', 99, 'a', 'asleep'), ('odd', 1, 'b', 'sent')",
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_row_that_makes_no_sense_stops_neither_the_lab_nor_a_restart(
    start: Start, database: dict[str, Any], name: str
) -> None:
    controller = await start(settings(database, 3))
    host = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [host])
    # Asynchronous: a statement may wait for a lock that the controller, in this event loop, is about to release.
    conninfo = DatabaseSettings(**database).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        await sql.execute(INVALID[name].encode())
        # Valid changes are received nevertheless; they may wait until the invalid row is deleted.
        await controller.core.wait_until(lambda: False, 0.1)
        asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
        assert isinstance(await asking.request(m.GetStatus(), within=5), m.Status)
        await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=5)), within=10)
        assert (await host.request(1, m.CreateGroup("sound")))["label"] == "sound"
        await host.request(2, m.JoinGroup((await host.request(1, m.CreateGroup("sound")))["group_id"]))
    await controller.stop()
    await host.die()
    for node in host.nodes.values():
        node.ready = False
    again = await start(settings(database, 3))
    await ready_lab(again, [host])
    asking = await connect(url(again), OPERATOR_TOKEN, "operator")
    shown = await asking.request(m.GetStatus(), within=5)
    assert isinstance(shown, m.Status) and [node.state for node in shown.nodes] == ["ready"] * 3
    if name.startswith("a group"):
        assert any("is left out: " in problem for problem in shown.problems), shown.problems
    [group] = [group for group in shown.groups if group.label == "sound"]
    assert group.members == (2,)


async def test_an_impossible_link_by_sql_is_named_and_what_was_in_force_stays(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    before = LinkSpec(delay_us=3_000)
    await asking.request(m.SetLinkSpec(2, 3, spec=before), within=10)
    conninfo = DatabaseSettings(**database).conninfo()

    def refused(reason: str) -> bool:
        return any("link 2–3" in text and reason in text for text in controller.core.problems())

    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        for wrong, reason in [
            ('{"loss": 1e400}', "forward_now: loss is an integer of more than 64 bits"),
            ('{"delay_us": 1e5000}', "a number that is too large"),
            ('{"speed": 5}', "`speed` is no field of a link"),
            ('{"jitter_us": 5}', "larger than the delay"),
        ]:
            await sql.execute("UPDATE links SET forward_now = %s WHERE a = 2 AND b = 3", (wrong,))
            assert await controller.core.wait_until(lambda reason=reason: refused(reason), 5)
            assert host.nodes[2].links[3].link == before
        await sql.execute("INSERT INTO links (a, b, forward) VALUES (1, 3, '{\"ecn\": true}')")
        assert await controller.core.wait_until(
            lambda: any("1–3" in x for x in controller.core.problems()), 5
        )
        assert 3 not in host.nodes[1].links
        await sql.execute("DELETE FROM links WHERE a = 1 AND b = 3")
        await sql.execute("UPDATE links SET forward_now = '{\"loss\": 0.5}' WHERE a = 2 AND b = 3")
        await host.until(lambda: host.nodes[2].links[3].link == LinkSpec(loss=0.5))
    assert controller.core.problems() == ()
    events = await asking.request(m.GetEvents(), within=5)
    assert isinstance(events, m.Events)
    refusals = [event.detail for event in events.events if event.name == "link.refused"]
    assert [(detail["a"], detail["b"]) for detail in refusals] == [(2, 3)] * 4 + [(1, 3)]
    assert "larger than the delay" in refusals[3]["reason"]
