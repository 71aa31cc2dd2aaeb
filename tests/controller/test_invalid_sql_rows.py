# ruff: noqa: E501  # statements read better in one line
"""Test that invalid rows written by SQL are reported, ignored, and do not prevent a restart."""

from __future__ import annotations

import asyncio
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

FOREIGN, CHECK, UNIQUE = "23503", "23514", "23505"
UNSUPPORTED, BAD_TYPE, OUT_OF_RANGE = "0A000", "22P02", "22003"

REFUSED = {
    "a link to nowhere": (FOREIGN, "INSERT INTO links (a, b) VALUES (1, 99)"),
    "a link of a node with a huge number": (
        FOREIGN,
        "INSERT INTO links (a, b) VALUES (1, 9223372036854775807)",
    ),
    "a link of a number of 65 bits": (
        OUT_OF_RANGE,
        "INSERT INTO links (a, b) VALUES (1, 9223372036854775808)",
    ),
    "a link of a negative node": (FOREIGN, "INSERT INTO links (a, b) VALUES (-5, 1)"),
    "a link to itself": (CHECK, "INSERT INTO links (a, b) VALUES (2, 2)"),
    "a link that there is": (UNIQUE, "INSERT INTO links (a, b) VALUES (2, 1)"),
    "a link with other ends": (CHECK, "UPDATE links SET b = 3 WHERE (a, b) = (1, 2)"),
    "a link of a partition of its own": (CHECK, "UPDATE links SET partitioned = true WHERE (a, b) = (1, 2)"),
    "a link that is a text": (CHECK, "UPDATE links SET forward_now = '\"x\"' WHERE a = 2 AND b = 3"),
    "a link that is no JSON": (BAD_TYPE, "UPDATE links SET forward_now = 'fast' WHERE a = 2 AND b = 3"),
    "a link with unknown keys": (
        CHECK,
        "UPDATE links SET forward_now = '{\"speed\": 5}' WHERE a = 2 AND b = 3",
    ),
    "a link with a negative rate": (
        CHECK,
        "UPDATE links SET forward = '{\"rate_bps\": -5}' WHERE a = 2 AND b = 3",
    ),
    "a link with a text as rate": (
        CHECK,
        'UPDATE links SET forward = \'{"rate_bps": "x"}\' WHERE a = 2 AND b = 3',
    ),
    "a link with a loss above 1": (
        CHECK,
        "UPDATE links SET backward = '{\"loss\": 1.5}' WHERE a = 2 AND b = 3",
    ),
    "a link with half a byte of MTU": (
        CHECK,
        "UPDATE links SET backward = '{\"mtu\": 999.5}' WHERE a = 2 AND b = 3",
    ),
    "a link with a small MTU": (CHECK, "UPDATE links SET backward = '{\"mtu\": 100}' WHERE a = 2 AND b = 3"),
    "a link with an unknown queue": (
        CHECK,
        "UPDATE links SET forward = '{\"queue\": 5}' WHERE a = 2 AND b = 3",
    ),
    "a link with a huge delay": (
        CHECK,
        "UPDATE links SET forward_now = '{\"delay_us\": 1e300}' WHERE a = 2 AND b = 3",
    ),
    "a link with a number of 400 digits": (
        CHECK,
        "UPDATE links SET forward_now = '{\"loss\": 1e400}' WHERE a = 2 AND b = 3",
    ),
    "a link with a number of 5000 digits": (
        CHECK,
        "UPDATE links SET forward_now = '{\"delay_us\": 1e5000}' WHERE a = 2 AND b = 3",
    ),
    "declared as a list": (CHECK, "UPDATE links SET forward = '[1]' WHERE a = 2 AND b = 3"),
    "a route of texts": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[\"a\", 2]]')",
    ),
    "a route that is a number": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '7')",
    ),
    "a route of triples": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[1, 2, 3]]')",
    ),
    "a route of null": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[null]')",
    ),
    "a route of nothing": (CHECK, "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[]')"),
    "a route of one node": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[1]')",
    ),
    "a route to itself": (
        CHECK,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 1, '[[1, 2], [2, 1]]')",
    ),
    "a route from a text": (
        BAD_TYPE,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES ('a', 3, '[[1, 3]]')",
    ),
    "a route of huge nodes": (
        FOREIGN,
        "INSERT INTO routes (src_node_id, dst_node_id, edges)"
        " VALUES (1, 9223372036854775807, '[[1, 9223372036854775807]]')",
    ),
    "a route of nobody": (
        FOREIGN,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (77, 78, '[[77, 78]]')",
    ),
    "a route over no link": (
        FOREIGN,
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 4, '[1, 3, 4]')",
    ),
    "a group of nobody": (FOREIGN, "INSERT INTO groups (group_id, label, src_node_id) VALUES (50, 'x', 99)"),
    "a group with a negative number": (
        CHECK,
        "INSERT INTO groups (group_id, label, src_node_id) VALUES (-1, 'x', 1)",
    ),
    "a group with a huge number": (
        CHECK,
        "INSERT INTO groups (group_id, label, src_node_id) VALUES (9223372036854775807, 'x', 1)",
    ),
    "a group without a name": (CHECK, "INSERT INTO groups VALUES (53, '', 1, NULL)"),
    "a group with a long name": (CHECK, "INSERT INTO groups VALUES (54, repeat('x', 2000), 1, NULL)"),
    "a group of the same name": (UNIQUE, "INSERT INTO groups (label, src_node_id) VALUES ('x', 1), ('x', 2)"),
    "a member of nowhere": (
        FOREIGN,
        "INSERT INTO groups VALUES (55, 'x', 1, NULL); INSERT INTO group_members VALUES (55, 99)",
    ),
    "a member of no group": (FOREIGN, "INSERT INTO group_members VALUES (99, 1)"),
    "a tree over no link": (
        FOREIGN,
        "INSERT INTO groups VALUES (56, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (56, 0, '[[1, 2], [9, 9]]')",
    ),
    "a tree of texts": (
        CHECK,
        "INSERT INTO groups VALUES (57, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (57, 0, '{\"a\": 1}')",
    ),
    "a tree with a huge number": (
        CHECK,
        "INSERT INTO groups VALUES (58, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (58, 9223372036854775807, '[[1, 2]]')",
    ),
    "a tree whose weight is no number": (
        CHECK,
        "INSERT INTO groups VALUES (58, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges, weight) VALUES (58, 0, '[[1, 2]]', 'NaN')",
    ),
    "a tree without weight": (
        CHECK,
        "INSERT INTO groups VALUES (58, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges, weight) VALUES (58, 0, '[[1, 2]]', 0)",
    ),
    "a state that there is not": (
        UNSUPPORTED,
        "UPDATE nodes SET state = 'asleep', process = 3.5, mtu = -1, labels = '[]'",
    ),
    "a state that cannot be wanted": (CHECK, "UPDATE nodes SET wanted = 'asleep'"),
    "no nodes": (UNSUPPORTED, "DELETE FROM nodes"),
    "a new node": (UNSUPPORTED, "INSERT INTO nodes (node_id, name) VALUES (9, 'nine')"),
    "no links at once": (UNSUPPORTED, "TRUNCATE links"),
}
"""Statements that fail, and the class of the error (SQLSTATE)."""

REJECTED = {
    "a link that would reorder": (
        "links",
        "UPDATE links SET forward = '{\"jitter_us\": 5}' WHERE a = 2 AND b = 3",
    ),
    "a link with a wrong unit": (
        "links",
        'UPDATE links SET forward = \'{"delay": "5 parsec"}\' WHERE a = 2 AND b = 3',
    ),
    "a link with a file": (
        "links",
        'UPDATE links SET forward = \'{"trace": {"file": "/etc/passwd"}}\' WHERE a = 2 AND b = 3',
    ),
    "a link in two languages": (
        "links",
        'UPDATE links SET forward = \'{"delay_us": 5, "loss": "1 %"}\' WHERE a = 2 AND b = 3',
    ),
    "a route with a loop": (
        "routes",
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[1, 2, 3, 4, 1]')",
    ),
    "a route that does not arrive": (
        "routes",
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[1, 2]')",
    ),
    "a group outside the pool": ("groups", "INSERT INTO groups VALUES (51, 'x', 1, '8.8.8.8')"),
    "a group whose address is a text": ("groups", "INSERT INTO groups VALUES (52, 'x', 1, 'here')"),
    "a group with a number of 32 bits": (
        "groups",
        "INSERT INTO groups (group_id, label, src_node_id) VALUES (4294967295, 'x', 1)",
    ),
    "a group with a name of two lines": (
        "groups",
        "INSERT INTO groups (label, src_node_id) VALUES (E'x\\ny', 1)",
    ),
    "a tree that is none": (
        "group_trees",
        "INSERT INTO groups VALUES (56, 'x', 1, NULL);"
        " INSERT INTO group_trees (group_id, tree_id, edges) VALUES (56, 0, '[[1, 2], [2, 1]]')",
    ),
    "a node whose process is elsewhere": ("nodes", "UPDATE nodes SET wanted = 'stopped' WHERE node_id = 2"),
}
"""Statements that the controller refuses, and the table of the row."""

HARMLESS = {
    "a run that never was": "INSERT INTO runs (run, scenario, state, entry, params, seed, timeout_s, started_at)"
    " VALUES ('ghost', 'x', 'running', 'roles.py', '7', -5, 'NaN', 'infinity')",
    "a run in an odd state": "INSERT INTO runs (run, scenario, state, entry, params, seed, timeout_s, started_at)"
    " VALUES ('odd', 'x', 'stopping', '', '{}', 0, 1e300, '-infinity');"
    " INSERT INTO run_roles (run, node_id, role, state) VALUES ('odd', 99, 'a', 'asleep'), ('odd', 1, 'b', 'sent')",
}


async def connection_to(database: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
    """Connect as somebody else than the controller."""
    conninfo = DatabaseSettings(**database).conninfo()
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, application_name="by hand")


async def test_what_the_database_can_know_fails_the_statement(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 4))
    await controller.core.store.flushed()
    async with await connection_to(database) as sql:
        for name, (state, statement) in REFUSED.items():
            with pytest.raises(psycopg.Error) as caught:
                await sql.execute(statement.encode())
            assert caught.value.sqlstate == state, (name, caught.value)
        cursor = await sql.execute("SELECT count(*) FROM sql_changes")
        assert await cursor.fetchone() == (0,)
    assert controller.core.problems() == ()


async def test_an_error_of_the_database_says_what_is_wrong_and_what_would_be_right(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    said = {
        "INSERT INTO links (a, b) VALUES (1, 99)": (
            "b is 99, but there is no node 99 in this lab",
            "its nodes are 1 to 4",
        ),
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 4, '7')": (
            "edges are no list of pairs of nodes: 7",
            "such as [[1, 2], [2, 3]], or the path [1, 2, 3]",
        ),
        "UPDATE links SET forward = '{\"loss\": 1.5}'": (
            "forward: loss is 1.5, but a probability from 0 to 1 is expected",
            None,
        ),
        "TRUNCATE group_trees": ("TRUNCATE does not reach the lab", "DELETE FROM group_trees"),
    }
    await controller.core.store.flushed()
    async with await connection_to(database) as sql:
        for statement, (message, hint) in said.items():
            with pytest.raises(psycopg.Error) as caught:
                await sql.execute(statement.encode())
            assert (caught.value.diag.message_primary, caught.value.diag.message_hint) == (message, hint)


async def test_what_only_the_controller_knows_is_undone_and_kept_in_rejections(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    async with await connection_to(database) as sql:
        for number, (name, (table, statement)) in enumerate(REJECTED.items(), start=1):
            before = await (await sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode())).fetchall()
            await sql.execute(statement.encode())
            seen = await eventually(
                sql, "SELECT table_name, reason, role, application FROM rejections", number
            )
            assert (seen[-1][0], seen[-1][2:]) == (table, ("nm", "by hand")), name
            await controller.core.store.flushed()
            after = await (await sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode())).fetchall()
            assert after == before, name
            await sql.execute("DELETE FROM groups")
        await eventually(sql, "SELECT FROM sql_changes WHERE confirmed_at IS NOT NULL", number)
    assert controller.core.problems() == ()
    events = [event for event in controller.core.events.recent(0, 1000)[0] if event.name == "sql.rejected"]
    assert len(events) == number and events[0].detail["error"] == "link.value"
    await host.until(lambda: not any(node.explicit or node.trees for node in host.nodes.values()))


async def eventually(sql: psycopg.AsyncConnection[Any], query: str, count: int) -> list[Any]:
    """Return the rows of a query once there are so many."""
    async with asyncio.timeout(10):
        while True:
            rows = await (await sql.execute(query.encode())).fetchall()
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_row_that_makes_no_sense_stops_neither_the_lab_nor_a_restart(
    start: Start, database: dict[str, Any], name: str
) -> None:
    controller = await start(settings(database, 3))
    host = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [host])
    # Asynchronous: a statement may wait for a lock that the controller, in this event loop, is about to release.
    conninfo = DatabaseSettings(**database).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        await sql.execute(HARMLESS[name].encode())
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
    [group] = [group for group in shown.groups if group.label == "sound"]
    assert group.members == (2,)


async def test_invalid_rows_that_were_written_while_no_controller_ran_do_not_prevent_its_start(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.stop()
    await host.die()
    async with await connection_to(database) as sql:
        for number, (_, statement) in enumerate(REJECTED.values()):
            await sql.execute(statement.replace("'x'", f"'x{number}'").encode())
        again = await start(settings(database, 4))
        for node in host.nodes.values():
            node.ready = False
        await ready_lab(again, [host])
        await eventually(sql, "SELECT FROM sql_changes WHERE applied_at IS NOT NULL", len(REJECTED))
        await again.core.store.flushed()
        assert await (await sql.execute("SELECT * FROM routes")).fetchall() == []
        assert await (await sql.execute("SELECT group_id FROM groups")).fetchall() == [(56,)]
        assert await (await sql.execute("SELECT * FROM group_trees")).fetchall() == []
    assert again.core.problems() == ()


async def test_a_link_takes_the_words_of_the_topology_file_and_keeps_them_as_fields(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    async with await connection_to(database) as sql:
        await sql.execute(
            """UPDATE links SET forward = '{"delay": "20 ms", "loss": "1 %"}' WHERE (a, b) = (2, 3)"""
        )
        await host.until(lambda: host.nodes[2].links[3].link == LinkSpec(delay_us=20_000, loss=0.01))
        await eventually(sql, "SELECT FROM sql_changes WHERE confirmed_at IS NOT NULL", 1)
        await controller.core.store.flushed()
        shown = await (
            await sql.execute("SELECT forward, forward_now FROM links WHERE (a, b) = (2, 3)")
        ).fetchone()
        assert shown == ({}, {"delay_us": 20_000, "loss": 0.01})
        await sql.execute("DELETE FROM links WHERE (a, b) = (1, 2)")
        await host.until(lambda: 2 not in host.nodes[1].links)
    await controller.stop()
    await host.die()
    again = await start(settings(database, 4))
    registry = again.core.lab.registry
    assert (1, 2) not in registry.links  # though the file declares it
    assert registry.link(2, 3).spec_from(2) == LinkSpec(delay_us=20_000, loss=0.01)
