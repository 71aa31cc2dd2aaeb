"""Test metrics: taken, kept in memory and in Postgres, refused when they are wrong, and bounded."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import psycopg
import pytest

from orchestrator.controller.metric_state import MAX_ENDED_FLOWS, MAX_OPEN_FLOWS, NodeState
from orchestrator.controller.service import Controller
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import DatabaseSettings
from orchestrator.store import ProbeRow, metrics
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

NOW = round(time.time() * 1000)
KEY = bytes(range(16))


def flows(
    finish_us: int = 0,
    start_us: int = NOW * 1000 - 5,
    key: bytes = KEY,
    *,
    sent: int = 15_000,
    route: int = 0,
) -> m.AppFlowColumns:
    name = "tcp 10.0.0.1:40000 > 10.0.0.2:80"
    return m.AppFlowColumns(key, (name,), (2, start_us, finish_us, 10, sent, 5, 260, 812, route))


def report(time_ms: int = NOW, sent: int = 1_000, **more: Any) -> m.Metrics:
    link = (2, sent // 100, sent, 3, 300, 4, 6_000)
    return m.Metrics(time_ms, (5, 10, sent, 3, 300, 0, 0), **{"links": link, **more})


def state_of(process: int = 7) -> NodeState:
    state = NodeState(1_000)
    state.begin(process)
    return state


def taken(state: NodeState, message: m.Metrics, now: float = 0.0) -> m.NodeMetrics:
    state.take(message, now)
    return state.metrics(now)


def test_rates_are_those_between_the_last_two_reports() -> None:
    state = state_of()
    assert taken(state, report(sent=1_000)).links[0].tx_bps == 0, "one report has no rate"
    found = taken(state, report(NOW + 1_000, sent=2_000, drops=(m.DropCounter(2, {"loss": 4}),)))
    assert (found.links[0].tx_bps, found.links[0].tx_pps, found.out_bps) == (8_000, 10, 8_000)
    assert (found.links[0].drops, found.links[0].drops_pps) == ({"loss": 4}, 4)


def test_what_changes_after_a_silence_changed_since_the_last_interval() -> None:
    state = state_of()
    taken(state, report(sent=1_000))
    found = taken(
        state, report(NOW + 60_000, sent=3_000, links=(2, 30, 3_000, 3, 300, 0, 0, 3, 1, 50, 0, 0, 0, 0))
    )
    assert (found.out_bps, found.links[0].tx_bps) == (16_000, 16_000)
    assert found.links[1].tx_bps == 400, "a link that no report had sent nothing before"


def test_counters_that_begin_again_give_no_negative_rate() -> None:
    state = state_of()
    taken(state, report(sent=10_000))
    assert taken(state, report(NOW + 1_000, sent=400)).links[0].tx_bps == 3_200, "a link that was made again"
    assert not state.begin(7) and not state.begin(8), "no flow ran"
    found = taken(state, report(NOW + 2_000, sent=100))
    assert (found.links[0].tx_bps, found.links[0].tx_bytes, found.process) == (0, 100, 8)


def test_rates_of_a_node_that_reports_nothing_are_zero() -> None:
    state = state_of()
    taken(state, report(sent=1_000))
    assert taken(state, report(NOW + 1_000, sent=2_000)).out_bps == 8_000
    assert state.metrics(2.4).out_bps == 8_000
    later = state.metrics(2.6)
    assert (later.out_bps, later.links[0].tx_bps, later.links[0].tx_bytes) == (0, 0, 2_000)


def test_a_clock_that_is_set_back_gives_no_rate() -> None:
    state = state_of()
    taken(state, report(sent=1_000))
    assert taken(state, report(NOW - 5_000, sent=2_000)).out_bps == 0


def test_links_that_were_removed_are_not_shown() -> None:
    state = state_of()
    taken(state, report())
    assert [link.remote_node_id for link in state.metrics(0.0, [2, 3]).links] == [2]
    assert not state.metrics(0.0, [3]).links


def test_flows_in_memory_are_bounded() -> None:
    state = state_of()
    taken(state, report())
    for number in range(MAX_OPEN_FLOWS + 5):
        assert len(state.take_flows(1, NOW, flows(key=number.to_bytes(16, "big")))) == 1
        assert not state.take_flows(1, NOW, flows(key=number.to_bytes(16, "big"))), "it began before"
    for number in range(MAX_ENDED_FLOWS + 5):
        state.take_flows(1, NOW, flows(NOW * 1000, key=number.to_bytes(16, "little")))
    found = state.metrics(0.0).app_flows
    assert sum(flow.finish_us is None for flow in found) <= MAX_OPEN_FLOWS
    assert sum(flow.finish_us is not None for flow in found) == MAX_ENDED_FLOWS


def test_a_flow_is_written_when_it_begins_moves_ends_and_every_ten_seconds() -> None:
    state = state_of()
    written = [
        [(flow.seen_ms - NOW, flow.route_id, bool(flow.finish_us)) for flow in found]
        for found in (
            state.take_flows(1, NOW, flows()),
            state.take_flows(1, NOW + 1_000, flows()),
            state.take_flows(1, NOW + 2_000, flows(route=9)),
            state.take_flows(1, NOW + 11_999, flows(route=9)),
            state.take_flows(1, NOW + 12_000, flows(route=9)),
            state.take_flows(1, NOW + 12_500, flows(NOW * 1000 + 12_400, route=9)),
        )
    ]
    assert written == [
        [(0, 0, False)],
        [],
        [(2_000, 9, False)],
        [],
        [(12_000, 9, False)],
        [(12_500, 9, True)],
    ]
    assert state.metrics(0.0).app_flows[0].route_id == 9


def test_a_flow_is_shown_before_the_first_report_and_has_a_rate_after_it() -> None:
    state = state_of()
    state.take_flows(1, NOW, flows(sent=60))
    (flow,) = state.metrics(0.0).app_flows
    assert (flow.finish_us, flow.tx_bps) == (None, 0)
    taken(state, report(NOW + 500))
    state.take_flows(1, NOW + 500, flows(sent=1_060))
    assert state.metrics(0.0).app_flows[0].tx_bps == 16_000


def test_flows_of_a_process_that_is_gone_have_ended_with_their_last_report() -> None:
    state = state_of()
    state.take_flows(1, NOW, flows())
    state.take_flows(1, NOW + 3_000, flows())
    (ended,) = state.begin(8)
    assert (ended.flow_id, ended.finish_us) == (KEY, 1000 * (NOW + 3_000))
    assert not state.metrics(0.0).app_flows


async def ask(controller: Controller, message: Any) -> tuple[Any, list[tuple[int, Any]]]:
    async with await connect(url(controller), OPERATOR_TOKEN, "operator") as operator:
        reply = await operator.request(message, within=10)
        return reply, [(frame.node, frame.message) for frame in operator.take()]


@pytest.mark.integration
async def test_reports_are_shown_and_written_and_old_ones_deleted(
    start: Start, database: dict[str, Any]
) -> None:
    controller = await start(settings(database, 2, metrics_keep_s=3_000, metrics_interval_ms=500))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    sent = host.nodes[1].settings
    assert sent is not None and sent.metrics_ms == 500
    await host.request(1, report(NOW - 4_000_000, sent=500))
    session = m.SessionCounter(4, "sender", 1, "active", 100, 50, 120, 20, 1, 812)
    await host.request(1, m.AppFlowStart(NOW - 1, flows(sent=60)))
    _, ((_, begun),) = await ask(controller, m.GetMetrics())
    assert (begun.app_flows[0].tx_bytes, begun.app_flows[0].finish_us) == (60, None)
    await host.request(
        1,
        report(
            drops=(m.DropCounter(2, {"loss": 4}), m.DropCounter(0, {"no_route": 1})),
            flow_ids=KEY,
            flows=(10, 2**62),
            app_flows=flows(),
            groups=(1, 20, 30_000, 10, 15_000),
            sessions=(session,),
        ),
    )
    await host.request(1, report(NOW + 500, sent=2_000, app_flows=flows(NOW * 1000, route=9)))
    state, found = await ask(controller, m.GetMetrics())
    assert (state.reports, state.refused, state.interval_ms, state.keep_s) == (3, 0, 500, 3_000)
    [(node, newest)] = found
    assert (node, newest.out_bps, newest.sessions) == (1, 16_000, (session,))
    flow = newest.app_flows[0]
    assert (flow.finish_us, flow.route_id) == (NOW * 1000, 9)
    everything, _ = await ask(controller, m.GetMetricRows("nodes"))
    assert len(everything.rows) == 3
    assert await controller.core.store.expire_metrics(3_000) is False
    page, _ = await ask(controller, m.GetMetricRows("links", limit=1))
    assert page.columns[:4] == ("time_ms", "node_id", "remote_node_id", "tx_packets")
    assert [row[:3] for row in page.rows] == [[NOW, 1, 2]], "the first report was too old"
    assert page.rows[0][-1] == {"loss": 4}
    rest, _ = await ask(controller, m.GetMetricRows("links", after=page.next))
    assert [row[0] for row in rest.rows] == [NOW + 500]
    assert rest.next == 0
    later, _ = await ask(controller, m.GetMetricRows("links", since_ms=NOW + 1))
    assert later.rows == rest.rows
    counts = {"flows": 5, "nodes": 11, "groups": 7, "sessions": 12, "app-flows": 12, "route-changes": 7}
    for table, columns in counts.items():
        rows, _ = await ask(controller, m.GetMetricRows(table))
        assert len(rows.columns) == columns and len(rows.rows) >= 1, table
    name = "tcp 10.0.0.1:40000 > 10.0.0.2:80"
    changes, _ = await ask(controller, m.GetMetricRows("route-changes"))
    assert changes.rows == [[NOW + 500, KEY.hex(), name, 1, 2, None, 9]]
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        cursor = await sql.execute("SELECT flow_id, local_node_id, bytes FROM metrics")
        assert await cursor.fetchall() == [(KEY, 1, 2**62)]
        cursor = await sql.execute(
            "SELECT src_node_id, dst_node_id, start_time, is_finished, finish_time, name, rx_bytes, route_id"
            " FROM app_flows"
        )
        assert await cursor.fetchall() == [(1, 2, NOW - 1, True, NOW, name, 260, 9)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await sql.execute("INSERT INTO app_flows (flow_id) VALUES ('x')")
        cursor = await sql.execute("SELECT drops FROM node_counters ORDER BY id LIMIT 1")
        assert await cursor.fetchone() == ({"no_route": 1},)
    with pytest.raises(PeerError) as caught:
        await ask(controller, m.GetMetricRows("nodes; DROP TABLE flows"))
    assert caught.value.id == "metrics.table"


@pytest.mark.integration
async def test_flows_and_their_routes_are_deleted_when_they_are_old_and_probes_beyond_a_number(
    start: Start, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "KEPT_PROBES", 2)
    monkeypatch.setattr(metrics, "EXPIRED_ROWS", 2)
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    keys = [bytes([number] * 16) for number in range(4)]
    for number, (key, finish_us) in enumerate(zip(keys, (0, NOW * 1000 - 4_000_000_000, 0, 0), strict=True)):
        age = 4_000_000 if number < 3 else 0
        begun = flows(finish_us, NOW * 1000 - 5_000_000_000, key)
        await host.request(1, m.AppFlowStart(NOW - age - 10, begun))
        await host.request(1, report(NOW - age, app_flows=flows(finish_us, begun.numbers[1], key, route=9)))
    store = controller.core.store
    probes = [await store.add_probe(1, 2, 10_000, 100, below=False) for _ in range(4)]
    for probe in probes[:3]:
        store.probes.ended(ProbeRow(probe, 1, 2, False, 10_000, 100, "sql", "failed", "", finish_us=1))
    await ask(controller, m.GetMetricRows("app-flows"))
    assert await store.flushed()
    steps = 0
    while await store.expire_metrics(3_600):
        steps += 1
    assert steps > 0, "each one deletes a part"
    left = {
        table: (await ask(controller, m.GetMetricRows(table)))[0].rows for table in ("app-flows", "nodes")
    }
    assert [row[0] for row in left["app-flows"]] == [keys[3].hex()]
    assert [row[0] for row in left["nodes"]] == [NOW]
    changes, _ = await ask(controller, m.GetMetricRows("route-changes"))
    assert [row[1] for row in changes.rows] == [keys[3].hex()]
    assert [row.probe_id for row in await store.read_probes(0, 10)] == probes[2:]


@pytest.mark.integration
async def test_wrong_reports_are_refused_and_counted(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    totals, link = (0,) * m.TOTALS, (2, 1, 1, 1, 1, 1, 1)
    columns = flows()
    session = m.SessionCounter(1, "sender", 1, "active", 1, 1, 1, 1, 1, 1)
    wrong = [
        m.Metrics(NOW, totals[1:], link),
        m.Metrics(NOW, totals, link[:6]),
        m.Metrics(NOW, totals, link * 3),
        m.Metrics(NOW, totals, (99, 1, 1, 1, 1, 1, 1)),
        m.Metrics(NOW, totals, groups=(1, 2)),
        m.Metrics(NOW, totals, drops=(m.DropCounter(2, {"rm -rf\t/": 1}),)),
        m.Metrics(NOW, totals, drops=(m.DropCounter(99, {"loss": 1}),)),
        m.Metrics(NOW, totals, flow_ids=b"short", flows=(1, 1)),
        m.Metrics(NOW, totals, flow_ids=KEY),
        m.Metrics(NOW, totals, flow_ids=KEY, flows=(1,)),
        m.Metrics(NOW, totals, flow_ids=KEY * 2_000, flows=(1, 1) * 2_000),
        m.Metrics(NOW, totals, app_flows=dataclasses.replace(columns, names=("a\nb",))),
        m.Metrics(NOW, totals, app_flows=dataclasses.replace(columns, numbers=())),
        m.Metrics(NOW, totals, app_flows=dataclasses.replace(columns, flow_ids=b"")),
        m.Metrics(NOW, totals, app_flows=flows(2**62)),
        m.AppFlowStart(NOW, flows(2**62)),
        m.Metrics(NOW, totals, sessions=(dataclasses.replace(session, role="\x00"),)),
        m.Metrics(NOW, totals, sessions=(dataclasses.replace(session, sent_bytes=2**63),)),
    ]
    for message in wrong:
        with pytest.raises(PeerError) as caught:
            await host.request(1, message)
        assert caught.value.id == "metrics.invalid", message
    with pytest.raises(PeerError) as caught:  # more than Postgres holds
        await host.request(1, m.Metrics(NOW, totals, (2, 2**63, 1, 1, 1, 1, 1)))
    assert caught.value.id == "protocol.body"
    await host.request(1, m.Metrics(2**64 - 1, (2**63 - 1,) * m.TOTALS, link))
    state, _ = await ask(controller, m.GetMetrics())
    assert (state.reports, state.refused) == (1, len(wrong))
    await controller.core.store.flushed()
    assert controller.core.store.problems == ()
    rows, _ = await ask(controller, m.GetMetricRows("nodes"))
    assert rows.rows[0][0] < 1000 * time.time() + 61_000, "no clock is that far ahead"
