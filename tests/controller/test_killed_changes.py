"""Test kills of the controller and of Postgres amid changes: applied once or not at all, and said."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.impairment import PLAIN, LinkSpec
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import RouteEntry
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.transport import connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeProcess, ready_lab, settings, url
from .test_restart import Killable, ready_lab_at, toml

pytestmark = pytest.mark.integration

Database = dict[str, Any]
WAYS = (((1, 2), (2, 3)), ((1, 4), (4, 3)))
SPECS = (PLAIN, LinkSpec(delay_us=5_000))


def changes(way: int) -> dict[str, m.Message]:
    """Change a route, the tree of a group, a link and the flows all at once."""
    return {
        "route": m.ChangeRoute(1, edges=WAYS[way]),
        "tree": m.SetGroupTrees(1, (m.Tree(0, WAYS[way]),)),
        "link": m.SetLinkSpec(1, 2, spec=SPECS[way]),
        "flows": m.StartFlows((m.FlowRequest(1, 3, 5), m.FlowRequest(1, 3, 5))),
    }


async def states(address: str) -> dict[str, Any]:
    """What each of these changes is about, as the controller says."""
    async with await connect(address, OPERATOR_TOKEN, "operator") as asking:
        routes = await asking.request(m.GetExplicitRoutes(), within=10)
        status = await asking.request(m.GetStatus(), within=10)
        flows = await asking.request(m.GetFlows(), within=10)
    assert isinstance(routes, m.Ack) and isinstance(status, m.Status) and isinstance(flows, m.FlowList)
    (route,) = routes.value
    spec = next(link.forward for link in status.links if (link.a, link.b) == (1, 2))
    return {
        "route": WAYS.index(tuple(tuple(edge) for edge in route["edges"])),
        "tree": WAYS.index(status.groups[0].trees[0]),
        "link": SPECS.index(spec),
        "flows": len(flows.flows),
    }


async def test_a_controller_that_is_killed_in_the_middle_of_changes_has_made_each_of_them_or_not(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.toml"
    file.write_text(
        toml(database, 4)
        + "[[links]]\na = 1\nb = 4\n[[routes]]\nsrc = 1\ndst = 3\nedges = [[1, 2], [2, 3]]\n"
    )
    host = FakeProcess([1, 2, 3, 4], 7)
    allowed = {key: {0} for key in ("route", "tree", "link", "flows")}
    for moment in ("in force at a node", "acknowledged", "end"):
        async with Killable(file) as running:
            await ready_lab_at(running.url, host)
            if not host.nodes[1].trees:
                await host.request(1, m.CreateGroup("weights"))
                await host.request(3, m.JoinGroup(1))
                await host.request(1, m.SetGroupRoutes(1, WAYS[0]))
            found = await states(running.url)
            assert all(found[what] in each for what, each in allowed.items()), (found, allowed)
            hop = WAYS[found["route"]][0][1]  # the nodes have what the controller says
            await host.until(lambda hop=hop: host.nodes[1].explicit[1].next_hops == (hop,))  # type: ignore[misc]  # a default binds the loop's variable
            if moment == "end":
                break
            way = 1 - found["route"]
            wanted = {"route": way, "tree": way, "link": way, "flows": found["flows"] + 2}
            asking = await connect(running.url, OPERATOR_TOKEN, "operator")
            host.received.clear()
            asked = {
                what: asyncio.create_task(asking.request(each, within=20))
                for what, each in changes(way).items()
            }
            if moment == "acknowledged":
                await asyncio.gather(*asked.values())
            else:
                await host.until(lambda: host.received["InstallRoutes"] > 0)
            os.kill(running.pid, signal.SIGKILL)
            answers = await asyncio.gather(*asked.values(), return_exceptions=True)
            await asking.close(grace=0)
            await host.die()
        for what, answer in zip(asked, answers, strict=True):
            made = isinstance(answer, m.Ack)
            assert made or moment != "acknowledged"
            allowed[what] = {wanted[what]} if made else {found[what], wanted[what]}


async def test_changes_while_postgres_is_killed_are_made_when_it_is_back_or_refused_by_name(
    start: Start, postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("link_changes", "route_requests", "group_requests"):
        # Whoever waits is told in time; here Postgres is back before, however slow the machine is.
        monkeypatch.setattr(f"orchestrator.controller.{module}.STORE_LIMIT", 30.0)
    file = settings(database, 4, routes=(RouteEntry(src=1, dst=3, edges=WAYS[0]),))
    controller = await start(file)
    host = FakeProcess([1, 2, 3, 4], 7)
    await ready_lab(controller, [host])
    await host.request(1, m.CreateGroup("weights"))
    await host.request(3, m.JoinGroup(1))
    await host.request(1, m.SetGroupRoutes(1, WAYS[0]))
    async with await connect(url(controller), OPERATOR_TOKEN, "operator") as asking:
        os.kill(postgres.pid, signal.SIGKILL)
        asked = {
            what: asyncio.create_task(asking.request(each, within=20)) for what, each in changes(1).items()
        }
        asked["new route"] = asyncio.create_task(asking.request(m.AddRoute(1, 3, edges=WAYS[0]), within=20))
        asked["new pin"] = asyncio.create_task(asking.request(m.AddPin(1), within=20))
        await host.until(lambda: host.nodes[1].explicit[1].next_hops == (4,))  # it is in force
        for what in ("flows", "new route", "new pin"):  # which Postgres has to number: not at all
            with pytest.raises(PeerError) as caught:
                await asked.pop(what)
            assert caught.value.id == "store.unreachable", what
        assert not any(task.done() for task in asked.values())
        await asyncio.to_thread(postgres.start)
        assert all(isinstance(answer, m.Ack) for answer in await asyncio.gather(*asked.values()))
    await controller.stop()
    await host.die()
    controller = await start(file)
    assert await states(url(controller)) == {"route": 1, "tree": 1, "link": 1, "flows": 0}
    assert not controller.core.lab.explicit.pins
