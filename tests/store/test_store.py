"""Test the store across restarts and outages of Postgres."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import messages as m
from orchestrator.store import (
    Changed,
    EventRow,
    GroupRow,
    LinkRow,
    NodeRow,
    RoleRow,
    RouteRow,
    RunRow,
    SchemaTooNew,
    Store,
    StoreUnavailable,
    TreeRow,
    writer,
)
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.lab import read_groups, read_links
from orchestrator.store.metrics import AppFlow, app_flow_line, metric_line
from orchestrator.store.migrate import migrate, migrations

pytestmark = pytest.mark.integration

TOTALS = (0,) * m.TOTALS
RUN = RunRow(
    run="r1",
    scenario="hello",
    state="running",
    reason="",
    entry="roles.py",
    params={"size": 5},
    seed=2**64 - 1,
    timeout_s=60.0,
    started_ms=1_700_000_000_123,
    files={"roles.py": b"\x00\xff"},
    roles=(RoleRow(1, "trainer", "running"), RoleRow(2, "worker", "sent")),
    rows={},
    values={},
    barriers={},
    last_event=0,
    started_monotonic=1_234.5,
    boot="a boot",
)


async def rows(store: Store, read: Callable[[Any], Any]) -> Any:
    """Read rows again."""
    async with store._connection() as connection:
        return await read(connection)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database)
    await store.open("ring")
    yield store
    await store.close()


async def test_the_lab_is_found_again_as_it_was(database: str, store: Store) -> None:
    nodes = [
        NodeRow(n, f"node-{n}", {"tier": "core"}, False, "ready", "lab", "h:1", "", 2**64 - n) for n in (1, 2)
    ]
    link = LinkRow(1, 2, LinkSpec(rate_bps=10**10), LinkSpec(), LinkSpec(delay_us=0), None)
    route = RouteRow(7, 1, 2, ((1, 2),))
    store.lab.save_nodes(nodes)
    store.lab.save_links([link])
    store.lab.save_routes([route, RouteRow(8, 2, 1, ((2, 1),))])
    store.lab.drop_routes([8])
    store.lab.save_group(GroupRow(1, "weights", 1, "239.255.0.10"))
    store.lab.add_member(1, 2)
    store.lab.add_member(1, 1)
    store.lab.drop_member(1, 1)
    store.lab.set_trees(1, [TreeRow(0, ((1, 2),), 0.5)])
    store.lab.lab_ready("ring")
    store.history.event(
        EventRow(41, 1_700_000_000_000, "node.ready", 2, {"nan": float("nan"), "zero": "a\0b"})
    )
    store.runs.begin(RUN)
    store.runs.row("r1", 1, 1, "trainer", {"bytes": 2**53, "raw": b"\x01"}, 1_700_000_000_000, 2)
    store.runs.row("r1", 1, 1, "trainer", {"twice": True}, 1_700_000_000_000, 3)
    store.runs.value("r1", "group", [1, "239.255.0.10"])
    store.runs.barrier("r1", "start", 2)
    store.runs.barrier("r1", "start", 1)
    store.runs.event("r1", 1, 1_700_000_000_000, "started", 0, "", None)
    assert await store.flushed()
    other = Store(database)
    found = await other.open("ring")
    assert (found.lab.incarnation, found.lab.was_ready, found.last_event) == (2, True, 41)
    assert found.nodes == tuple(nodes)
    assert (found.links, found.routes) == ((link,), (route,))
    assert found.groups == (GroupRow(1, "weights", 1, "239.255.0.10", (2,), (TreeRow(0, ((1, 2),), 0.5),)),)
    [run] = found.runs
    assert (run.files, run.roles, run.seed, run.started_ms) == (
        RUN.files,
        RUN.roles,
        RUN.seed,
        RUN.started_ms,
    )
    assert (run.started_monotonic, run.boot) == (RUN.started_monotonic, RUN.boot)
    assert (run.rows, run.values, run.barriers) == ({1: 1}, {"group": [1, "239.255.0.10"]}, {"start": 2})
    assert [event.detail for event in await other.events(0, 10)] == [{"nan": None, "zero": "a�b"}]
    other.runs.state("r1", "finished", "", 1_700_000_001_000)
    other.runs.result("r1", "pass", {"rows": []})
    assert await other.flushed()
    assert await other.run_state("r1") == ("hello", "finished", "")
    events = await other.run_events("r1", 0)
    assert [(event[0], event[5]) for event in events] == [(1, None), (2, {"raw": "01", "bytes": 2**53})]
    await other.close()


async def test_migrations_are_numbered_and_applied_once(database: str) -> None:
    steps = migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))

    async def attempt() -> int:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            return await migrate(connection)

    assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [0, 0, 0, 0, len(steps)]


async def test_a_database_of_a_newer_release_is_refused(database: str, store: Store) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("INSERT INTO schema_migrations (number, name) VALUES (999, 'future')")
    with pytest.raises(SchemaTooNew, match="999"):
        await Store(database).open("ring")


async def test_a_change_made_by_sql_is_heard_and_our_own_is_not(database: str, store: Store) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    store.listen(heard.put_nowait)
    store.lab.save_nodes([NodeRow(n, f"node-{n}") for n in (1, 2)])
    store.lab.save_links([LinkRow(1, 2)])
    assert await store.flushed()
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True, application_name="by hand"
    ) as connection:
        async with asyncio.timeout(5):  # what was missed before it began to listen
            tables = {"links", "routes", "groups", "user_flows", "probes"}
            assert {await heard.get() for _ in tables} == tables
        assert await store.sql_changes() == Changed()
        await connection.execute("""UPDATE links SET forward = '{"delay": "20 ms"}' WHERE a = 1""")
        async with asyncio.timeout(5):
            assert await heard.get() == "links"
        await connection.execute(
            "INSERT INTO routes (src_node_id, dst_node_id, edges) VALUES (1, 2, '[1, 2]'), (2, 1, '[[2, 1]]')"
        )
        await connection.execute("INSERT INTO groups (group_id, label, src_node_id) VALUES (5, 'x', 1)")
        await connection.execute("INSERT INTO group_members (group_id, node_id) VALUES (5, 2)")
        await connection.execute("DELETE FROM routes WHERE src_node_id = 2")
    changed = await store.sql_changes()
    made = [(change.table, change.operation, len(change.keys)) for change in changed.changes]
    assert made == [
        ("links", "update", 1),
        ("routes", "insert", 2),
        ("groups", "insert", 1),
        ("group_members", "insert", 1),
        ("routes", "delete", 1),
    ]
    assert {change.application for change in changed.changes} == {"by hand"}
    link = changed.links[1, 2]
    assert (link.forward_now, link.in_words, link.origin) == (LinkSpec(delay_us=20_000), True, "file")
    assert [route.edges for route in changed.routes.values()] == [((1, 2),)]
    assert changed.groups[5,] == GroupRow(5, "x", 1, None, (2,))
    store.sql.applied(changed.changes)
    assert await store.flushed()
    assert await store.sql_changes() == Changed()


async def test_measurements_go_in_by_the_thousand(database: str, store: Store) -> None:
    began = time.monotonic()
    store.metrics.reports(
        metric_line(
            1_700_000_000_000 + n,
            1,
            (7, *TOTALS),
            m.Metrics(n, TOTALS, (2, n, 2**63 - 1, 0, 0, 0, 0), (m.DropCounter(2, {"loss": n}),)),
        )
        for n in range(10_000)
    )
    store.history.flows_started([(bytes(16), 5, 1, 1, 2, None)])
    store.history.flows_routed([(9, bytes(16))])
    store.history.flows_finished([(bytes(16), 5, 1, 9, 10**12)])
    assert await store.flushed()
    await store.close()
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute(
            "SELECT count(*), max(tx_bytes), max((drops->'loss')::int) FROM link_counters"
        )
        assert await cursor.fetchone() == (10_000, 2**63 - 1, 9_999)
        cursor = await connection.execute("SELECT bytes, route_id FROM flows")
        assert await cursor.fetchone() == (10**12, 9)
    assert time.monotonic() - began < 20


async def test_measurements_are_bounded_while_postgres_is_away(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = metric_line(1_700_000_000_000, 1, (7, *TOTALS), m.Metrics(0, TOTALS))
    monkeypatch.setattr(writer, "KEEP_ROW_BYTES", 100 * len(line))
    store.metrics.reports([line] * 250)  # before the writer has a turn
    assert store.metrics.lost_rows == 150
    flow = AppFlow(bytes(16), "udp a > b", 1, 5, 2, 1_000, 0, 1, 60, 0, 0, 0, 0)
    store.metrics.app_flows([app_flow_line(flow, 5)])
    given_up = store.metrics.lost_rows
    assert given_up > 150, "counters make space for the flow"
    assert await store.flushed()
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT count(*) FROM node_metrics")
        assert await cursor.fetchone() == (250 - given_up,)
        cursor = await connection.execute("SELECT count(*) FROM app_flows")
        assert await cursor.fetchone() == (1,)


async def test_flows_that_were_given_up_do_not_let_reports_be_written_twice(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one table are given up while those of both are being written."""
    report = metric_line(1_700_000_000_000, 1, (7, *TOTALS), m.Metrics(0, TOTALS))
    counts = (1, 60, 0, 0, 0, 0)
    begun = [AppFlow(bytes([n] * 16), "udp a > b", 1, 5, 2, 1_000 + n, 0, *counts) for n in range(200)]
    lines = [app_flow_line(flow, 5) for flow in begun]
    monkeypatch.setattr(writer, "KEEP_ROW_BYTES", 50 * len(report) + 60 * len(lines[-1]))
    copy = writer.Writer._copy

    async def slow(self: writer.Writer, *given: Any) -> None:
        monkeypatch.setattr(writer.Writer, "_copy", copy)
        store.metrics.app_flows(lines[50:])
        await copy(self, *given)

    monkeypatch.setattr(writer.Writer, "_copy", slow)
    store.metrics.reports([report] * 50)
    store.metrics.app_flows(lines[:50])
    assert await store.flushed()
    assert await store.flushed(), "what came meanwhile"
    assert store.metrics.lost_rows == 200 - 60
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT count(*) FROM node_metrics")
        assert await cursor.fetchone() == (50,)
        cursor = await connection.execute("SELECT name, max(start_us) FROM app_flows GROUP BY name")
        assert await cursor.fetchone() == ("udp a > b", 1_199)


async def test_a_write_that_postgres_refuses_does_not_hold_up_the_others(store: Store) -> None:
    store.lab.save_nodes([NodeRow(1, "node-1")])
    store.lab.add_member(99, 1)  # no such group
    store.lab.save_group(GroupRow(1, "one", 1, "239.255.0.10"))
    assert await store.flushed()
    assert [group.group_id for group in await rows(store, read_groups)] == [1]


async def test_only_the_row_that_cannot_be_written_is_left_out_and_its_writer_is_told(store: Store) -> None:
    """A key that no index holds (SQLSTATE class 54) among many; it was retried for ever."""
    refused: list[str] = []
    store.runs.begin(RUN)
    for number in range(1, 41):
        store.runs.row("r1", 1, number, "trainer", {"n": number}, 1_700_000_000_000, number)
        if number == 20:
            key = "".join(chr(200 + n * 7 % 5000) for n in range(6000))  # does not compress to less
            store.runs.value("r1", key, 1, refused.append)
    store.lab.save_nodes([NodeRow(n, f"node-{n}") for n in (1, 2)])
    store.lab.save_links([LinkRow(1, 2, LinkSpec(delay_us=5))])
    assert await store.flushed()
    assert len(refused) == 1 and "index row" in refused[0]
    assert len(await store.run_events("r1", 0)) == 40
    assert [link.forward for link in await rows(store, read_links)] == [LinkSpec(delay_us=5)]
    assert store.problems == ("Postgres refused 1 writes; the controller's log has them",)


async def test_a_value_nested_too_deeply_fails_its_writer_and_not_the_store(store: Store) -> None:
    value: list[object] = []
    for _ in range(5000):
        value = [value]
    store.runs.begin(RUN)
    with pytest.raises(ValueError, match="nested too deeply"):
        store.runs.row("r1", 1, 1, "trainer", {"a": value}, 1_700_000_000_000, 1)
    store.runs.row("r1", 1, 2, "trainer", {"a": 1}, 1_700_000_000_000, 2)
    assert await store.flushed() and not store.problems
    assert [event[5] for event in await store.run_events("r1", 0)] == [{"a": 1}]


async def test_there_is_no_room_while_much_waits_and_room_again_when_it_is_written(store: Store) -> None:
    store.runs.begin(RUN)
    for number in range(1, 17):
        store.runs.row("r1", 1, number, "trainer", {"x": "y" * 2**20}, 1_700_000_000_000, number)
    waiting = asyncio.create_task(store.wait_for_capacity())
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.wait_for(waiting, 30)
    assert await store.stored(30)
    assert len(await store.run_events("r1", 0)) == 16


async def test_writes_made_while_postgres_is_dead_arrive_when_it_is_back(
    postgres: EmbeddedPostgres, database: str, store: Store
) -> None:
    heard: list[str] = []
    store.listen(heard.append)
    store.lab.save_nodes([NodeRow(1, "node-1")])
    store.lab.save_group(GroupRow(1, "before", 1, "239.255.0.10"))
    assert await store.flushed()
    os.kill(postgres.pid, signal.SIGKILL)
    written = 1
    while await store.flushed():  # its back ends live a moment longer, and commit what they are given
        written += 1
        store.lab.save_group(GroupRow(written, f"meanwhile {written}", 1, f"239.255.1.{written}"))
    assert store.problems and "Postgres" in store.problems[0]
    with pytest.raises(StoreUnavailable):
        await rows(store, read_groups)
    assert not await store.flushed()  # at once: nobody waits for a dead server twice
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: not store.problems and len(heard) >= 6)  # a second time after the outage
    assert [group.group_id for group in await rows(store, read_groups)] == list(range(1, written + 1))


async def test_nobody_there_is_said_within_the_limit(tmp_path: object) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"within 0.3 s") as caught:
        await Store("host=/nonexistent port=1 user=nm dbname=x").open("ring", within=0.3)
    assert caught.value.hint and time.monotonic() - began < 2


async def test_a_server_that_comes_late_is_waited_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("late") / "db")
    store = Store(server.dsn)
    opening = asyncio.create_task(store.open("ring", within=20))
    try:
        await asyncio.to_thread(server.start)
        assert (await opening).lab.incarnation == 1
        await store.close()
    finally:
        server.stop()


async def eventually(condition: Callable[[], bool], within: float = 15.0) -> None:
    """Wait for what the background brings about; there is no event to wait for."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


async def test_no_number_is_asked_for_where_none_is_needed() -> None:
    assert await Store("").new_routes(0) == []
