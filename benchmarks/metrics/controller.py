"""Measure what the reports of many nodes cost a controller: its CPU time, and the rows in Postgres.

A controller runs in a process of its own, with a Postgres server. The nodes are a fake process of nodes
without packets, on one connection, as the nodes of a native lab are. In each round the controller is idle for
some seconds, then every node reports once a second; the difference of both is the cost.

What a node of the ring reports changes each second: both of its links, and a TCP flow of a program with both
of its directions. A tenth of the nodes report every 100 ms, as a process with a thousand nodes does.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Channel
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.errors import BenchmarkError
from orchestrator.controller.service import Controller
from orchestrator.protocol import Frame, Role, encode, node_token
from orchestrator.protocol import messages as m
from orchestrator.settings.controller import ControllerSettings, DatabaseSettings, LinkEntry, NodeEntry
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.transport import Connection, connect

__all__ = ["Round", "measure", "report"]

KEY, TOKEN = "benchmark", "benchmark"
PROCESS = 7
TICKS = 10
"""Parts of a second in which a part of the nodes reports."""

START_S = 60.0
"""Seconds that the controller has to start, and the nodes to be ready."""

_SIZES = ("node_metrics", "flows", "route_changes")


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        idle_cores: CPU seconds of the controller per second, without reports.
        busy_cores: The same with them.
        row_bytes: Bytes per second by which the tables grew, with their indexes.
        reports: Reports that Postgres has of this round.
        late_s: Seconds that the last report was sent too late.
    """

    idle_cores: float
    busy_cores: float
    row_bytes: float
    reports: int
    late_s: float

    @property
    def cores(self) -> float:
        """CPU seconds per second that the reports cost."""
        return self.busy_cores - self.idle_cores


def measure(nodes: int, rounds: int, seconds: int, told: Callable[[str], None]) -> list[Round]:
    """Run the rounds.

    Raises:
        BenchmarkError: Something did not start, or reports were lost.
    """
    with tempfile.TemporaryDirectory(prefix="nmbench-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        with EmbeddedPostgres(Path(folder) / "db") as postgres:
            settings = _settings(nodes, postgres.parameters)
            with _controller(settings) as (channel, address):
                return asyncio.run(_rounds(address, channel, postgres.dsn, nodes, rounds, seconds, told))


def report(node: int, nodes: int, second: int, start_ms: int) -> m.Metrics:
    """Return what a node of the ring reports in a second; all of its counters have grown."""
    packets, size = 1_000 * second, 1_500_000 * second
    right = (_next(node, nodes), packets, size, packets, size, 3, 4_500)
    left = (_next(node, nodes, -1), packets, size, packets, size, 0, 0)
    flow, back = node.to_bytes(16, "big"), node.to_bytes(16, "little")
    target = _next(node, nodes, nodes // 2)
    numbers = (target, start_ms * 1000, 0, packets, size, packets // 2, packets * 26, 812, 0)
    name = f"tcp 10.0.{node >> 8}.{node & 255}:40000 > 10.0.{target >> 8}.{target & 255}:5201"
    return m.Metrics(
        start_ms + 1000 * second,
        (10 * second, packets, size, packets // 2, packets * 26, 0, 0),
        right + left,
        None,
        flow + back,
        (packets, size, packets // 2, packets * 26),
        m.AppFlowColumns(flow, (name,), numbers),
    )


def _next(node: int, nodes: int, step: int = 1) -> int:
    return (node - 1 + step) % nodes + 1


def _settings(nodes: int, database: dict[str, Any]) -> ControllerSettings:
    return ControllerSettings(
        lab="nmbench-metrics",
        node_key=KEY,
        operator_token=TOKEN,
        link_secret=KEY,
        seed=1,
        port=0,
        db=DatabaseSettings(**database),
        nodes=tuple(NodeEntry(node_id=node, name=f"node-{node}") for node in range(1, nodes + 1)),
        links=tuple(
            LinkEntry(a=min(pair), b=max(pair))
            for pair in ((node, _next(node, nodes)) for node in range(1, nodes + 1))
        ),
    )


@contextlib.contextmanager
def _controller(settings: ControllerSettings) -> Iterator[tuple[Channel, str]]:
    """Run a controller in a process of its own; yield what asks it for its CPU time, and the address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(settings, theirs), name="controller")
    process.start()
    theirs.close()
    try:
        try:
            if not ours.poll(START_S):
                raise BenchmarkError(f"the controller did not start within {START_S:g} s")
            host, port = ours.recv()
        except EOFError:
            raise BenchmarkError("the controller ended while it started") from None
        yield ours, f"ws://{host}:{port}/control"
    finally:
        ours.close()  # it ends then
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(settings: ControllerSettings, channel: Channel) -> None:
    async def run() -> None:
        controller = Controller(settings)
        await controller.start()
        channel.send(controller.address)
        ended = asyncio.Event()

        def asked() -> None:
            try:
                channel.recv()
            except EOFError:
                asyncio.get_running_loop().remove_reader(channel.fileno())
                ended.set()
            else:
                channel.send(time.process_time())

        asyncio.get_running_loop().add_reader(channel.fileno(), asked)
        await ended.wait()
        await controller.stop()

    asyncio.run(run())


async def _rounds(
    address: str,
    channel: Channel,
    dsn: str,
    nodes: int,
    rounds: int,
    seconds: int,
    told: Callable[[str], None],
) -> list[Round]:
    found: list[Round] = []
    async with _nodes(address, nodes) as connection:
        told(f"{nodes} nodes are ready")
        start_ms, second = round(time.time() * 1000), 0
        for number in range(rounds + 1):
            idle = await _idle_cores(channel, seconds)
            with psycopg.connect(dsn, autocommit=True) as sql:
                size, known = _size(sql), _count(sql)
                begin, cpu = time.monotonic(), await _cpu_seconds(channel)
                late = 0.0
                for each in range(second + 1, second + seconds + 1):
                    batches = _batches(nodes, each, start_ms)
                    for tick, batch in enumerate(batches):
                        due = begin + (each - second - 1) + tick / TICKS
                        await asyncio.sleep(max(0.0, due - time.monotonic()))
                        late = max(late, time.monotonic() - due)
                        for data in batch:
                            connection.send_encoded(data)
                second += seconds
                reports = await _written(sql, known, nodes * seconds)
                busy = (await _cpu_seconds(channel) - cpu) / seconds
                # What it is idle for after the last report counts as well: less than a second in a round.
                grown = (_size(sql) - size) / seconds
            entry = Round(idle, busy, grown, reports, late)
            told(f"round {number}: {entry.cores:.2%} of a core, {grown / 1e3:.0f} kB of rows a second")
            if number:  # the first one makes memory and code warm
                found.append(entry)
    return found


def _batches(nodes: int, second: int, start_ms: int) -> list[list[bytes]]:
    """Return the encoded reports of a second, by tick."""
    return [
        [
            encode(Frame(report(node, nodes, second, start_ms), node))
            for node in range(1 + tick, nodes + 1, TICKS)
        ]
        for tick in range(TICKS)
    ]


async def _cpu_seconds(channel: Channel) -> float:
    """Return the CPU time of the controller's process so far."""
    channel.send("cpu")
    return float(await asyncio.to_thread(channel.recv))


async def _idle_cores(channel: Channel, seconds: float) -> float:
    begin, cpu = time.monotonic(), await _cpu_seconds(channel)
    await asyncio.sleep(seconds)
    return (await _cpu_seconds(channel) - cpu) / (time.monotonic() - begin)


def _size(sql: psycopg.Connection[Any]) -> int:
    names = ", ".join(f"pg_total_relation_size('{name}')" for name in _SIZES)
    return sum(_row(sql, f"SELECT {names}"))


def _count(sql: psycopg.Connection[Any]) -> int:
    return int(_row(sql, "SELECT count(*) FROM node_metrics")[0])


def _row(sql: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row = sql.execute(statement.encode()).fetchone()
    assert row is not None, "it has one row"
    return tuple(row)


async def _written(sql: psycopg.Connection[Any], known: int, reports: int) -> int:
    """Wait until Postgres has so many reports more.

    Raises:
        BenchmarkError: Some were lost.
    """
    end = time.monotonic() + 20
    while (found := _count(sql) - known) < reports:
        if time.monotonic() > end:
            raise BenchmarkError(f"Postgres has {found} of {reports} reports")
        await asyncio.sleep(0.2)
    return found


@contextlib.asynccontextmanager
async def _nodes(address: str, nodes: int) -> AsyncIterator[Connection]:
    """Connect the nodes and wait until the lab is ready."""
    ready: set[int] = set()
    all_ready = asyncio.Event()
    connection = await connect(address, node_token(KEY, 1), Role.NODE, process=PROCESS, node=1)

    async def read() -> None:
        routed: set[int] = set()
        async for frame in connection:
            message = frame.message
            if isinstance(message, m.AddNode):
                connection.send_nowait(m.LinkState(message.remote_node_id, True), node=frame.node)
            connection.ack(frame)
            if isinstance(message, m.InstallRoutes) and frame.node not in routed:
                routed.add(frame.node)
                connection.send_nowait(m.NodeTopologyReady(), node=frame.node)
            elif isinstance(message, m.TopologyReady):
                ready.update({frame.node} if frame.node else range(1, nodes + 1))
                if len(ready) == nodes:
                    all_ready.set()

    reader = asyncio.create_task(read())
    try:
        for node in range(1, nodes + 1):
            hello = m.StartUp(
                private_network_name="lab",
                private_network_addr="127.0.0.1:9",
                process=PROCESS,
                token=node_token(KEY, node),
            )
            await connection.send(hello, node=node)
        try:
            async with asyncio.timeout(START_S):
                await all_ready.wait()
        except TimeoutError:
            raise BenchmarkError(f"{len(ready)} of {nodes} nodes were ready in {START_S:g} s") from None
        yield connection
    finally:
        await connection.close()
        reader.cancel()
