"""Test a thousand nodes: time, and the number of messages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from orchestrator.protocol import messages as m

from .conftest import Start
from .fakes import FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

N = 1000
LIMIT = 30.0
"""Seconds, on a machine that is busy with something else; alone it takes about one."""


async def test_a_thousand_nodes_in_one_process(start: Start, database: dict[str, Any]) -> None:
    controller = await start(settings(database, N))
    host = FakeProcess(range(1, N + 1), 7)
    began = time.monotonic()
    await ready_lab(controller, [host])
    assert time.monotonic() - began < LIMIT
    assert host.received == {
        "NodeSettings": N,
        "InstallGroupDirectory": N,
        "InstallRoutes": N,
        "AddNode": 2 * N,
        "TopologyReady": 1,
    }
    host.received.clear()
    began = time.monotonic()
    await host.request(1, m.CreateGroup("all"))
    await asyncio.gather(*(host.request(node, m.JoinGroup(1)) for node in range(2, N + 1)))
    await host.until(lambda: all(node.trees for node in host.nodes.values()), LIMIT)
    assert time.monotonic() - began < LIMIT
    assert host.received["InstallGroupDirectory"] == 1
    assert host.received["MemberChanged"] == 2 * (N - 1)
    assert host.received["InstallGroupRoutes"] < 20 * N


async def test_hundreds_of_processes_and_half_of_them_die(start: Start, database: dict[str, Any]) -> None:
    n = 300  # the fakes of all of them share one core here
    controller = await start(settings(database, n))
    processes = [FakeProcess([node], node) for node in range(1, n + 1)]
    began = time.monotonic()
    await asyncio.gather(*(process.join(url(controller)) for process in processes))
    await all_ready(processes)
    assert time.monotonic() - began < LIMIT
    staying, dying = processes[: n // 2], processes[n // 2 :]
    await asyncio.gather(*(process.die() for process in dying))
    away = dict.fromkeys(range(n // 2 + 1, n + 1), "unreachable")
    await staying[0].until(lambda: staying[0].nodes[1].states == away, LIMIT)
    await staying[0].until(lambda: staying[0].nodes[1].hop(n) == 0, LIMIT)
    for process in dying:
        process.forget()
    began = time.monotonic()
    await asyncio.gather(*(process.join(url(controller)) for process in dying))
    await all_ready(dying)
    assert time.monotonic() - began < LIMIT
    await staying[0].until(lambda: staying[0].nodes[1].hop(n) == n, LIMIT)
    await asyncio.gather(*(process.die() for process in processes))


async def all_ready(processes: list[FakeProcess]) -> None:
    for process in processes:
        await process.until(lambda p=process: all(node.ready for node in p.nodes.values()), LIMIT)  # type: ignore[misc]  # a default binds the loop's variable
