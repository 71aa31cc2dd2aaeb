# ruff: noqa: E501  # statements read better in one line
"""Test that links are probed as operators and SQL ask for it, one after the other, and what is stored of it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from orchestrator.controller import probes
from orchestrator.controller.service import Controller
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.transport import Connection

from .conftest import Start
from .fakes import FakeProcess, ready_lab, settings, url
from .test_user_flows import operating, sql

pytestmark = pytest.mark.integration


def result(probe: int, remote: int = 2, **more: Any) -> m.ProbeResult:
    measured = {"round_trip_p50_us": 60_020.0, "round_trip_p99_us": 61_000.0, "packets_sent": 200}
    values = {**measured, "packets_received": 198, "packets_answered": 196, "sent_bytes": 10**6, **more}
    return m.ProbeResult(remote, probe, 19.99, **values)


async def begin(operator: Connection, src: int, dst: int, **more: Any) -> int:
    reply = await operator.request(m.StartProbe(src, dst, **more))
    assert isinstance(reply, m.Ack)
    return int(reply.value["id"])


async def ended(operator: Connection, probe: int, within_ms: int = 10_000) -> m.ProbeStatus:
    reply = await operator.request(m.WaitProbe(probe, within_ms), within=20)
    assert isinstance(reply, m.ProbeList)
    return reply.probes[0]


async def events(operator: Connection, name: str) -> list[m.Event]:
    reply = await operator.request(m.GetEvents(0))
    assert isinstance(reply, m.Events)
    return [event for event in reply.events if event.name == name]


async def test_probe_of_an_operator(start: Start, database: dict[str, Any]) -> None:
    """It reaches the node that probes, and what that reports is stored with an event."""
    controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        probe = await begin(operator, 1, 2, below=True, probe_bytes=10_000, time_ms=100)
        await host.until(lambda: bool(host.nodes[1].probes))
        assert host.nodes[1].probes == [m.ProbeLink(2, probe, 10_000, 100, True)]
        await host.request(1, result(probe))
        found = await ended(operator, probe)
        assert (found.state, found.origin, found.capacity_bps) == ("finished", "operator", 19_990_000)
        assert found.loss == pytest.approx(0.01)
        assert (found.round_trip_p50_us, found.packets_answered, found.below) == (60_020.0, 196, True)
        (event,) = await events(operator, "link.probed")
        assert (event.node, event.detail["remote"], event.detail["cause"]) == (1, 2, "operator")
        await host.request(1, result(probe))  # a report that is repeated changes nothing
        assert len(await events(operator, "link.probed")) == 1
        with pytest.raises(PeerError) as caught:
            await operator.request(m.GetProbe(probe + 1))
        assert caught.value.id == "probe.unknown"
        assert not any(host.nodes[other].probes for other in (2, 3, 4))


async def test_a_probe_ends_with_the_process_of_its_node(start: Start, database: dict[str, Any]) -> None:
    """At once where the node is stopped by request, otherwise when another process of it registers."""
    controller = await start(settings(database))
    host, second = FakeProcess([1, 3, 4], 7), FakeProcess([2], 8)
    await ready_lab(controller, [host, second])
    async with operating(controller) as operator:
        stopped, lost = (
            await begin(operator, 1, 4, time_ms=60_000),
            await begin(operator, 2, 3, time_ms=60_000),
        )
        await second.until(lambda: bool(second.nodes[2].probes))
        await operator.request(m.NodeFault((1,), "kill"))
        found = await ended(operator, stopped)
        assert (found.state, found.reason) == ("failed", "node 1 was stopped meanwhile")
        await second.die()
        again = FakeProcess([2], 9)
        again.others[3] = host
        await again.join(url(controller))
        found = await ended(operator, lost)
        assert (found.state, found.reason) == ("failed", "node 2 was started again meanwhile")


async def test_probes_of_one_link_run_one_after_the_other(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        first, second = await begin(operator, 1, 2), await begin(operator, 2, 1)
        elsewhere = await begin(operator, 3, 4)
        await host.until(lambda: bool(host.nodes[1].probes and host.nodes[3].probes))
        assert not host.nodes[2].probes, "the same link, in the other direction"
        await host.request(3, result(elsewhere, 4))
        assert (await ended(operator, elsewhere)).state == "finished"
        await host.request(1, result(first, error="the link to node 2 went down"))
        failed = await ended(operator, first)
        assert (failed.state, failed.reason) == ("failed", "the link to node 2 went down")
        assert (failed.capacity_bps, failed.loss) == (None, None)
        await host.until(lambda: bool(host.nodes[2].probes))
        await host.request(2, result(second, 1))
        assert (await ended(operator, second)).state == "finished"
        (event,) = await events(operator, "link.probe-failed")
        assert event.detail["reason"] == "the link to node 2 went down"

        waiting = [await begin(operator, 1, 2) for _ in range(1 + probes.MOST_WAITING)]
        with pytest.raises(PeerError) as caught:
            await begin(operator, 2, 1)
        assert caught.value.id == "probe.busy"
        with pytest.raises(PeerError) as caught:
            await ended(operator, waiting[-1], within_ms=1)
        assert caught.value.id == "probe.not-ended"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (m.StartProbe(1, 9), "node.unknown"),
        (m.StartProbe(1, 3), "link.unknown"),
        (m.StartProbe(1, 1), "link.unknown"),
        (m.StartProbe(1, 2, probe_bytes=9_999), "probe.invalid"),
        (m.StartProbe(1, 2, probe_bytes=2**63), "probe.invalid"),
        (m.StartProbe(1, 2, time_ms=99), "probe.invalid"),
        (m.StartProbe(1, 2, time_ms=60_001), "probe.invalid"),
        (m.StartProbe(2, 3), "probe.refused"),
        (m.StartProbe(3, 4), "probe.refused"),
        (m.GetProbe(2**63), "probe.unknown"),
        (m.WaitProbe(7, 1), "probe.unknown"),
    ],
)
async def test_bad_requests(start: Start, database: dict[str, Any], message: Any, error: str) -> None:
    controller = await start(settings(database))
    await ready_lab(controller, [FakeProcess(range(1, 5))])
    async with operating(controller) as operator:
        await operator.request(m.SetLinkState(2, 3, True, "both"))
        await operator.request(m.SetLinkState(3, 4, True, "forward"))
        with pytest.raises(PeerError) as caught:
            await operator.request(message)
        assert caught.value.id == error
        reply = await operator.request(m.GetProbes())
        assert isinstance(reply, m.ProbeList) and not reply.probes


async def test_probes_by_sql(start: Start, database: dict[str, Any]) -> None:
    """A row starts a probe, in our columns or in those of Nextmini; one that makes no sense is refused."""
    controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    async with sql(database) as person:
        insert = (
            "INSERT INTO probes (src_node_id, dst_node_id, time_ms) VALUES (1, 2, 500) RETURNING probe_id"
        )
        row = await (await person.execute(insert)).fetchone()
        assert row is not None
        await host.until(lambda: bool(host.nodes[1].probes))
        assert host.nodes[1].probes[0] == m.ProbeLink(2, row[0], 67_108_864, 500, False)
        await host.request(1, result(row[0]))
        await person.execute(
            "INSERT INTO probe_requests (from_node_id, to_node_id, probe_bytes) VALUES (2, 1, 50000)"
        )
        await host.until(lambda: bool(host.nodes[2].probes))
        order = host.nodes[2].probes[0]
        assert (order.probe_bytes, order.below) == (50_000, True)
        await host.request(2, result(order.probe_id, 1))
        columns = "from_node_id, to_node_id, bandwidth_mbps"
        await until(
            person, f"SELECT {columns} FROM probe_results ORDER BY probe_id", [(1, 2, 19.99), (2, 1, 19.99)]
        )
        await until(person, "SELECT DISTINCT state, origin FROM probes", [("finished", "sql")])

        # What SQL states as measured counts for nothing, whether the probe has ended or not.
        await person.execute(
            "INSERT INTO probes (src_node_id, dst_node_id, capacity_bps, packets_sent, finish_us, reason)"
            " VALUES (3, 4, -1, -1, -1, 'none')"
        )
        await host.until(lambda: bool(host.nodes[3].probes))
        async with operating(controller) as operator:
            listed = await operator.request(m.GetProbes(order.probe_id))
            assert isinstance(listed, m.ProbeList)
            (forged,) = listed.probes
            assert (forged.capacity_bps, forged.packets_sent, forged.finish_us) == (None, 0, None)
            await host.request(3, result(forged.id, 4, error="it went down"))
            found = await ended(operator, forged.id)
            assert (found.reason, found.capacity_bps, found.packets_sent) == ("it went down", None, 0)
        await person.execute("DELETE FROM probes WHERE src_node_id = 3")

        for statement, reason in (
            ("INSERT INTO probes (src_node_id, dst_node_id) VALUES (1, 9)", "there is no node 9"),
            ("INSERT INTO probes (src_node_id, dst_node_id) VALUES (1, 3)", "no link between 1 and 3"),
            ("INSERT INTO probes (src_node_id, dst_node_id) VALUES (1, 1)", "no link between 1 and 1"),
            ("INSERT INTO probes (src_node_id, dst_node_id, time_ms) VALUES (1, 2, 1)", "probes_take_100_ms"),
            (
                "INSERT INTO probe_requests (from_node_id, to_node_id, probe_bytes) VALUES (1, 2, 1)",
                "probes_have_10_kb",
            ),
            ("UPDATE probes SET capacity_bps = 1", "a probe cannot be changed"),
        ):
            with pytest.raises(psycopg.Error, match=reason):
                await person.execute(statement)


async def until(person: psycopg.AsyncConnection, query: str, expected: list[tuple[Any, ...]]) -> None:
    async with asyncio.timeout(10):
        while await (await person.execute(query.encode())).fetchall() != expected:  # noqa: ASYNC110  # a database
            await asyncio.sleep(0.02)


async def test_nodes_that_do_not_report_and_controllers_that_end(
    start: Start, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "GRACE_S", 0.1)
    controller: Controller = await start(settings(database))
    host = FakeProcess(range(1, 5))
    await ready_lab(controller, [host])
    async with operating(controller) as operator:
        silent = await ended(operator, await begin(operator, 1, 2, time_ms=100))
        assert silent.reason == "node 1 has not reported a result within 0.2 s; it is ready"
        host.refuse = lambda message: isinstance(message, m.ProbeLink)
        refused = await ended(operator, await begin(operator, 1, 2))
        assert (refused.state, refused.reason) == ("failed", "it cannot")
        host.refuse = lambda message: False
        running, waiting = await begin(operator, 1, 2, time_ms=60_000), await begin(operator, 1, 2)
    await controller.stop()
    await host.die()

    host.nodes[1].probes.clear()
    controller = await start(settings(database))
    await ready_lab(controller, [host])
    await host.until(lambda: [each.probe_id for each in host.nodes[1].probes] == [waiting])
    async with operating(controller) as operator:
        await host.request(1, result(waiting))
        assert (await ended(operator, running)).reason == "the controller was started again meanwhile"
        assert (await ended(operator, waiting)).state == "finished"
