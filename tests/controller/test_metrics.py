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
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

NOW = round(time.time() * 1000)
KEY = bytes(range(16))


def links(*rows: tuple[int, ...]) -> m.LinkColumns:
    return m.LinkColumns(*zip(*rows, strict=True))


def flows(finish_us: int = 0, start_us: int = NOW * 1000 - 5, key: bytes = KEY) -> m.AppFlowColumns:
    name = "tcp 10.0.0.1:40000 > 10.0.0.2:80"
    return m.AppFlowColumns(
        (key,), (name,), (2,), (start_us,), (finish_us,), (10,), (15_000,), (5,), (260,), (812,)
    )


def report(time_ms: int = NOW, sent: int = 1_000, process: int = 7, **more: Any) -> m.Metrics:
    counters = links((2, sent // 100, sent, 3, 300, 4, 6_000))
    return m.Metrics(time_ms, process, 5, 10, sent, 3, 300, links=counters, **more)


def taken(state: NodeState, message: m.Metrics, now: float = 0.0) -> m.NodeMetrics:
    columns: list[Any] = [getattr(message.links, name) for name in m.LinkColumns.__slots__]
    state.take(message, list(zip(*columns, strict=True)), [], now)
    return state.metrics(now, 1_000)


def test_rates_are_those_between_the_last_two_reports() -> None:
    state = NodeState()
    assert taken(state, report(sent=1_000)).links[0].tx_bps == 0, "one report has no rate"
    found = taken(state, report(NOW + 2_000, sent=3_000, drops=(m.DropCounter(2, {"loss": 4}),)))
    assert (found.links[0].tx_bps, found.links[0].tx_pps, found.out_bps) == (8_000, 10, 8_000)
    assert (found.links[0].drops, found.links[0].drops_pps) == ({"loss": 4}, 4)


def test_counters_that_begin_again_give_no_negative_rate() -> None:
    state = NodeState()
    taken(state, report(sent=10_000))
    assert taken(state, report(NOW + 1_000, sent=400)).links[0].tx_bps == 3_200, "a link that was made again"
    found = taken(state, report(NOW + 2_000, sent=100, process=8))
    assert (found.links[0].tx_bps, found.links[0].tx_bytes, found.process) == (0, 100, 8)


def test_rates_of_a_node_that_reports_nothing_are_zero() -> None:
    state = NodeState()
    taken(state, report(sent=1_000))
    assert taken(state, report(NOW + 1_000, sent=2_000)).out_bps == 8_000
    assert state.metrics(2.4, 1_000).out_bps == 8_000
    later = state.metrics(2.6, 1_000)
    assert (later.out_bps, later.links[0].tx_bps, later.links[0].tx_bytes) == (0, 0, 2_000)


def test_a_clock_that_is_set_back_gives_no_rate() -> None:
    state = NodeState()
    taken(state, report(sent=1_000))
    assert taken(state, report(NOW - 5_000, sent=2_000)).out_bps == 0


def test_flows_in_memory_are_bounded() -> None:
    state = NodeState()
    taken(state, report())
    for number in range(MAX_OPEN_FLOWS + 5):
        assert len(state.take_flows(1, NOW, flows(key=number.to_bytes(16, "big")))) == 1
        assert not state.take_flows(1, NOW, flows(key=number.to_bytes(16, "big"))), "it began before"
    for number in range(MAX_ENDED_FLOWS + 5):
        state.take_flows(1, NOW, flows(NOW * 1000, key=number.to_bytes(16, "little")))
    found = state.metrics(0.0, 1_000).app_flows
    assert sum(flow.finish_us is None for flow in found) <= MAX_OPEN_FLOWS
    assert sum(flow.finish_us is not None for flow in found) == MAX_ENDED_FLOWS


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
    await host.request(
        1,
        report(
            drops=(m.DropCounter(2, {"loss": 4}), m.DropCounter(0, {"no_route": 1})),
            flows=m.FlowColumns((KEY,), (10,), (2**62,)),
            app_flows=flows(),
            groups=m.GroupColumns((1,), (20,), (30_000,), (10,), (15_000,)),
            sessions=(session,),
        ),
    )
    await host.request(1, report(NOW + 1_000, sent=2_000, app_flows=flows(NOW * 1000)))
    state, found = await ask(controller, m.GetMetrics())
    assert (state.reports, state.refused, state.interval_ms, state.keep_s) == (3, 0, 500, 3_000)
    [(node, newest)] = found
    assert (node, newest.out_bps, newest.sessions) == (1, 8_000, (session,))
    assert newest.app_flows[0].finish_us == NOW * 1000
    everything, _ = await ask(controller, m.GetMetricRows("nodes"))
    assert len(everything.rows) == 3
    assert await controller.core.store.expire_metrics(3_000) is False
    page, _ = await ask(controller, m.GetMetricRows("links", limit=1))
    assert page.columns[:4] == ("time_ms", "node_id", "remote_node_id", "tx_packets")
    assert [row[:3] for row in page.rows] == [[NOW, 1, 2]], "the first report was too old"
    assert page.rows[0][-1] == {"loss": 4}
    rest, _ = await ask(controller, m.GetMetricRows("links", after=page.next))
    assert [row[0] for row in rest.rows] == [NOW + 1_000]
    assert rest.next == 0
    later, _ = await ask(controller, m.GetMetricRows("links", since_ms=NOW + 1))
    assert later.rows == rest.rows
    for table, columns in [("flows", 5), ("nodes", 11), ("groups", 7), ("sessions", 12), ("app-flows", 12)]:
        rows, _ = await ask(controller, m.GetMetricRows(table))
        assert len(rows.columns) == columns and len(rows.rows) >= 1, table
    conninfo = DatabaseSettings(**{**database, "user": "nm_user"}).conninfo()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as sql:
        cursor = await sql.execute("SELECT flow_id, local_node_id, bytes FROM metrics")
        assert await cursor.fetchall() == [(KEY, 1, 2**62)]
        cursor = await sql.execute(
            "SELECT src_node_id, dst_node_id, start_time, is_finished, finish_time, name, rx_bytes"
            " FROM app_flows"
        )
        name = "tcp 10.0.0.1:40000 > 10.0.0.2:80"
        assert await cursor.fetchall() == [(1, 2, NOW - 1, True, NOW, name, 260)]
        cursor = await sql.execute("SELECT drops FROM node_counters ORDER BY id LIMIT 1")
        assert await cursor.fetchone() == ({"no_route": 1},)
    with pytest.raises(PeerError) as caught:
        await ask(controller, m.GetMetricRows("nodes; DROP TABLE flows"))
    assert caught.value.id == "metrics.table"


@pytest.mark.integration
async def test_wrong_reports_are_refused_and_counted(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    good = links((2, 1, 1, 1, 1, 1, 1))
    wrong = [
        m.Metrics(NOW, links=dataclasses.replace(good, tx_bytes=(1, 2))),
        m.Metrics(NOW, links=links((99, 1, 1, 1, 1, 1, 1))),
        m.Metrics(NOW, drops=(m.DropCounter(2, {"rm -rf\t/": 1}),)),
        m.Metrics(NOW, drops=(m.DropCounter(99, {"loss": 1}),)),
        m.Metrics(NOW, flows=m.FlowColumns((b"short",), (1,), (1,))),
        m.Metrics(NOW, flows=m.FlowColumns((KEY,) * 2_000, (1,) * 2_000, (1,) * 2_000)),
        m.Metrics(NOW, app_flows=dataclasses.replace(flows(), name=("a\nb",))),
        m.Metrics(NOW, app_flows=dataclasses.replace(flows(), finish_us=())),
        m.Metrics(NOW, app_flows=flows(2**62)),
        m.Metrics(NOW, sessions=(m.SessionCounter(1, "\x00", 1, "active", 1, 1, 1, 1, 1, 1),)),
    ]
    for message in wrong:
        with pytest.raises(PeerError) as caught:
            await host.request(1, message)
        assert caught.value.id == "metrics.invalid", message
    with pytest.raises(PeerError) as caught:  # more than Postgres holds
        await host.request(1, m.Metrics(NOW, links=links((2, 2**63, 1, 1, 1, 1, 1))))
    assert caught.value.id == "protocol.body"
    await host.request(1, m.Metrics(2**64 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1, links=good))
    state, _ = await ask(controller, m.GetMetrics())
    assert (state.reports, state.refused) == (1, len(wrong))
    assert controller.core.store.problems == ()
