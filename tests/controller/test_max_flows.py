"""Test that flows of nodes in max mode are stored as their nodes report them, and listed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.protocol import messages as m
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

START = 1_700_000_000_000_000
FLOW = m.MaxFlow(2**64 - 1, "socks5", "127.0.0.1:40000", "node-2:80", START)


async def test_a_flow_is_listed_from_its_begin_to_its_end(start: Start, database: dict[str, Any]) -> None:
    """Reports may be repeated and late; a node that is stopped leaves no running flow behind."""
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2])
    await ready_lab(controller, [host])
    async with await connect(url(controller), OPERATOR_TOKEN, "operator") as operator:

        async def listed(running: bool = False) -> list[m.MaxFlowStatus]:
            reply = await operator.request(m.GetMaxFlows(running))
            assert isinstance(reply, m.MaxFlowList)
            return list(reply.flows)

        begun = replace(FLOW, route=(1, 2))
        await host.request(1, m.MaxFlows((begun,)))
        await host.request(1, m.MaxFlows((replace(begun, bytes_out=10, bytes_in=2**40),)))
        (flow,) = await listed(running=True)
        assert (flow.node, flow.state, flow.route, flow.bytes_in) == (1, "running", (1, 2), 2**40)
        ended = replace(begun, bytes_out=11, bytes_in=2**41, finish_us=START + 1_500_000)
        await host.request(1, m.MaxFlows((ended,)))
        await host.request(1, m.MaxFlows((begun,)))  # repeated late: it stays as it ended
        (flow,) = await listed()
        assert (flow.state, flow.seconds, flow.bytes_out, flow.bytes_in) == ("finished", 1.5, 11, 2**41)
        assert await listed(running=True) == []

        refused = replace(FLOW, flow_id=7, start_us=START + 1, finish_us=START + 2, reason="refused")
        await host.request(2, m.MaxFlows((refused, replace(FLOW, flow_id=8, start_us=START + 2))))
        latest, second, _ = await listed()
        assert (second.state, second.reason, second.node) == ("failed", "refused", 2)
        assert latest.state == "running"
        await operator.request(m.NodeFault((2,), "stop"))
        (latest, *_) = await listed()
        assert (latest.state, latest.reason) == ("failed", "the node was stopped")
