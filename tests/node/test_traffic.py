"""Test the generator of traffic on the loopback interface: rows, flows that do not end, ports in use."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from orchestrator.node import traffic, traffic_flows
from orchestrator.node.context import RoleError
from orchestrator.node.traffic import with_traffic
from orchestrator.node.traffic_flows import Sent, _Counter
from orchestrator.protocol.messages import FlowRequest, FlowStatus
from orchestrator.traffic import FILE, TrafficEntry, fixed, to_bytes


class Context:
    """What a generator uses of a role's context; the nodes are addresses of the loopback interface."""

    def __init__(self, node: int, values: defaultdict[str, asyncio.Future[Any]]) -> None:
        self.node, self.seed, self.interrupted = node, 1, None
        self.rows: list[Mapping[str, Any]] = []
        self._values = values

    def publish(self, key: str, value: Any) -> None:
        self._values[key].set_result(value)

    async def lookup_async(self, key: str, _limit: float | None = None) -> Any:
        return await asyncio.wait_for(asyncio.shield(self._values[key]), 10)

    def address(self, node: int) -> str:
        return f"127.0.0.{node}"

    def report_traffic(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number = sock.getsockname()[1]
    yield number


RunFlow = Callable[[int, FlowRequest], "Future[FlowStatus]"]


def no_flow(_node: int, _flow: FlowRequest) -> Future[FlowStatus]:
    raise AssertionError("sockets carry this traffic")


async def generate(
    *entries: TrafficEntry, timeout_s: float = 20.0, run_flow: RunFlow = no_flow
) -> list[Mapping[str, Any]]:
    """Generate the traffic of all nodes in this process; return the rows."""
    values = defaultdict(asyncio.get_running_loop().create_future)
    contexts = [Context(node, values) for node in sorted({n for entry in entries for n in entry.nodes})]
    files = {FILE: to_bytes(entries)}
    functions = with_traffic(None, files, timeout_s, run_flow)  # type: ignore[arg-type]  # no roles
    await asyncio.gather(*(functions.role("traffic")(context) for context in contexts))
    return [row for context in contexts for row in context.rows]


@pytest.mark.parametrize("kind", ["incast", "all-to-all", "request-response"])
async def test_all_bytes_of_kinds_with_rounds_arrive(kind: str, port: int) -> None:
    entry = TrafficEntry(
        name="r", kind=kind, pairs=((1, 3), (2, 3)), port=port, sizes=fixed(300_000), requests=3
    )
    rows = await generate(entry)
    assert len(rows) == 6
    assert {(row["state"], row["received"]) for row in rows} == {("complete", 300_000)}
    starts = {number: [row["start"] for row in rows if row["round"] == number] for number in (1, 2, 3)}
    if kind == "incast":
        assert max(starts[1]) < min(starts[2]) and max(starts[2]) < min(starts[3])


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_constant_bit_rate_is_kept(transport: str, port: int) -> None:
    entry = TrafficEntry(
        name="c",
        kind="cbr",
        pairs=((1, 2),),
        transport=transport,
        port=port,
        rate_bps=4e6,
        duration_s=0.5,
    )
    (row,) = await generate(entry)
    assert (row["state"], row["bytes"], row["received"]) == ("complete", 250_000, 250_000)
    assert 0.45 < row["seconds"] < 2.0


async def test_rows_are_in_the_order_of_what_was_planned(port: int) -> None:
    rows = await generate(
        TrafficEntry(name="z", kind="cbr", pairs=((1, 2),), port=port, rate_bps=1e6, duration_s=0.1),
        TrafficEntry(name="a", kind="cbr", pairs=((1, 2),), port=port + 1, rate_bps=1e6, duration_s=0.5),
    )
    assert [row["entry"] for row in rows] == ["a", "z"]  # `z` ended first


async def test_a_node_has_so_many_flows_open_at_once_and_others_wait(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MOST_OPEN", 2)
    open_now = most = 0

    async def transfer(*_: Any) -> Sent:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.05)
        open_now -= 1
        return Sent(10, 0.05)

    monkeypatch.setattr(traffic, "push", transfer)
    pairs = tuple((1, node) for node in range(2, 7))
    entry = TrafficEntry(name="r", kind="all-to-all", pairs=pairs, port=port, sizes=fixed(10), requests=2)
    rows = await generate(entry)
    assert most == 2 and len(rows) == 10
    for number in (1, 2):  # five flows, two at a time
        late = sorted(row["late"] or 0.0 for row in rows if row["round"] == number)
        assert late[0] < 0.05 and late[-1] >= 0.09


def test_a_datagram_that_arrives_twice_counts_once() -> None:
    arrived: dict[tuple[str, int], Any] = {}
    counter = _Counter(arrived)
    for index in (0, 1, 1, 5000, 0, 3, 5000):
        counter.datagram_received(struct.pack("!QQ", 7, index) + bytes(84), ("127.0.0.1", 9))
    counter.datagram_received(struct.pack("!QQ", 8, 1 << 40), ("127.0.0.1", 9))  # sent by something else
    assert {key: found.bytes for key, found in arrived.items()} == {("127.0.0.1", 7): 400}


async def test_flows_that_do_not_end_are_given_up_and_reported(port: int) -> None:
    entry = TrafficEntry(name="c", kind="cbr", pairs=((1, 2),), port=port, rate_bps=1e6, duration_s=60.0)
    before = time.monotonic()
    (row,) = await generate(entry, timeout_s=1.0)
    assert (row["state"], row["seconds"]) == ("unfinished", None)
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(("kind", "transport"), [("cbr", "tcp"), ("cbr", "udp"), ("request-response", "tcp")])
async def test_what_was_delivered_of_a_flow_that_is_given_up_counts(
    port: int, kind: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def half(writer: asyncio.StreamWriter, _size: int) -> None:
        writer.write(bytes(50_000))
        await writer.drain()
        await asyncio.sleep(60)

    monkeypatch.setattr(traffic_flows, "_write", half)
    shape: dict[str, Any] = (
        {"rate_bps": 1e6, "duration_s": 60.0} if kind == "cbr" else {"sizes": fixed(100_000), "requests": 1}
    )
    entry = TrafficEntry(name="c", kind=kind, pairs=((1, 2),), port=port, transport=transport, **shape)
    (row,) = await generate(entry, timeout_s=2.0)
    assert (row["state"], row["seconds"]) == ("unfinished", None)
    if kind == "cbr":  # 1 Mbit/s for about 1.8 s
        assert 100_000 < row["received"] < 260_000
    else:
        assert row["received"] == 50_000
    assert 1.0 < row["given_up_s"] < 2.0


async def test_a_port_in_use_is_an_error_that_names_entry_and_key() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        entry = TrafficEntry(
            name="busy",
            kind="incast",
            pairs=((1, 2),),
            port=taken.getsockname()[1],
            sizes=fixed(10),
            requests=1,
        )
        files = {FILE: to_bytes([entry])}
        functions = with_traffic(None, files, 5.0, no_flow)  # type: ignore[arg-type]  # no roles
        with pytest.raises(RoleError, match="`busy` cannot listen on port") as refused:
            await functions.role("traffic")(Context(1, defaultdict(asyncio.Future)))
    assert refused.value.hint == "`port` in the entry names another one"


@pytest.mark.parametrize("kind", ["incast", "all-to-all", "request-response"])
async def test_user_space_flows_have_the_rows_of_sockets(kind: str) -> None:
    """The dataplane is asked for each flow once, by the node that reports it; rounds follow each other."""
    asked: list[tuple[int, FlowRequest]] = []

    def run_flow(node: int, flow: FlowRequest) -> Future[FlowStatus]:
        future: Future[FlowStatus] = Future()
        asked.append((node, flow))
        begin = round(time.time() * 1e6)
        state, size = ("failed", 0) if flow.src == 2 else ("finished", flow.size_bytes or 0)
        where = (len(asked), flow.src, flow.dst, "tcp", "r")
        status = FlowStatus(*where, state, size, "timed out", start_us=begin, finish_us=begin + 250_000)
        asyncio.get_running_loop().call_later(0.01, future.set_result, status)
        return future

    pairs = ((1, 3), (2, 3))
    entry = TrafficEntry(name="r", kind=kind, pairs=pairs, transport="user", sizes=fixed(300_000), requests=3)
    rows = await generate(entry, run_flow=run_flow)
    reporting = {1, 2} if kind == "all-to-all" else {3}
    assert {node for node, _ in asked} == reporting and len(asked) == 6 == len(rows)
    assert {(flow.src, flow.dst, flow.size_bytes) for _, flow in asked} == {
        (*pair, 300_000) for pair in pairs
    }
    good, bad = ([row for row in rows if row["src"] == src] for src in (1, 2))
    assert {(row["state"], row["received"]) for row in good} == {("complete", 300_000)}
    # A flow of the first round has a due time, and may be asked for a little later.
    assert all(0.25 <= row["seconds"] < 0.5 for row in good)
    assert {(row["state"], row["error"]) for row in bad} == {("failed", "timed out")}
