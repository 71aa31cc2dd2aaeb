# ruff: noqa: E501  # statements read better in one line
"""Test the statements that a user of Nextmini writes, with its tables and columns, one by one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.settings.controller import DatabaseSettings

from .conftest import Start
from .fakes import FakeNode, FakeProcess, ready_lab, settings
from .test_invalid_sql_rows import eventually

pytestmark = pytest.mark.integration

Nodes = dict[int, FakeNode]


def hops(nodes: Nodes, node: int, route: int) -> tuple[int, ...]:
    """Where a node sends packets of a route; empty if it does not know it."""
    known = nodes[node].explicit.get(route)
    return known.next_hops if known else ()


STATEMENTS: list[tuple[str, Callable[[Nodes], bool]]] = [
    (
        "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 3, '[[1,2],[2,3]]')",
        lambda nodes: len(nodes[1].explicit) == len(nodes[2].explicit) == 1,
    ),
    (
        "INSERT INTO routes (route_id, src_node_id, dst_node_id, edges) VALUES (7, 1, 3, '[[1,4],[4,3]]'::jsonb)",
        lambda nodes: hops(nodes, 4, 7) == (3,),
    ),
    (
        "UPDATE routes SET edges = '[[1,2],[1,4],[2,3],[4,3]]' WHERE route_id = 7",
        lambda nodes: hops(nodes, 1, 7) == (2, 4),
    ),
    ("DELETE FROM routes WHERE route_id = 7", lambda nodes: hops(nodes, 1, 7) == hops(nodes, 4, 7) == ()),
    ("DELETE FROM routes", lambda nodes: not any(node.explicit for node in nodes.values())),
    (
        "INSERT INTO groups (label, src_node_id, group_ip) VALUES ('weights', 1, '239.255.0.99')",
        lambda nodes: any(group.group_ip == "239.255.0.99" for group in nodes[3].groups.values()),
    ),
    (
        "INSERT INTO group_members (group_id, node_id) SELECT id, 3 FROM groups WHERE label = 'weights'",
        lambda nodes: bool(nodes[3].trees and nodes[3].members) and nodes[3].members[-1].joined,
    ),
    (
        "INSERT INTO group_routes (group_id, tree_id, src_node_id, edges)"
        " SELECT id, 0, src_node_id, '[[1,4],[4,3]]' FROM groups WHERE label = 'weights'",
        lambda nodes: bool(nodes[4].trees),
    ),
    (
        "UPDATE group_routes SET edges = '[[1,2],[2,3]]', weight = 2 WHERE tree_id = 0",
        lambda nodes: bool(nodes[2].trees) and not nodes[4].trees,
    ),
    (
        "DELETE FROM group_members WHERE node_id = 3",
        lambda nodes: not nodes[3].members[-1].joined,
    ),
    ("DELETE FROM group_routes", lambda nodes: not nodes[2].trees),
    ("DELETE FROM groups WHERE label = 'weights'", lambda nodes: not nodes[3].groups),
    (
        "SELECT id, private_network_name, private_network_addr, public_network_addr FROM nodes",
        lambda nodes: True,
    ),
    ("SELECT id, label, src_node_id, group_ip, created_at FROM groups", lambda nodes: True),
    ("SELECT group_id, node_id, joined_at FROM group_members", lambda nodes: True),
    (
        "SELECT group_id, tree_id, src_node_id, edges, weight, updated_at FROM group_routes",
        lambda nodes: True,
    ),
    (
        "SELECT id, flow_id, local_node_id, remote_node_id, bytes, time_read FROM metrics ORDER BY id DESC",
        lambda nodes: True,
    ),
    (
        "SELECT id, flow_id, start_time, src_node_id, dst_node_id, is_finished, finish_time, route_id FROM app_flows",
        lambda nodes: True,
    ),
]


async def test_statements_with_the_tables_and_columns_of_nextmini_do_what_they_say(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        for statement, done in STATEMENTS:
            await sql.execute(statement.encode())
            try:
                await host.until(lambda done=done: done(host.nodes))  # type: ignore[misc]
            except TimeoutError:
                pytest.fail(statement)
        rejected = await (await sql.execute("SELECT * FROM rejections")).fetchall()
    assert rejected == []


async def test_messages_grow_with_the_difference_and_go_to_those_concerned(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 100))
    host = FakeProcess(range(1, 101), 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    many = ", ".join(
        f"({n % 90 + 1}, {n % 90 + 4}, '{[n % 90 + 1 + i for i in range(4)]}')" for n in range(1000)
    )
    insert = "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES "
    conninfo = DatabaseSettings(**database).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        await sql.execute((insert + many).encode())
        await host.until(lambda: sum(len(node.explicit) for node in host.nodes.values()) == 3_000)
        host.received.clear()
        await sql.execute((insert + "(50, 52, '[50, 51, 52]')").encode())
        await host.until(lambda: host.received["InstallRoutes"] == 2)
        await asyncio.sleep(0)
        assert dict(host.received) == {"InstallRoutes": 2}


async def test_the_role_of_people_may_change_the_lab_and_no_history(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 4))
    await controller.core.store.flushed()
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        await sql.execute("SET application_name = 'nm-controller'")  # is no way around the checks
        for statement in ("INSERT INTO links (a, b) VALUES (1, 99)", "DELETE FROM nodes"):
            with pytest.raises(psycopg.Error, match=r"there is no node 99|nodes do not come and go by SQL"):
                await sql.execute(statement.encode())
        for table in ("events", "rejections", "sql_changes", "runs", "lab", "node_metrics"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await sql.execute(f"DELETE FROM {table}".encode())


async def test_the_statements_of_the_page_about_sql_work(start: Start, database: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/sql.md").read_text()
    blocks = re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    controller = await start(settings(database, 4))
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await controller.core.store.flushed()
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    waiting = "SELECT count(*) FROM sql_changes WHERE confirmed_at IS NULL"
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        for statement in "".join(re.sub(r"--.*", "", block) for block in blocks).split(";"):
            if not statement.strip():
                continue
            await sql.execute(statement.encode())
            await eventually(sql, f"{waiting} HAVING count(*) = 0", 1)
        assert await (await sql.execute("SELECT * FROM rejections")).fetchall() == []
    assert len(blocks) == 4 and controller.core.problems() == ()
