"""Test kills of the controller and Postgres at critical moments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller.service import Controller
from orchestrator.impairment import LinkSpec
from orchestrator.protocol import PeerError
from orchestrator.protocol import messages as m
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.lab import read_links
from orchestrator.transport import Connection, connect

from .conftest import Start
from .fakes import OPERATOR_TOKEN, FakeAgent, FakeProcess, ready_lab, settings, url

pytestmark = pytest.mark.integration

Database = dict[str, Any]
QUIET = ("NodeSettings", "TopologyReady")
"""What a node hears after a reconnect when nothing changed."""


async def test_a_controller_that_comes_back_disturbs_nobody(start: Start, database: Database) -> None:
    controller = await start(settings(database, 4))
    host, other = FakeProcess([1, 2], 7), FakeProcess([3, 4], 8)
    await ready_lab(controller, [host, other])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=5)), within=10)
    await host.request(1, m.CreateGroup("weights"))
    await other.request(3, m.JoinGroup(1))
    await host.request(1, m.SetGroupRoutes(1, ((1, 4), (4, 3))))
    await other.until(
        lambda: other.nodes[4].trees[1].routes[0].next_hops == (3,) if other.nodes[4].trees else False
    )
    await host.until(lambda: host.nodes[1].trees[1].routes[0].next_hops == (4,) and not host.nodes[2].trees)
    await controller.stop()
    await host.die()
    await other.die()
    for process in (host, other):
        process.received.clear()
        for node in process.nodes.values():
            node.ready = False
    controller = await start(settings(database, 4))
    # The other way round, and one after the other: nothing may depend on the order.
    await ready_lab(controller, [other, host])
    assert set(host.received) == set(QUIET)
    assert set(other.received) == {*QUIET, "MemberChanged"}, "node 3 is told again that it is a member"
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    shown = await asking.request(m.GetStatus())
    assert isinstance(shown, m.Status)
    assert (shown.state, shown.incarnation) == ("ready", 2)
    assert shown.links[0].forward == LinkSpec(delay_us=5)
    [group] = shown.groups
    assert (group.members, group.trees) == ((3,), {0: ((1, 4), (4, 3))})


async def test_a_node_that_died_with_the_controller_is_told_everything(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 3))
    host, mortal = FakeProcess([1, 2], 7), FakeProcess([3], 8)
    await ready_lab(controller, [host, mortal])
    await controller.stop()
    await host.die()
    await mortal.die()
    mortal.forget()
    controller = await start(settings(database, 3))
    await ready_lab(controller, [host, mortal])
    assert host.nodes[1].links[3].remote_process == mortal.process
    assert mortal.nodes[3].hop(1) == 1


async def test_kill_9_in_the_middle_of_everything(database: Database, tmp_path: Path) -> None:
    """The real process, killed while groups are made and a run is under way; agents and nodes reconnect."""
    file = tmp_path / "controller.toml"
    file.write_text(toml(database, 3))
    async with Killable(file) as first:
        host = FakeProcess([1, 2, 3], 7)
        await host.join(first.url)
        await host.until(lambda: all(node.ready for node in host.nodes.values()))
        for number in range(1, 6):
            await host.request(1, m.CreateGroup(f"group {number}"))
            await host.request(2, m.JoinGroup(number))
        released = asyncio.Event()

        async def play(agent: FakeAgent, role: m.RunRole) -> None:
            await agent.barrier(role, "before")
            await released.wait()
            await agent.say(m.RoleReport(role.run, role.node, role.role, 1, {"n": role.node}), role.node)

        agent = FakeAgent([1, 2, 3], play)
        await agent.join(first.url)
        watching = await connect(first.url, OPERATOR_TOKEN, "operator")
        wanted = m.StartRun(
            "r1", "hello", {"trainer": (1,), "worker": (2, 3)}, {"roles.py": b"x"}, {}, 7, 30.0
        )
        await watching.request(wanted)
        seen = await events_until(watching, lambda events: any(e.kind == "barrier" for e in events))
        os.kill(first.pid, signal.SIGKILL)
        await host.die()
        await agent.die()
    async with Killable(file) as second:
        await host.join(second.url)
        await agent.join(second.url)
        assert host.connection is not None
        await host.until(lambda: host.received["TopologyReady"] >= 2)
        watching = await connect(second.url, OPERATOR_TOKEN, "operator")
        shown = await watching.request(m.GetStatus())
        assert isinstance(shown, m.Status) and shown.incarnation == 2
        assert [(group.label, group.members) for group in shown.groups] == [
            (f"group {n}", (2,)) for n in range(1, 6)
        ]
        await watching.request(m.WatchRun("r1", max(event.seq for event in seen)))
        released.set()
        more, finished = await events_until_finished(watching)
        assert finished.ok, finished
        rows = [event.data for event in more if event.kind == "report"]
        assert sorted(row["n"] for row in rows) == [1, 2, 3]
        assert [event.seq for event in [*seen, *more]] == list(range(1, len(seen) + len(more) + 1))


async def test_roles_that_wait_when_the_controller_dies_are_not_forgotten(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    go = asyncio.Event()

    async def play(agent: FakeAgent, role: m.RunRole) -> None:
        if role.role == "late":
            await go.wait()
            await agent.say(m.Publish(role.run, role.node, "key", [1, 2]))
            await agent.barrier(role, "end")
        else:
            assert await agent.lookup(role, "key") == [1, 2]
            await agent.barrier(role, "end")

    agent = FakeAgent([1, 2], play)
    await agent.join(url(controller))
    watching = await connect(url(controller), OPERATOR_TOKEN, "operator")
    roles = {"early": (1,), "late": (2,)}
    await watching.request(m.StartRun("r1", "hello", roles, {}, {}, 7, 30.0))
    await events_until(watching, lambda events: [e.kind for e in events].count("role_started") == 2)
    await controller.stop()
    await agent.die()
    await host.die()
    controller = await start(settings(database, 2))
    await agent.join(url(controller))
    go.set()
    watching = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await watching.request(m.WatchRun("r1"))
    _, finished = await events_until_finished(watching)
    assert finished.ok, finished


async def test_postgres_dies_and_the_lab_goes_on(
    start: Start, postgres: EmbeddedPostgres, database: Database
) -> None:
    controller = await start(settings(database, 3))
    host = FakeProcess([1, 2, 3], 7)
    await ready_lab(controller, [host])
    await host.request(1, m.CreateGroup("before"))
    os.kill(postgres.pid, signal.SIGKILL)
    made = asyncio.create_task(host.request(1, m.CreateGroup("meanwhile")))
    joined = asyncio.create_task(host.request(3, m.JoinGroup(2)))
    await host.until(lambda: 2 in host.nodes[3].trees)
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await eventually(lambda: "Postgres" in "".join(controller.core.problems()))
    shown = await asking.request(m.GetStatus())
    assert isinstance(shown, m.Status) and shown.health == "degraded" and "Postgres" in shown.problems[0]
    assert not made.done() and not joined.done()  # nobody is told of what a killed controller would not know
    await asyncio.to_thread(postgres.start)
    assert (await made)["group_id"] == 2
    await joined
    await eventually(lambda: not controller.core.problems())
    assert controller.core.state() == "ready"
    await controller.stop()
    await host.die()
    controller = await start(settings(database, 3))
    assert [(group.label, group.members) for group in controller.core.lab.groups] == [
        ("before", set()),
        ("meanwhile", {3}),
    ]


async def test_a_command_is_not_confirmed_while_postgres_is_away(
    start: Start, postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.controller.link_changes.STORE_LIMIT", 0.3)
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    asking = await connect(url(controller), OPERATOR_TOKEN, "operator")
    os.kill(postgres.pid, signal.SIGKILL)
    await eventually(lambda: _away(controller))
    with pytest.raises(PeerError) as caught:
        await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=5)), within=10)
    assert caught.value.id == "link.not-stored"
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: not controller.core.problems())
    monkeypatch.undo()
    await asking.request(m.SetLinkSpec(1, 2, spec=LinkSpec(delay_us=6)), within=10)
    async with controller.core.store._connection() as connection:
        [link] = await read_links(connection)
    assert link.forward_now == LinkSpec(delay_us=6)


async def test_a_group_is_confirmed_when_it_is_stored_though_postgres_and_controller_are_killed(
    postgres: EmbeddedPostgres, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "controller.toml"
    file.write_text(toml(database, 2))
    async with Killable(file) as first:
        host = FakeProcess([1, 2], 7)
        await ready_lab_at(first.url, host)
        await host.request(1, m.CreateGroup("before"))
        os.kill(postgres.pid, signal.SIGKILL)
        made = asyncio.create_task(host.request(1, m.CreateGroup("meanwhile")))
        joined = asyncio.create_task(host.request(2, m.JoinGroup(2)))
        await host.until(lambda: 2 in host.nodes[2].trees)  # it is in force
        done, _ = await asyncio.wait([made, joined], timeout=0.3)
        assert not done and host.received["GroupCreated"] == 1 and not host.nodes[2].members
        os.kill(first.pid, signal.SIGKILL)
        for answer in await asyncio.gather(made, joined, return_exceptions=True):
            assert isinstance(answer, Exception)  # a node repeats it on its next connection
        await host.die()
    await asyncio.to_thread(postgres.start)
    async with Killable(file) as second:
        await host.join(second.url)
        assert (await host.request(1, m.CreateGroup("meanwhile")))["group_id"] == 2
        await host.request(2, m.JoinGroup(2))
        os.kill(second.pid, signal.SIGKILL)
        await host.die()
    async with Killable(file) as third:
        asking = await connect(third.url, OPERATOR_TOKEN, "operator")
        shown = await asking.request(m.GetStatus(), within=10)
        assert isinstance(shown, m.Status)
        assert [(g.label, g.members) for g in shown.groups] == [("before", ()), ("meanwhile", (2,))]


async def test_a_change_of_a_group_that_postgres_does_not_take_in_time_is_refused_by_name(
    start: Start, postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.controller.node_handler.STORE_LIMIT", 0.2)
    controller = await start(settings(database, 2))
    host = FakeProcess([1, 2], 7)
    await ready_lab(controller, [host])
    os.kill(postgres.pid, signal.SIGKILL)
    await eventually(lambda: _away(controller))
    for message in (m.CreateGroup("a"), m.JoinGroup(1), m.SetGroupRoutes(1, ((1, 2),)), m.LeaveGroup(1)):
        with pytest.raises(PeerError) as caught:
            await host.request(1 if isinstance(message, m.CreateGroup) else 2, message)
        assert caught.value.id == "group.not-stored"
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: not controller.core.problems())
    monkeypatch.undo()
    assert (await host.request(1, m.CreateGroup("a")))["group_id"] == 1


def _away(controller: Controller) -> bool:
    """Whether the store has noticed; something has to be written for that."""
    controller.core.events.add("test.ping")
    return bool(controller.core.problems())


async def test_rows_reported_while_postgres_is_away_are_acknowledged_when_they_are_stored(
    start: Start, postgres: EmbeddedPostgres, database: Database
) -> None:
    """Else they would be lost with a controller that is killed before Postgres is back."""
    controller = await start(settings(database, 1))
    host = FakeProcess([1], 7)
    await ready_lab(controller, [host])
    go, said = asyncio.Event(), asyncio.Event()

    async def play(agent: FakeAgent, role: m.RunRole) -> None:
        await go.wait()
        said.set()
        await agent.say(m.RoleReport(role.run, 1, role.role, 1, {"n": 1}), 1)

    agent = FakeAgent([1], play)
    await agent.join(url(controller))
    watching = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await watching.request(m.StartRun("r1", "hello", {"a": (1,)}, {}, {}, 7, 60.0), within=10)
    os.kill(postgres.pid, signal.SIGKILL)
    await eventually(lambda: _away(controller))
    go.set()
    await said.wait()
    asking = asyncio.create_task(agent.connection.request(m.RoleReport("r1", 1, "a", 2, {"n": 2}), node=1))  # type: ignore[union-attr]
    done, _ = await asyncio.wait([asking], timeout=0.5)
    assert not done
    await asyncio.to_thread(postgres.start)
    assert isinstance(await asyncio.wait_for(asking, 20), m.Ack)
    rows = [event[5] for event in await controller.core.store.run_events("r1", 0) if event[2] == "report"]
    assert {"n": 2} in rows


async def test_a_watcher_that_comes_late_is_given_the_old_events_from_postgres(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.controller.event_streams.KEEP_BYTES", 2000)
    controller = await start(settings(database, 1))
    host = FakeProcess([1], 7)
    await ready_lab(controller, [host])

    async def play(agent: FakeAgent, role: m.RunRole) -> None:
        for number in range(1, 301):
            agent.connection.send_nowait(m.RoleReport(role.run, 1, role.role, number, {"n": number}), node=1)  # type: ignore[union-attr]
        await agent.say(m.RoleReport(role.run, 1, role.role, 301, {"n": 301}), 1)

    agent = FakeAgent([1], play)
    await agent.join(url(controller))
    first = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await first.request(m.StartRun("r1", "hello", {"a": (1,)}, {}, {}, 7, 60.0), within=10)
    seen, finished = await events_until_finished(first)
    late = await connect(url(controller), OPERATOR_TOKEN, "operator")
    await late.request(m.WatchRun("r1", 5), within=10)
    again, ended = await events_until_finished(late)
    assert again == seen[5:] and ended == finished and finished.ok
    assert [event.data["n"] for event in seen if event.kind == "report"] == list(range(1, 302))


async def test_a_wall_clock_that_is_set_neither_ends_nor_prolongs_a_run(
    start: Start, database: Database
) -> None:
    controller = await start(settings(database, 1))
    before = controller.core.now_ms()
    wall = controller.core.clock.wall
    controller.core.clock.wall = lambda: wall() + 86_400  # type: ignore[method-assign]
    assert controller.core.now_ms() - before < 60_000


async def test_a_clean_stop_says_so_and_exits_with_0(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    file.write_text(toml(database, 2))
    async with Killable(file) as running:
        os.kill(running.pid, signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
        assert running.process.stderr is not None
        assert b"info  controller stopped  lab=ring" in await running.process.stderr.read()


async def test_without_postgres_it_waits_says_so_and_gives_up(tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    nowhere = {"host": str(tmp_path), "database": "x"}
    file.write_text("ready_timeout_ms = 1500\n" + toml(nowhere, 2))
    process = await spawn(str(file))
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 5
    assert b"waiting for postgres" in said and b"Postgres did not answer within 1.5 s" in said


async def test_a_file_with_a_typo_ends_with_2_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    file.write_text('lab = "x"\nnode_tokn = "y"\n')
    process = await spawn(str(file))
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2 and f"{file}:2".encode() in said


class Killable:
    """The controller as a process of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def __aenter__(self) -> Killable:
        self.process = await spawn(str(self.file))
        self.pid = self.process.pid
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            line = (await self.process.stderr.readline()).decode()
        assert "controller listening" in line, line
        self.url = "ws://" + line.partition("address=")[2].split()[0] + "/control"
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrator.controller",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


async def ready_lab_at(address: str, process: FakeProcess) -> None:
    await process.join(address)
    await process.until(lambda: all(node.ready for node in process.nodes.values()))


def toml(database: Database, n: int) -> str:
    nodes = "".join(f'[[nodes]]\nnode_id = {i}\nname = "node-{i}"\n' for i in range(1, n + 1))
    links = "".join(f"[[links]]\na = {i}\nb = {i + 1}\n" for i in range(1, n))
    return (
        'lab = "ring"\nnode_key = "node-key"\noperator_token = "operator-token"\n'
        'link_secret = "link-secret"\nport = 0\n'
        f'[db]\nhost = "{database["host"]}"\nuser = "nm"\ndatabase = "{database["database"]}"\n'
        f"[topology]\nn_nodes = {n}\n{nodes}{links}"
    )


async def run_messages(connection: Connection) -> AsyncIterator[m.RunEvent | m.RunFinished]:
    async with asyncio.timeout(20):
        async for frame in connection:
            if isinstance(frame.message, m.RunEvent | m.RunFinished):
                yield frame.message


async def events_until(
    connection: Connection, enough: Callable[[list[m.RunEvent]], bool]
) -> list[m.RunEvent]:
    seen: list[m.RunEvent] = []
    async for message in run_messages(connection):
        assert isinstance(message, m.RunEvent), message
        seen.append(message)
        if enough(seen):
            break
    return seen


async def events_until_finished(connection: Connection) -> tuple[list[m.RunEvent], m.RunFinished]:
    seen: list[m.RunEvent] = []
    async for message in run_messages(connection):
        if isinstance(message, m.RunFinished):
            return seen, message
        seen.append(message)
    raise AssertionError("the connection ended before the run did")


async def eventually(condition: Callable[[], bool], within: float = 15.0) -> None:
    """Wait for what the background brings about; there is no event to wait for."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # polls on purpose, see above
            await asyncio.sleep(0.02)
